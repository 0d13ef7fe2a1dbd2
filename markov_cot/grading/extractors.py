"""The registry of extractors: every rule that reads an answer out of a response, by kind and name.

An extractor returns a string, or None for *invalid*, which is a value of its own and never a wrong answer in disguise.
"""

from __future__ import annotations

import difflib
import importlib.util
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from markov_cot.grading import anchor as extractors_anchor
from markov_cot.grading import choice as extractors_choice
from markov_cot.grading import choice_texts, text_rules
from markov_cot.grading import numeric as extractors_numeric
from markov_cot.grading.golds import is_symbolic
from markov_cot.grading.graders import exact_match, letters_equal, numbers_equal
from markov_cot.grading.kinds import Kind
from markov_cot.grading.math_verify import math_verify
from markov_cot.grading.numeral_forms import ENGLISH, Form
from markov_cot.grading.numerals import parse_number
from markov_cot.grading.symbolic import expression_in, expressions_equal
from markov_cot.grading.text import ARTICLES, normalised, texts_equal, token_f1
from markov_cot.grading.visible import before_next_turn, visible
from markov_cot.utils.errors import UserError

MOST_CHOICES = 26
"""As many as there are letters."""


@dataclass(frozen=True, slots=True)
class Extractor:
    """One rule, with the grader that judges what it reads."""

    name: str
    kind: Kind
    rule: Callable[[str, tuple[str, ...], Form], str | None]
    """(response, texts of the choices, how numbers are written) -> the answer as text; None is invalid."""
    matches: Callable[[str | None, str], bool]
    """(prediction, gold) -> right."""
    vote: Callable[[str], Hashable | None]
    """(prediction) -> what it is counted as in a majority vote; None does not vote."""
    expression: Callable[[str], str | None] | None = None
    """(response) -> the expression in it, to be compared with a gold that is one."""
    extra: str | None = None
    """The extra of this package it needs, by its name in setup.cfg."""
    credit: Callable[[str | None, str], float] | None = None
    """(prediction, gold) -> how much of it is right, 0 to 1; None where an answer is right or wrong, nothing else."""

    def for_articles(self, articles: Sequence[str]) -> Extractor:
        """Return the same rule, with other words than English articles left out where texts are compared."""
        if self.kind != "text" or tuple(articles) == ARTICLES:
            return self
        return replace(
            self,
            matches=partial(texts_equal, articles=articles),
            vote=partial(normalised, articles=articles),
            credit=partial(token_f1, articles=articles),
        )


def _number(name: str, rule: Callable[[str], str | None], matches: Callable[[str | None, str], bool]) -> Extractor:
    return Extractor(name, "numeric", lambda text, choices, form: rule(text), matches, parse_number)


def _choice(name: str, rule: Callable[[str, tuple[str, ...]], str | None]) -> Extractor:
    return Extractor(name, "choice", lambda text, choices, form: rule(text, choices), letters_equal, str)


def _text(name: str, rule: Callable[[str], str | None]) -> Extractor:
    return Extractor(name, "text", lambda text, choices, form: rule(text), texts_equal, normalised, credit=token_f1)


def _expression(text: str) -> str | None:
    return expression_in(before_next_turn(visible(text)))


_ALL = (
    Extractor(
        "anchor",
        "numeric",
        lambda text, _, form: extractors_anchor.anchor(text, form),
        numbers_equal,
        parse_number,
        _expression,
    ),
    _number("simple", extractors_numeric.simple, numbers_equal),
    _number("strict-match", extractors_numeric.strict_match, exact_match),
    _number("flexible-extract", extractors_numeric.flexible_extract, exact_match),
    Extractor(
        "boxed",
        "numeric",
        lambda text, _, form: extractors_numeric.boxed(text, form),
        numbers_equal,
        parse_number,
        lambda text: _expression(text) if extractors_numeric.last_box(text) is not None else None,
    ),
    Extractor(
        "math-verify",
        "numeric",
        lambda text, _, form: math_verify(text),
        numbers_equal,
        parse_number,
        _expression,
        "math-verify",
    ),
    _choice("word-boundary", extractors_choice.word_boundary),
    _choice("anchor", extractors_choice.anchor),
    _choice("choice-text", choice_texts.choice_text),
    _choice("legacy", extractors_choice.legacy),
    _choice("legacy-boundary", extractors_choice.legacy_boundary),
    _text("line", text_rules.line),
    _text("anchor", text_rules.anchor),
    _text("exact", text_rules.exact),
)
_BY_KIND_AND_NAME = {(extractor.kind, extractor.name): extractor for extractor in _ALL}

