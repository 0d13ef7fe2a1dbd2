"""Which characters of a text each of its tokens stands for, with any tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from markov_cot.utils.errors import UserError

Span = tuple[int, int]
"""First and last character (exclusive) of a token."""
# Tokens that may be needed for one character: four bytes, with room for what decodes to nothing.
_MOST_PENDING = 16


def encode_with_spans(tokenizer: Any, text: str) -> tuple[list[int], list[Span]]:
    """Ids of `text`, without special tokens, and the span of each.

    Tokenizers without a fast version do not report spans; there they are found by decoding. Raises `UserError` where
    such a tokenizer does not give the text back.
    """
    if not _reports_spans(tokenizer):
        ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        return ids, _find_spans(tokenizer, ids, text)
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    return encoded["input_ids"], encoded["offset_mapping"]


def token_spans(tokenizer: Any, text: str) -> list[Span]:
    """The spans alone."""
    if not _reports_spans(tokenizer):
        return encode_with_spans(tokenizer, text)[1]
    spans: list[Span] = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)[
        "offset_mapping"
    ]
    return spans


def _reports_spans(tokenizer: Any) -> bool:
    return getattr(tokenizer, "is_fast", True)


def _find_spans(tokenizer: Any, ids: Sequence[int], text: str) -> list[Span]:
    """Spans by decoding token after token; tokens that make one character together share its span.

    White space that decoding drops belongs to the token after it.
    """
    spans: list[Span] = []
    position = 0
    while len(spans) < len(ids):
        for count in range(1, min(_MOST_PENDING, len(ids) - len(spans)) + 1):
            piece = tokenizer.decode(list(ids[len(spans) : len(spans) + count]), clean_up_tokenization_spaces=False)
            if (end := _match(text, position, piece)) is not None:
                break
        else:
            raise UserError(
                f"tokenizer {tokenizer.name_or_path}: has no fast version (tokenizer.json) and does not give back the "
                f"text it encodes (near {text[position : position + 20]!r}), so an answer cannot be found in its "
                "context; use a tokenizer with a tokenizer.json"
            )
        spans += [(position, end)] * count
        position = end
    return spans


def _match(text: str, position: int, piece: str) -> int | None:
    """Where `piece` ends in `text` if it continues there; None if it does not, or is empty."""
    if not piece:
        return None
    if text.startswith(piece, position):
        return position + len(piece)
    start = position
    while start < len(text) and text[start].isspace():
        start += 1
    return start + len(piece) if text.startswith(piece, start) else None
