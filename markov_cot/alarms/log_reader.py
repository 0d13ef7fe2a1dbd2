"""Reads training logs: this project's `log.jsonl`, and the JSONL logs of the published Markovian Transformers code.

A published log has the hyper-parameters on its first line and then one entry a batch, with the metrics in a mapping
"Training Metrics" (in its oldest form, beside the "Batch Index").
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from markov_cot.alarms.diagnosis import PUBLISHED_PPO
from markov_cot.utils.errors import UserError

METRICS, BATCH, STEP = "Training Metrics", "Batch Index", "step"
ACTOR, ANSWER = "Actor Log Probs", "Actor Answer Log Probs"

PUBLISHED_KEYS = {
    "Loss": "loss/total",
    "Aggregate loss": "loss/total",
    "Policy Gradient Loss": "loss/policy",
    ANSWER: "reward/answer_logprob",
    "Avg Log Prob": "reward/answer_logprob",
    "Critic Answer Log Probs": "reward/baseline_logprob",
    "Baseline Avg Log Prob": "reward/baseline_logprob",
    "Normalized Reward": "reward/normalized",
    "Actor Reasoning Log Probs": "policy/cot_logprob",
    ACTOR: "policy/cot_logprob",
    "PPO Ratio": "policy/reference_ratio",
    "KL": "policy/kl",
    "Gradient Norm": "optim/grad_norm",
    "Grad Norm": "optim/grad_norm",
}
"""Their name and ours. Their "PPO Ratio" is taken against the frozen reference, so it is the drift from it."""

PUBLISHED_SETTINGS = {
    "lr": "optim.lr",
    "model_learning_rate": "optim.lr",
    "kl_penalty": "algorithm.kl_weight",
    "actor_reward_weight": "algorithm.actor_reward_weight",
    "cot_length": "rollout.length",
    "temperature": "rollout.temperature",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of a log."""

    step: int
    metrics: dict[str, float | None]
    """By this project's keys; None stands for NaN or infinity."""
    example: str = ""
    """A CoT of it, where the log has one."""


@dataclass(slots=True)
class Log:
    """A log that is being read."""

    path: Path
    settings: dict[str, Any] = field(default_factory=dict)
    """Of a published log, from its first line, by this project's names."""
    is_published: bool = False
    torn: bool = False
    """Whether the last line was cut off in the middle, as in a run that is still writing. It is left out."""

    def entries(self) -> Iterator[Entry]:
        """The rows in order. Raises `UserError` with the line's number for one that is not a row of a log."""
        for number, row in self._rows():
            if number == 1 and not _is_entry(row):
                self.settings = _published_settings(row)
            elif METRICS in row or BATCH in row:
                self.is_published = True
                yield self._published_entry(number, row)
            elif STEP in row:
                metrics = {key: _number(value) for key, value in row.items() if key != STEP and _is_number(value)}
                yield Entry(self._step(number, row, STEP), metrics)
            else:
                raise self._fault(number, f'has neither "{STEP}" nor "{METRICS}", so it is no row of a training log')

    def _rows(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Line numbers, from 1, and objects; blank lines are passed over."""
        try:
            with self.path.open("rb") as file:
                for number, line in enumerate(file, 1):
                    if not line.strip():
                        continue
                    row = self._parse(number, line)
                    if row is not None:
                        yield number, row
        except OSError as error:
            raise UserError(f"log {self.path}: cannot be read ({error.strerror})") from None

    def _parse(self, number: int, line: bytes) -> dict[str, Any] | None:
        try:
            row = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
        except (ValueError, RecursionError) as error:
            if number > 1 and line.startswith(b"{") and not line.endswith(b"\n"):
                self.torn = True
                return None
            reason = error.msg if isinstance(error, json.JSONDecodeError) else "unreadable"
            raise self._fault(number, f"is not JSON ({reason})") from None
        if not isinstance(row, dict):
            raise self._fault(number, "is not a JSON object, which a row of a log is")
        return row

    def _published_entry(self, number: int, row: Mapping[str, Any]) -> Entry:
        found = row.get(METRICS, row)
        if not isinstance(found, dict):
            raise self._fault(number, f'"{METRICS}" is not a mapping')
        # null is what this code writes for a metric it does not have, and NaN for one that is not finite.
        given = {key: _number(value) for key, value in found.items() if value is not None and _is_number(value)}
        metrics = {ours: given[theirs] for theirs, ours in PUBLISHED_KEYS.items() if theirs in given}
        if ACTOR in given and ANSWER not in given:  # short for the latter, as in summaries of such logs
            metrics["reward/answer_logprob"] = given[ACTOR]
            metrics.pop("policy/cot_logprob")
        if found.get("KL Type") == "Weighted KL":
            _unweigh(metrics, self.settings.get("algorithm.kl_weight"))
        example = row.get("Example")
        text = example.get("Actor Reasoning") if isinstance(example, dict) else row.get("Action")
        return Entry(self._step(number, row, BATCH), metrics, text if isinstance(text, str) else "")

    def _step(self, number: int, row: Mapping[str, Any], key: str) -> int:
        value = row.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1:
            raise self._fault(number, f'"{key}" should be a whole number')
        return int(value)

    def _fault(self, number: int, what: str) -> UserError:
        return UserError(f"log {self.path} line {number}: {what}")


def read_examples(path: Path) -> Callable[[int], str]:
    """From a run's samples.jsonl: a CoT of a step, or nothing where it has none. Another step's is no evidence."""
    samples: dict[int, str] = {}
    try:
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                row = json.loads(line)
                samples.setdefault(int(row["step"]), str(row["cot"]))
            except (ValueError, TypeError, KeyError, RecursionError):
                continue  # an example is an extra: a broken row only goes unused
    except OSError:
        pass
    return lambda step: samples.get(step, "")


def _is_entry(row: Mapping[str, Any]) -> bool:
    return any(key in row for key in (METRICS, BATCH, STEP))


def _published_settings(row: Mapping[str, Any]) -> dict[str, Any]:
    settings = {ours: row[theirs] for theirs, ours in PUBLISHED_SETTINGS.items() if row.get(theirs) is not None}
    if row.get("use_ppo"):
        settings["algorithm.loss"] = PUBLISHED_PPO
    return settings


def _unweigh(metrics: dict[str, float | None], weight: Any) -> None:
    """Makes a KL that was logged times its weight the KL itself, or leaves it out where the weight is not known."""
    value = metrics.pop("policy/kl", None)
    if value is not None and isinstance(weight, int | float) and weight > 0:
        metrics["policy/kl"] = value / weight


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _number(value: Any) -> float | None:
    try:
        return None if value is None else float(value)
    except OverflowError:
        return None
