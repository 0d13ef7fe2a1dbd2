"""Kinds of answers, and the letters of choices."""

from __future__ import annotations

from string import ascii_uppercase

from markov_cot.config.base import AnswerKind as Kind

__all__ = ["LABELS", "LETTERS", "Kind"]

LETTERS = ascii_uppercase
"""Of the choices, in their order; a problem has at most as many."""
LABELS = LETTERS[:5]
"""Of the published datasets, and where the number of choices is not known."""
