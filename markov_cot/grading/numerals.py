"""Numbers as people and models write them: found in text, written plainly, and valued exactly.

A *plain* number is one of `-12`, `3.50`, `1.5e3`, `1/2`, `-3 1/2`: no currency, no thousands separators, ASCII only.
Words that scale ("2 million") and percent signs are units, and units are ignored.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple
from unicodedata import normalize

MAX_DIGITS = 1000
"""Digits of a part, and size of an exponent, beyond which a string of digits is not taken for a number."""

_LONGEST = 100
"""Characters before a text's last run of digits that are read with it."""

# NFKC turns ½ into 1⁄2, with a fraction slash.
_VULGAR = {sign: normalize("NFKC", sign).replace("⁄", "/") for sign in "½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞"}
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+")
_SEPARATORS = str.maketrans("−–", "--", ",\u00a0\u2009\u202f")

# The repetitions are bounded: an unbounded one is quadratic on "1,11,11,11,...".
_BY_COMMAS = r"[0-9]{1,3}(?:,[0-9]{2,3}){0,9},[0-9]{3}(?![0-9])"
_BY_SPACES = r"[0-9]{1,3}(?:[\u00a0\u2009\u202f][0-9]{3}){1,9}(?![0-9])"
_WHOLE = rf"(?:{_BY_COMMAS}|{_BY_SPACES}|[0-9]+)"
_DECIMAL = rf"(?:{_WHOLE}(?:\.[0-9]+)?|\.[0-9]+)"
_NUMBER = re.compile(
    rf"""
    (?: (?<![0-9A-Za-z_)\]}}%^]) (?<![0-9][ ]) (?P<sign>[-+−–])           # 5-3, 5 -3 and GPT-4 hold no sign
      | (?: (?<==)|(?<=[=:≈][ ])|(?<=is[ ]) ) (?P<apart>[-−–])[ ]           # "= - 7" does
    )?
    (?: (?:\\?\$|[€£¥₹])[ ]?(?P<inner>[-−–])?
      | (?<![A-Za-z0-9_^]) | (?<=USD) | (?<=EUR) | (?<=GBP) | (?<=Rs) )     # H2O and m^2 hold no number
    (?:
        (?P<mixed>[0-9]+)?[ ]?\\[dt]?frac
            (?: \{{[ ]?(?P<above>[-−]?{_DECIMAL})[ ]?\}}[ ]?\{{[ ]?(?P<below>{_DECIMAL})[ ]?\}} | (?P<pair>[0-9]{{2}}) )
      | (?P<vulgar_whole>[0-9]+)?[ ]?(?P<vulgar>[{"".join(_VULGAR)}])
      | (?P<whole>[0-9]+)[ ](?P<numerator>[0-9]{{1,4}})[/⁄](?P<denominator>[0-9]{{1,4}})(?![0-9/⁄])
      | (?P<over>{_DECIMAL})[ ]?[/⁄][ ]?(?P<under>{_DECIMAL})(?![0-9]|[ ]?[/⁄][ ]?[0-9])
      | 10[ ]?(?:\^|\*\*)[ ]?\{{?(?P<power>[-+−]?[0-9]+)\}}?
      | 10(?P<super>[⁻⁺]?[⁰¹²³⁴⁵⁶⁷⁸⁹]+)
      | (?P<mantissa>{_DECIMAL})
        (?: [eE](?P<exponent>[-+−]?[0-9]+)(?![A-Za-z0-9_])
          | [ ]?(?:[×xX*·⋅]|\\times|\\cdot)[ ]?10
            (?: [ ]?(?:\^|\*\*)[ ]?\{{?(?P<times_power>[-+−]?[0-9]+)\}}? | (?P<times_super>[⁻⁺]?[⁰¹²³⁴⁵⁶⁷⁸⁹]+) )
        )?
    )
    """,
    re.VERBOSE,
)
# The engine skips to the next of a set of characters quickly; _NUMBER is only tried there.
_BEGINNING = re.compile(rf"[-+−–0-9.$€£¥₹\\{''.join(_VULGAR)}]")
_PLAIN = re.compile(
    r"(?P<sign>-?)(?:(?P<mixed>[0-9]+) )?(?P<above>[0-9]*(?:\.[0-9]+)?)"
    r"(?:/(?P<below>[0-9]*(?:\.[0-9]+)?)|e(?P<exponent>[-+]?[0-9]+))?"
)
_DIGITS = re.compile(rf"[0-9{''.join(_VULGAR)}]+")
_LATEX_SPACING = re.compile(r"\\[!;:]|\{,\}|\\,")


class Span(NamedTuple):
    """A number where it stands in a text."""

    start: int
    end: int
    match: re.Match[str]

    @property
    def plain(self) -> str:
        """The number as a plain one; written only when asked for, since most numbers are passed over."""
        return _plain(self.match)


