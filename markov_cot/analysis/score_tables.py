"""Totals without items: results files of lm-evaluation-harness and `eval`, and CSV tables of reported scores."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from markov_cot.data.fields import shown
from markov_cot.data.reading import read_text
from markov_cot.utils.errors import UserError

COLUMNS = ("task", "metric", "score")
_COMPARED = (
    "num_fewshot", "description", "doc_to_text", "doc_to_target", "doc_to_choice", "target_delimiter",
    "fewshot_delimiter", "fewshot_split", "fewshot_config", "output_type", "generation_kwargs", "filter_list",
    "dataset_path", "dataset_name", "test_split", "dtype", "device", "prompt", "reader_prompt", "readers", "length",
    "samples", "temperature", "direct", "cut",
)  # fmt: skip
"""What of a task's `configs` its scores depend on besides the model."""
_GLOBAL = (
    "lm_eval_version", "transformers_version", "chat_template_sha", "system_instruction_sha", "fewshot_as_multiturn",
)  # fmt: skip
_CONFIG = ("model_dtype", "batch_size", "limit", "device", "gen_kwargs")
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
"""What the harness writes of a function, another in each process."""
_MISSING = (None, "N/A", "")


@dataclass(frozen=True, slots=True)
class Reported:
    """A score as somebody wrote it down."""

    score: float
    half_unit: float
    """Half of what its last digit is worth: how far it may be from the number that was rounded."""
    stderr: float | None = None
    stderr_half_unit: float = 0.0
    n: int | None = None
    """Items."""


@dataclass(frozen=True)
class TaskResults:
    """A task in a results file."""

    reported: dict[str, Reported] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    primary: str | None = None
    higher_is_better: Mapping[str, bool] = field(default_factory=dict)
    is_group: bool = False


def read_results(path: Path) -> dict[str, TaskResults]:
    """Return the tasks of a results file. Raises `UserError` for what is no such file, and for a score of NaN."""
    document = _document(path)
    subtasks = _mapping(document, "group_subtasks")
    found = {}
    for task, values in document["results"].items():
        if not isinstance(values, dict):
            raise UserError(f"{path}: results of {task} are {shown(values)}, not metrics by name; evaluate again")
        n = _mapping(_mapping(document, "n-samples"), task).get("effective", values.get("sample_len"))
        own = _mapping(_mapping(document, "markov_cot"), task)
        found[task] = TaskResults(
            {key: _reported(path, task, key, values, n) for key in values if _is_score(key, values[key])},
            _settings(document, task),
            own.get("primary") if isinstance(own.get("primary"), str) else None,
            _mapping(_mapping(document, "higher_is_better"), task),
            bool(subtasks.get(task)),
        )
    return found


def read_table(path: Path) -> tuple[dict[str, dict[str, Reported]], int]:
    """Return the scores of a CSV table by task and metric, and how many rows it has.

    Its columns are task, metric and score, optionally stderr and n. Scores are shares, or percent where "%" is behind
    them. Raises `UserError` for a table without rows, a column that is missing, and a cell that is no number.
    """
    rows = csv.DictReader(io.StringIO(read_text(path), newline=""), skipinitialspace=True)
    if not rows.fieldnames:
        raise UserError(f"{path}: is empty; give a table with the columns {', '.join(COLUMNS)}")
    if missing := [name for name in COLUMNS if name not in rows.fieldnames]:
        has = ", ".join(rows.fieldnames)
        raise UserError(f"{path} line 1: no column {missing[0]} (there are {has}); name the columns in the first line")
    found: dict[str, dict[str, Reported]] = {}
    count = 0
    for row in rows:
        try:
            task, metric, reported = _table_row(row)
            if metric in found.setdefault(task, {}):
                raise ValueError(f"{task} has {metric} twice")
        except ValueError as error:
            raise UserError(f"{path} line {rows.line_num}: {error}; correct the row") from None
        found[task][metric] = reported
        count += 1
    if not count:
        raise UserError(f"{path}: has no rows below its header; write a row for each score")
    return found, count


