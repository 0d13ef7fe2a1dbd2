"""What a CoT is cut into before it is changed: characters, which are encoded again after it, or its tokens as they are.

A perturbed text cannot be spliced by ids. So with characters the *unchanged* CoT is decoded and encoded again, too:
what is compared then differs by the change alone, and severity 0 changes nothing.
"""

from __future__ import annotations

import string
from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

CHARACTERS, TOKENS = "characters", "tokens"
UNITS = (CHARACTERS, TOKENS)
_DIGITS = string.digits
_ALPHANUMERIC = string.ascii_letters + string.digits

Unit = TypeVar("Unit")


class Units(Protocol[Unit]):
    """A way to cut CoTs, which are token ids, into units and to put them together again."""

    def split(self, cot: Sequence[int]) -> list[Unit]:
        """Return the units of a CoT."""

    def join(self, units: Sequence[Unit]) -> list[int]:
        """Return the token ids of units."""

    def pool(self, family: str, unit: Unit) -> Sequence[Unit]:
        """Return what a family replaces a unit by; nothing where it leaves it."""


class Characters:
    """Of the decoded text. Replaced are ASCII letters and digits by one another, or digits by digits (as published)."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self._tokenizer = tokenizer

    def split(self, cot: Sequence[int]) -> list[str]:
        """Return the characters."""
        return list(self._tokenizer.decode(cot, clean_up_tokenization_spaces=False))

    def join(self, units: Sequence[str]) -> list[int]:
        """Return the text's ids, no special tokens added."""
        ids: list[int] = self._tokenizer("".join(units), add_special_tokens=False, verbose=False).input_ids
        return ids

    def pool(self, family: str, unit: str) -> str:
        """Return the characters that a character may become."""
        pool = _DIGITS if family == "digit_replace" else _ALPHANUMERIC
        return pool if unit in pool else ""


class Tokens:
    """The sampled ids. char_replace draws from all tokens that may stand in a CoT, digit_replace from those that are
    digits of the same number, after a space or not, as the one that is replaced."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, banned: Sequence[bool]) -> None:
        """`banned` says of each id whether it may not stand in a CoT."""
        self._tokenizer = tokenizer
        self._ids = [i for i in range(min(len(tokenizer), len(banned))) if not banned[i]]

    def split(self, cot: Sequence[int]) -> list[int]:
        """Return the ids themselves."""
        return list(cot)

    def join(self, units: Sequence[int]) -> list[int]:
        """Return the ids themselves."""
        return list(units)

    def pool(self, family: str, unit: int) -> Sequence[int]:
        """Return the tokens that a token may become."""
        if family == "char_replace":
            return self._ids
        shape, alike = self._by_shape
        return alike[shape[unit]] if unit in shape else ()

    @cached_property
    def _by_shape(self) -> tuple[dict[int, str], dict[str, list[int]]]:
        """The shape of each token of digits (" 00"), and the tokens of each shape."""
        shape: dict[int, str] = {}
        alike: dict[str, list[int]] = defaultdict(list)
        texts = self._tokenizer.batch_decode([[i] for i in self._ids])
        for i, text in zip(self._ids, texts, strict=True):
            digits = text.removeprefix(" ")
            if digits.isascii() and digits.isdigit():
                shape[i] = text[: len(text) - len(digits)] + "0" * len(digits)
                alike[shape[i]].append(i)
        return shape, alike
