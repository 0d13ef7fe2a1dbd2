"""Samples files: the scores of every item, a row for each item and filter."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from markov_cot.data.fields import shown
from markov_cot.data.lines import numbered_lines, parse_object
from markov_cot.utils.errors import UserError

_DESCRIPTION = {
    "doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "metrics", "doc_hash", "prompt_hash",
    "target_hash", "group",
}  # fmt: skip
"""Fields of a row that are no metrics, where the row does not list those."""
_OF_WEIGHT = {"word_perplexity": "nats_per_word", "byte_perplexity": "nats_per_byte", "bits_per_byte": None}
"""Metrics whose items have a log-likelihood and what it is divided by; None where it says what another says."""


@dataclass
class ItemScores:
    """The items of a task."""

    scores: dict[str, dict[str, float]] = field(default_factory=dict)
    """By metric, then by item."""
    contents: dict[str, str] = field(default_factory=dict)
    """By item, a hash of what it asks and what is right."""
    prompts: dict[str, str] = field(default_factory=dict)
    """By item, a hash of its prompt, where the file has it."""
    groups: dict[str, str] = field(default_factory=dict)
    """By item, what it belongs to with others, such as an article, where the file says so."""
    left_out: set[str] = field(default_factory=set)
    """Metrics that are no number an item."""


class _RowError(ValueError):
    """Why a row cannot be used."""


def read_samples(path: Path) -> tuple[ItemScores, int]:
    """Return the scores in a samples file, and how many rows it has.

    Raises `UserError` for a file without rows, a row that is damaged or lacks a column, an item that is there twice, a
    score that is missing or not finite, and items that have not all the same metrics.
    """
    found, rows = ItemScores(), 0
    for number, line in numbered_lines(path):
        try:
            _add(found, parse_object(line))
        except ValueError as error:
            raise UserError(f"{path} line {number}: {error}; correct the file, or evaluate again") from None
        rows += 1
    if not rows:
        raise UserError(f"{path}: is empty; give a samples file that lm-evaluation-harness or eval wrote")
    if not found.scores:
        raise UserError(f"{path}: has no metric with a number an item; give the samples of another task")
    for metric, items in found.scores.items():
        if missing := next((item for item in found.contents if item not in items), None):
            raise UserError(f"{path}: item {missing} has no {metric}; evaluate again, so that every item has it")
    return found, rows


def _add(found: ItemScores, row: Mapping[str, Any]) -> None:
    if "doc_id" not in row:
        raise _RowError(f"no `doc_id` (the row has {', '.join(list(row)[:8]) or 'no fields'})")
    item, of = str(row["doc_id"]), str(row.get("filter", "none"))
    content = _content(row)
    if found.contents.setdefault(item, content) != content:
        raise _RowError(f"item {item} is there with another question")
    if "prompt_hash" in row:
        found.prompts[item] = str(row["prompt_hash"])
    if "group" in row:
        found.groups[item] = str(row["group"])
    for name, value in _scores(row, found.left_out):
        items = found.scores.setdefault(f"{name},{of}", {})
        if item in items:
            raise _RowError(f"item {item} is there twice for filter {of}")
        items[item] = value


def _content(row: Mapping[str, Any]) -> str:
    """What is asked: by the item itself where it is there, otherwise by the file's hashes of it."""
    seen = [row["doc"]] if "doc" in row else [row.get("doc_hash"), row.get("target_hash")]
    return hashlib.sha256(json.dumps(seen, sort_keys=True).encode()).hexdigest()


def _scores(row: Mapping[str, Any], left_out: set[str]) -> Iterator[tuple[str, float]]:
    """Each metric's name and value."""
    listed = row.get("metrics")
    names = listed if isinstance(listed, list) else [name for name in row if name not in _DESCRIPTION]
    for name in map(str, names):
        if name not in row:
            raise _RowError(f"no `{name}`, which is among its metrics")
        value = row[name]
        if name in _OF_WEIGHT and isinstance(value, list) and len(value) == 2:
            if renamed := _OF_WEIGHT[name]:
                total, weight = (_number(part, name) for part in value)
                if weight <= 0:
                    raise _RowError(f"{name}: is of {weight:g} words or bytes")
                yield renamed, -total / weight
        elif value is None or isinstance(value, (bool, int, float)):
            if value is not None or isinstance(listed, list):
                yield name, _number(value, name)
        else:
            left_out.add(name)


def _number(value: Any, name: str) -> float:
    if value is None:
        raise _RowError(f"{name} is null, as where a model gave NaN")
    if not isinstance(value, (bool, int, float)):
        raise _RowError(f"{name} is {shown(value)}, no number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise _RowError(f"{name} is {number}")
    return number
