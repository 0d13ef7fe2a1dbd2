"""Ways of writing numbers other than the English one, turned into the form that `numerals` reads.

A *form* is a decimal mark and the marks that part thousands. Under the form in use `1.234,56` may be 1234.56; a run of
digits and marks that the form does not allow has no value, so that it is never read as a wrong number.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import cached_property

NO_VALUE = "0/0"
"""Stands in a text for a number that cannot be told: it is found as a number, and has no value."""

_SPACES = " \u00a0\u2009\u202f"


@dataclass(frozen=True, eq=False)
class Form:
    """How numbers are written: `decimal` is one character, `groups` those that part thousands."""

    decimal: str
    groups: str

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """Matches a whole number written in this form with at least one of its marks."""
        group, decimal = f"[{re.escape(self.groups)}]", re.escape(self.decimal)
        return re.compile(rf"[0-9]{{1,3}}(?:{group}[0-9]{{3}})+(?:{decimal}[0-9]+)?|[0-9]+{decimal}[0-9]+")

    def english(self, written: str) -> str:
        """`written`, which matches the pattern, with a decimal point and no thousands marks."""
        bare = "".join(c for c in written if c not in self.groups or c == self.decimal)
        return bare.replace(self.decimal, ".")


ENGLISH = Form(".", ",")
_COMMA_AND_POINTS, _COMMA_AND_SPACES = Form(",", "."), Form(",", _SPACES)
_APOSTROPHES, _POINT_AND_SPACES = Form(".", "'’"), Form(".", _SPACES)
_FORMS = (_APOSTROPHES, _POINT_AND_SPACES, Form(".", "_"), Form(",", f".'’{_SPACES}"))
"""Those that a number may show by itself."""

_LANGUAGES = {
    "en ja ko zh th he hi ms es-mx es-us": ENGLISH,
    "de es it pt nl da id tr el ro hr sl sr vi is ca": _COMMA_AND_POINTS,
    "fr ru uk pl cs sk sv nb no fi hu bg et lv lt": _COMMA_AND_SPACES,
    "de-ch fr-ch it-ch de-li": _APOSTROPHES,
}
_BY_LANGUAGE = {tag: form for tags, form in _LANGUAGES.items() for tag in tags.split()}
LOCALES = tuple(_BY_LANGUAGE)
"""Language tags that are known; any other region goes by its language."""

_ENGLISH_NUMBER = re.compile(r"[0-9]{1,3}(?:,[0-9]{2,3})*,[0-9]{3}(?:\.[0-9]+)?|[0-9]+\.[0-9]+")
_CLEAR_POINT = re.compile(r"[0-9]+\.(?:[0-9]{1,2}|[0-9]{4,})")
# A mark between digits; spaces and apostrophes only before three digits, since 5'6 and "3 4" are two numbers.
_RUN = re.compile(
    r"(?<![0-9A-Za-z_.,'’])[0-9]+(?:(?:[.,][0-9]+|['’_ \u00a0\u2009\u202f][0-9]{3}(?![0-9/⁄]|-[A-Za-z]))+)",
)
_MARKED = re.compile(r"[.,'’_ \u00a0\u2009\u202f](?<=[0-9].)[0-9]")
"""The least that a run has."""

_FULL_WIDTH_COMMA = re.compile(r"(?<=[０-９])，(?=[０-９]{3}(?![０-９]))")
_MARKS = {
    **{ord(mark): f"{plain} " for mark, plain in zip("。！？，、", ".!?,,", strict=True)},
    **{ord("\u3000"): " ", ord("٫"): ".", ord("٬"): ",", ord("٪"): "%"},
}


class _AsciiForms(dict[int, str]):
    """A table for `str.translate` that is filled as characters are met."""

    def __missing__(self, code: int) -> str:
        digit = unicodedata.decimal(chr(code), None)
        full_width = chr(code - 0xFEE0) if 0xFF01 <= code <= 0xFF5E else None
        self[code] = form = chr(code) if digit is None and full_width is None else full_width or str(digit)
        return form


_ASCII_FORMS = _AsciiForms(_MARKS)


def form_of_locale(locale: str) -> Form | None:
    """The form of a language tag such as `de` or `fr_CA`; None when it is not known."""
    tag = locale.replace("_", "-").lower()
    return _BY_LANGUAGE.get(tag) or _BY_LANGUAGE.get(tag.partition("-")[0])


def ascii_digits(text: str) -> str:
    """`text` with the decimal digits of every script, and full-width letters and marks, as ASCII.

    >>> ascii_digits("答案是１２。"), ascii_digits("٣٫٥ or Ｃ")
    ('答案是12. ', '3.5 or C')
    """
    if text.isascii():
        return text
    return _FULL_WIDTH_COMMA.sub(",", text).translate(_ASCII_FORMS)


def in_english(text: str, form: Form = ENGLISH) -> str:
    """`text` with every number of `form` written in the English way, and `NO_VALUE` for what it does not allow.

    >>> in_english("1,234.5 and 3,5 and 1'234"), in_english("1.234,5 and 3,5 and 3.5", form_of_locale("de"))
    ('1,234.5 and 0/0 and 0/0', '1234.5 and 3.5 and 3.5')
    """
    if not _MARKED.search(text):
        return text
    return _RUN.sub(lambda run: _converted(run[0], form), text)


def own_form(text: str) -> Form | None:
    """The form in which the one number of `text` is written; None when that is the English one, or cannot be told.

    >>> own_form("3,5").decimal, own_form("1,234"), own_form("1'234").decimal
    (',', None, '.')
    """
    runs = _RUN.findall(text)
    if len(runs) != 1 or _converted(runs[0], ENGLISH) != NO_VALUE:
        return None
    return next((form for form in _FORMS if form.pattern.fullmatch(runs[0])), None)


def _converted(run: str, form: Form) -> str:
    if form is ENGLISH and _ENGLISH_NUMBER.fullmatch(run):
        return run
    if " " in run and not any(each.pattern.fullmatch(run) for each in _FORMS):
        return " ".join(_converted(part, form) for part in run.split(" "))
    if run.isdigit():
        return run
    if form is not ENGLISH and form.pattern.fullmatch(run):
        return form.english(run)
    if form is ENGLISH and _thin_spaced(run):
        return run
    return run if _CLEAR_POINT.fullmatch(run) else NO_VALUE


def _thin_spaced(run: str) -> bool:
    """Whether thousands are parted by spaces that break no line, as the SI has it: no reading but one."""
    return " " not in run and bool(_POINT_AND_SPACES.pattern.fullmatch(run))