def find_spans(text: str, start: int = 0, end: int | None = None) -> Iterator[Span]:
    """The numbers in `text[start:end]`, in order, with their places."""
    stop = len(text) if end is None else end
    while begin := _BEGINNING.search(text, start, stop):
        if match := _NUMBER.match(text, begin.start(), stop):
            yield Span(match.start(), match.end(), match)
        start = match.end() if match else begin.end()


def find_numbers(text: str, start: int = 0, end: int | None = None) -> Iterator[str]:
    r"""The plain numbers in `text[start:end]`, in order.

    >>> list(find_numbers("$70,000.50 less 5% of −3, H2O, 3 1/2, \\frac{1}{4} and 1.2 × 10^3"))
    ['70000.50', '5', '-3', '3 1/2', '1/4', '1.2e3']
    """
    return (span.plain for span in find_spans(text, start, end))


def last_spans(text: str) -> list[Span]:
    """The last number in `text` and some before it; reads no more than the text's end, and [] where there is none.

    >>> [span.plain for span in last_spans("3 hens lay 4 1/2 eggs")], last_spans("no idea")
    (['3', '4 1/2'], [])
    """
    digits = None
    for digits in _DIGITS.finditer(text):  # noqa: B007 - only the last one is wanted
        pass
    if digits is None:
        return []
    for start in (max(0, digits.start() - _LONGEST), 0):
        if spans := list(find_spans(text, start)):
            return spans
    return []


def blank_numbers(text: str) -> str:
    r"""`text` with every number replaced by a NUL character.

    >>> blank_numbers("$5 for 1/2 kg")
    '\x00 for \x00 kg'
    """
    return _NUMBER.sub("\0", text)


def tidy_latex(text: str) -> str:
    r"""`text` with LaTeX's thousands separators and spacing made ordinary: `70{,}000` and `70\,000` become `70,000`."""
    if "\\" not in text and "{,}" not in text:
        return text
    return _LATEX_SPACING.sub(lambda m: "," if m[0] in ("{,}", "\\,") else "", text)


@lru_cache(maxsize=256)
def parse_number(text: str) -> Fraction | None:
    r"""The exact value of the one number in `text`; None when it holds none, or several, or one of absurd size.

    >>> parse_number("$29.00"), parse_number("−7 degrees"), parse_number("3 1/2"), parse_number("no idea")
    (Fraction(29, 1), Fraction(-7, 1), Fraction(7, 2), None)
    >>> parse_number("1e999999999") is parse_number("3 or 4") is parse_number("5/0") is None
    True
    """
    if text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS:
        return Fraction(int(text))
    numbers = find_numbers(tidy_latex(text))
    first = next(numbers, None)
    if first is None or next(numbers, None) is not None:
        return None
    return plain_value(first)


def plain_value(plain: str) -> Fraction | None:
    """The exact value of a plain number; None for a zero denominator or beyond `MAX_DIGITS`.

    >>> plain_value("-3 1/2"), plain_value("1.5e3"), plain_value("5/0")
    (Fraction(-7, 2), Fraction(1500, 1), None)
    """
    match = _PLAIN.fullmatch(plain) if plain else None
    if match is None or (len(plain) > MAX_DIGITS and max(map(len, match.groups(default=""))) > MAX_DIGITS):
        return None
    sign, mixed, above, below, exponent = match.groups()
    value = Fraction(int(above)) if above.isdigit() else Fraction(above)
    if below:
        divisor = Fraction(below)
        if not divisor:
            return None
        value = value / divisor + int(mixed or 0)
    if exponent:
        if abs(int(exponent)) > MAX_DIGITS:
            return None
        value *= Fraction(10) ** int(exponent)
    return -value if sign else value


def _plain(match: re.Match[str]) -> str:
    group = match.groupdict()
    body = _plain_body(group).translate(_SEPARATORS)
    negative = any(group[name] not in (None, "+") for name in ("sign", "apart", "inner"))
    if body.startswith("-"):
        negative, body = not negative, body[1:]
    return f"-{body}" if negative else body


def _plain_body(group: dict[str, str | None]) -> str:
    if mantissa := group["mantissa"]:
        power = group["exponent"] or group["times_power"] or _from_superscript(group["times_super"])
        return f"{mantissa}e{power}" if power else mantissa
    if group["over"]:
        return f"{group['over']}/{group['under']}"
    if group["whole"]:
        return f"{group['whole']} {group['numerator']}/{group['denominator']}"
    if group["vulgar"]:
        return _with_whole(group["vulgar_whole"], _VULGAR[group["vulgar"]])
    if power := group["power"] or _from_superscript(group["super"]):
        return f"1e{power}"
    if pair := group["pair"]:
        return _with_whole(group["mixed"], f"{pair[0]}/{pair[1]}")
    return _with_whole(group["mixed"], f"{group['above']}/{group['below']}")


def _with_whole(whole: str | None, fraction: str) -> str:
    return f"{whole} {fraction}" if whole else fraction


def _from_superscript(digits: str | None) -> str | None:
    return digits.translate(_SUPERSCRIPTS) if digits else None
