"""Reads one row of a file that is graded again: `response` and `gold`, or a row of a samples_<dataset>.jsonl.

The rows of samples files (ours and lm-evaluation-harness's) have `resps`, `target` and `filter`, one row for each item
and filter; the responses are the same under every filter, so those of the first one met are read.

A judge's row may also have `response_swapped`: what it answered where the two things it compares stood in the other
order, choices A and B that is. Samples of comparisons have `resps_swapped`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from markov_cot.grading.extractors import MOST_CHOICES
from markov_cot.grading.golds import form_for
from markov_cot.grading.graders import gold_text, gold_texts
from markov_cot.grading.kinds import LABELS, Kind
from markov_cot.grading.numeral_forms import ENGLISH, Form

Row = dict[str, Any]


class GradedRow(NamedTuple):
    """What graders need of a row."""

    responses: tuple[str | None, ...]
    """None is a response that is not there (null): invalid."""
    gold: str | tuple[str, ...]
    """The accepted ones where the answer is a text."""
    choices: tuple[str, ...]
    form: Form
    """How its numbers are written."""
    swapped: tuple[str | None, ...] | None = None
    """Of each response, the one in the other order, where the file has such."""


class RowReader:
    """Reads rows of one kind. `choices` is their number where rows do not say; `form` how numbers are written."""

    def __init__(self, kind: Kind, choices: int | None = None, form: Form | None = None) -> None:
        self.kind, self.choices, self.form = kind, choices, form
        self._filter: str | None = None
        self._has_swapped: bool | None = None

    def read(self, row: Row) -> GradedRow | None:
        """The row's responses and gold; None for a sample row of another filter. Raises `ValueError`, saying why."""
        if "response" not in row and "resps" in row and "target" in row:
            return self._of_sample(row)
        missing = [name for name in ("response", "gold") if name not in row or (name == "gold" and row[name] is None)]
        if missing:
            raise ValueError(f"no {' and no '.join(f'`{name}`' for name in missing)}")
        graded = self._graded((_text(row["response"], "response"),), row["gold"], row.get("choices"))
        swapped = "response_swapped" in row
        return self._with_swapped(graded, (_text(row["response_swapped"], "response_swapped"),) if swapped else None)

    def _of_sample(self, row: Row) -> GradedRow | None:
        name, doc = row.get("filter"), row.get("doc")
        if name == "none":
            return None  # read off likelihoods: there is no answer in words
        self._filter = self._filter or name
        if name != self._filter:
            return None
        texts = _texts(row, "resps")
        known = doc if isinstance(doc, dict) else {}
        choices = known.get("choices")
        gold = known.get("answers", row["target"]) if self.kind == "text" else row["target"]
        graded = self._graded(texts, gold, choices if isinstance(choices, list) else None)
        return self._with_swapped(graded, _texts(row, "resps_swapped") if "resps_swapped" in row else None)

    def _with_swapped(self, row: GradedRow, swapped: tuple[str | None, ...] | None) -> GradedRow:
        """`row` with the responses in the other order, which all rows of a file have or none. Only choices have one."""
        if self.kind != "choice":
            return row
        if self._has_swapped is None:
            self._has_swapped = swapped is not None
        if (swapped is not None) != self._has_swapped:
            raise ValueError("some rows have `response_swapped` and others have not")
        if swapped is not None and len(swapped) != len(row.responses):
            raise ValueError(f"`resps_swapped` has {len(swapped)} responses for {len(row.responses)} in `resps`")
        return row._replace(swapped=swapped)

    def _graded(self, responses: tuple[str | None, ...], gold: object, choices: object) -> GradedRow:
        if self.kind == "choice":
            options = _options(choices, self.choices)
            return GradedRow(responses, gold_text(gold, self.kind, len(options)), options, ENGLISH)
        if self.kind == "text":
            return GradedRow(responses, gold_texts(gold), (), ENGLISH)
        form = form_for(gold, self.form)
        return GradedRow(responses, gold_text(gold, self.kind, form=form), (), form)


def _texts(row: Row, name: str) -> tuple[str | None, ...]:
    """The responses in a field of a sample row."""
    responses = row[name]
    if not isinstance(responses, list) or not responses or not all(isinstance(each, list) for each in responses):
        raise ValueError(f"`{name}` is not a list of lists of texts")
    return tuple(_text(text, name) for each in responses for text in each)


def _text(response: object, name: str) -> str | None:
    if response is None or isinstance(response, str):
        return response
    raise ValueError(f"`{name}` is not text but {type(response).__name__}")


def _options(own: object, choices: int | None) -> tuple[str, ...]:
    if own is None:
        return ("",) * (choices or len(LABELS))
    if isinstance(own, int) and not isinstance(own, bool) and 2 <= own <= MOST_CHOICES:
        return ("",) * own
    if isinstance(own, list) and 2 <= len(own) <= MOST_CHOICES and all(isinstance(text, str) for text in own):
        return tuple(own)
    raise ValueError(f"`choices` is neither a list of 2 to {MOST_CHOICES} texts nor their number")