PRIMARY: dict[Kind, Extractor] = {
    "numeric": _BY_KIND_AND_NAME["numeric", "anchor"],
    "choice": _BY_KIND_AND_NAME["choice", "word-boundary"],
    "text": _BY_KIND_AND_NAME["text", "line"],
}
"""What accuracy means where one number has to be named: validation, best checkpoint."""


def extractor_names(kind: Kind) -> list[str]:
    """Names of all extractors of a kind.

    >>> extractor_names("choice")
    ['word-boundary', 'anchor', 'choice-text', 'legacy', 'legacy-boundary']
    """
    return [extractor.name for extractor in _ALL if extractor.kind == kind]


def default_extractors(kind: Kind) -> list[Extractor]:
    """All extractors of a kind that need no extra, so that the same command prints the same keys on every machine.

    >>> [extractor.name for extractor in default_extractors("numeric")]
    ['anchor', 'simple', 'strict-match', 'flexible-extract', 'boxed']
    """
    return [extractor for extractor in _ALL if extractor.kind == kind and extractor.extra is None]


def get_extractor(kind: Kind, name: str) -> Extractor:
    """The extractor of that name. Raises `UserError` naming the nearest, or the extra that is not installed.

    >>> get_extractor("numeric", "boxd")
    Traceback (most recent call last):
        ...
    markov_cot.utils.errors.UserError: extractor 'boxd': not known for numeric answers; did you mean boxed? ...
    """
    extractor = _BY_KIND_AND_NAME.get((kind, name))
    if extractor is None:
        names = extractor_names(kind)
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UserError(f"extractor {name!r}: not known for {kind} answers; {hint}there are {', '.join(names)}")
    if extractor.extra and importlib.util.find_spec(extractor.extra.replace("-", "_")) is None:
        raise UserError(
            f"extractor {name}: its extra is not installed; in a checkout of markov-cot, "
            f"pip install '.[{extractor.extra}]'"
        )
    return extractor


def extract(extractor: Extractor, text: str, choices: tuple[str, ...] = (), form: Form = ENGLISH) -> str | None:
    """What `extractor` reads out of `text`: a number, a letter or a text; None is invalid.

    `choices` are the options' texts, in order; empty strings where only their number is known. A choice extractor
    without choices finds every letter invalid. `form` says how numbers are written.

    >>> extract(PRIMARY["numeric"], "so it costs $70,000."), extract(PRIMARY["choice"], "It is (c).", ("",) * 4)
    ('70000', 'C')
    """
    return extractor.rule(text, choices, form)


def grade(
    extractor: Extractor,
    text: str | None,
    gold: str | Sequence[str],
    choices: tuple[str, ...] = (),
    form: Form = ENGLISH,
) -> tuple[str | None, bool]:
    r"""What `extractor` reads out of a response, and whether that is `gold`. No response (None) is invalid.

    Of several accepted golds any will do. Where the gold is an expression, so is what is read, and math-verify compares
    them.

    >>> grade(PRIMARY["numeric"], "It is 70,000.", "$70000"), grade(PRIMARY["numeric"], None, "7")
    (('70000', True), (None, False))
    """
    golds = (gold,) if isinstance(gold, str) else gold
    if text is None:
        return None, any(extractor.matches(None, each) for each in golds)
    if extractor.expression is not None and is_symbolic(golds[0]):
        expression = extractor.expression(text)
        return expression, expressions_equal(expression, golds[0])
    predicted = extractor.rule(text, choices, form)
    return predicted, any(extractor.matches(predicted, each) for each in golds)


def credit(extractor: Extractor, predicted: str | None, gold: str | Sequence[str]) -> float | None:
    """How much of a prediction is right, by the best of the accepted golds; None for rules without partial credit.

    >>> credit(PRIMARY["text"], "Paris, France", ["Lyon", "Paris"]), credit(PRIMARY["numeric"], "7", "7")
    (0.6666666666666666, None)
    """
    golds = (gold,) if isinstance(gold, str) else gold
    return None if extractor.credit is None else max(extractor.credit(predicted, each) for each in golds)
