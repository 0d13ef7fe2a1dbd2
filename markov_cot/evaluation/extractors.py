"""The registry of extractors: every rule that reads an answer out of a response, by kind and name.

An extractor returns a string, or None for *invalid*, which is a value of its own and never a wrong answer in disguise.
"""

from __future__ import annotations

import difflib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass

from markov_cot.errors import UserError
from markov_cot.evaluation import extractors_anchor, extractors_choice, extractors_numeric
from markov_cot.evaluation.graders import exact_match, letters_equal, numbers_equal
from markov_cot.evaluation.math_verify_extractor import math_verify
from markov_cot.tasks.problem import Kind

MOST_CHOICES = 26
"""As many as there are letters."""


@dataclass(frozen=True, slots=True)
class Extractor:
    """One rule, with the grader that judges what it reads."""

    name: str
    kind: Kind
    rule: Callable[[str, tuple[str, ...]], str | None]
    """(response, texts of the choices) -> the answer as text; None is invalid."""
    matches: Callable[[str | None, str], bool]
    """(prediction, gold) -> right."""
    extra: str | None = None
    """The extra of this package it needs, by its name in setup.cfg."""


def _numeric(name: str, rule: Callable[[str], str | None], matches: Callable[[str | None, str], bool]) -> Extractor:
    return Extractor(name, "numeric", lambda text, choices: rule(text), matches)


_ALL = (
    _numeric("anchor", extractors_anchor.anchor, numbers_equal),
    _numeric("simple", extractors_numeric.simple, numbers_equal),
    _numeric("strict-match", extractors_numeric.strict_match, exact_match),
    _numeric("flexible-extract", extractors_numeric.flexible_extract, exact_match),
    _numeric("boxed", extractors_numeric.boxed, numbers_equal),
    Extractor("math-verify", "numeric", lambda text, choices: math_verify(text), numbers_equal, extra="math-verify"),
    Extractor("word-boundary", "choice", extractors_choice.word_boundary, letters_equal),
    Extractor("anchor", "choice", extractors_choice.anchor, letters_equal),
    Extractor("choice-text", "choice", extractors_choice.choice_text, letters_equal),
    Extractor("legacy", "choice", extractors_choice.legacy, letters_equal),
    Extractor("legacy-boundary", "choice", extractors_choice.legacy_boundary, letters_equal),
)
_BY_KIND_AND_NAME = {(extractor.kind, extractor.name): extractor for extractor in _ALL}

PRIMARY: dict[Kind, Extractor] = {
    "numeric": _BY_KIND_AND_NAME["numeric", "anchor"],
    "choice": _BY_KIND_AND_NAME["choice", "word-boundary"],
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
    markov_cot.errors.UserError: extractor 'boxd': not known for numeric answers; did you mean boxed? there are ...
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


def extract(extractor: Extractor, text: str, choices: tuple[str, ...] = ()) -> str | None:
    """What `extractor` reads out of `text`: a number or a letter as text; None is invalid.

    `choices` are the options' texts, in order; empty strings where only their number is known. A choice extractor
    without choices finds every letter invalid.

    >>> extract(PRIMARY["numeric"], "so it costs $70,000."), extract(PRIMARY["choice"], "It is (c).", ("",) * 4)
    ('70000', 'C')
    """
    return extractor.rule(text, choices)