def _table_row(row: Mapping[str | None, Any]) -> tuple[str, str, Reported]:
    if None in row or None in row.values():
        raise ValueError("has not as many cells as the header")
    task, metric = row["task"].strip(), row["metric"].strip()
    if not task or not metric:
        raise ValueError("task or metric is empty")
    score, half_unit = _cell(row["score"], "score")
    stderr, stderr_half_unit = _cell(row["stderr"], "stderr") if (row.get("stderr") or "").strip() else (None, 0.0)
    n = (row.get("n") or "").strip().replace(",", "")
    if n and (not n.isdecimal() or int(n) < 1):
        raise ValueError(f"n is {shown(row['n'])}, no number of items")
    if stderr is not None and stderr < 0:
        raise ValueError("stderr is negative")
    return task, metric, Reported(score, half_unit, stderr, stderr_half_unit, int(n) if n else None)


def _cell(text: str, name: str) -> tuple[float, float]:
    """A number in a table and half of what its last digit is worth."""
    plain = text.strip().removeprefix("±").strip()
    scale = Decimal("0.01") if plain.endswith("%") else Decimal(1)
    try:
        value = Decimal(plain.removesuffix("%").strip())
    except InvalidOperation:
        raise ValueError(f"{name} is {shown(text)}, no number") from None
    if not value.is_finite():
        raise ValueError(f"{name} is {value}")
    return float(value * scale), float(_half_unit(value) * scale)


def _half_unit(value: Decimal) -> Decimal:
    exponent = value.as_tuple().exponent
    assert isinstance(exponent, int), value
    return Decimal(5).scaleb(exponent - 1)


def _document(path: Path) -> dict[str, Any]:
    text = read_text(path)
    if not text.strip():
        raise UserError(f"{path}: is empty; give a results file that lm-evaluation-harness or eval wrote")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise UserError(f"{path}: is not JSON; give a results file that lm-evaluation-harness or eval wrote") from None
    if not isinstance(document, dict) or not isinstance(document.get("results"), dict):
        raise UserError(f"{path}: has no `results`; give a results file that lm-evaluation-harness or eval wrote")
    return document


def _is_score(key: str, value: Any) -> bool:
    """Whether it is a metric, and not its stderr or something about it."""
    name, comma, _ = key.partition(",")
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return bool(comma) and not name.endswith("_stderr") and is_number


def _reported(path: Path, task: str, key: str, values: Mapping[str, Any], n: Any) -> Reported:
    name, _, of = key.partition(",")
    score, stderr = values[key], values.get(f"{name}_stderr,{of}")
    stderr = None if stderr in _MISSING else stderr
    for value in (score, stderr):
        if value is not None and not (isinstance(value, (int, float)) and math.isfinite(value)):
            raise UserError(f"{path}: {key} of {task} is {shown(value)}, or its stderr is; evaluate again")
    items = n if isinstance(n, int) and not isinstance(n, bool) and n > 0 else None
    half_units = [0.0 if value is None else float(_half_unit(Decimal(repr(value)))) for value in (score, stderr)]
    return Reported(float(score), half_units[0], None if stderr is None else float(stderr), half_units[1], items)


def _settings(document: Mapping[str, Any], task: str) -> dict[str, Any]:
    config, general = _mapping(_mapping(document, "configs"), task), _mapping(document, "config")
    found = {key: config[key] for key in _COMPARED if key in config}
    found |= {key: document[key] for key in _GLOBAL if key in document}
    found |= {key: general[key] for key in _CONFIG if key in general and key not in found}
    shots, version = _mapping(document, "n-shot").get(task), _mapping(document, "versions").get(task)
    found |= {key: value for key, value in (("n-shot", shots), ("version", version)) if value is not None}
    plain: dict[str, Any] = json.loads(_ADDRESS.sub("", json.dumps(found)))
    return plain


def _mapping(of: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = of.get(key)
    return value if isinstance(value, dict) else {}
