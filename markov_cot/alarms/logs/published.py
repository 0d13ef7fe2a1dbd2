"""JSONL logs of the published Markovian Transformers code.

The hyper-parameters stand on the first line, in some logs under "hyperparameters", in others not at all. Then there is
one row a batch, with the metrics in a mapping "Training Metrics" and a CoT under "Example"; in the oldest form the
metrics stand beside the "Batch Index", and the CoT is the "Action".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from markov_cot.alarms.diagnosis import PUBLISHED_PPO
from markov_cot.alarms.logs.cot_texts import Cot, CotTexts, known_answer
from markov_cot.alarms.logs.entry import Entry, Metrics, as_float, is_number, whole_number
from markov_cot.alarms.logs.json_lines import JsonLines, Row

METRICS, BATCH, HEADER = "Training Metrics", "Batch Index", "hyperparameters"
ACTOR, ANSWER = "Actor Log Probs", "Actor Answer Log Probs"

KEYS = {
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

SETTINGS = {
    "lr": "optim.lr",
    "model_learning_rate": "optim.lr",
    "kl_penalty": "algorithm.kl_weight",
    "actor_reward_weight": "algorithm.actor_reward_weight",
    "cot_length": "rollout.length",
    "temperature": "rollout.temperature",
}
STATED = "Answer:"
EXAMPLE_LENGTH = 1000
"""Characters of a CoT that are kept for a diagnosis to quote."""


@dataclass(slots=True)
class Published:
    """Such a log."""

    path: Path
    settings: dict[str, Any] | None = field(default_factory=dict)
    torn: bool = False

    def entries(self) -> Iterator[Entry]:
        """Yield the batches. Where all have one index, the rows' numbers, from 0 as indices are, are the steps."""
        entries = list(self._batches())
        is_constant = len(entries) > 1 and len({entry.step for entry in entries}) == 1
        for row, entry in enumerate(entries):
            yield Entry(row, entry.metrics, entry.example) if is_constant else entry

    def _batches(self) -> Iterator[Entry]:
        lines, texts = JsonLines(self.path), CotTexts()
        for number, row in lines.rows():
            if number == 1 and METRICS not in row and BATCH not in row:
                self.settings = _settings(row)
                continue
            if METRICS not in row and BATCH not in row:
                raise lines.fault(number, f'has neither "{BATCH}" nor "{METRICS}", so it is no row of a log')
            found = row.get(METRICS, row)
            if not isinstance(found, dict):
                raise lines.fault(number, f'"{METRICS}" is not a mapping')
            step = whole_number(row.get(BATCH))
            if step is None:
                raise lines.fault(number, f'"{BATCH}" should be a whole number')
            cot = cot_of(row)
            metrics = self._metrics(found) | texts.take([cot] if cot else [])
            yield Entry(step, metrics, cot.text[:EXAMPLE_LENGTH] if cot else "")
        self.torn = lines.torn

    def _metrics(self, found: Mapping[str, Any]) -> Metrics:
        # null is what this code writes for a metric it does not have, and NaN for one that is not finite.
        given = {key: as_float(value) for key, value in found.items() if value is not None and is_number(value)}
        metrics = {ours: given[theirs] for theirs, ours in KEYS.items() if theirs in given}
        if ACTOR in given and ANSWER not in given:  # short for the latter, as in summaries of such logs
            metrics["reward/answer_logprob"] = given[ACTOR]
            metrics.pop("policy/cot_logprob")
        if found.get("KL Type") == "Weighted KL":
            _unweigh(metrics, (self.settings or {}).get("algorithm.kl_weight"))
        return metrics


def is_published(row: Row) -> bool:
    """Whether a row is one of such a log, or its header."""
    return METRICS in row or BATCH in row or isinstance(row.get(HEADER), dict)


def cot_of(row: Mapping[str, Any]) -> Cot | None:
    """Return the CoT that a row holds, with the answer it should state; None where it holds none.

    A share is of all CoTs of the batch and says more than the one that is shown.
    """
    example = row.get("Example")
    if isinstance(example, dict):
        text, answer, states = (example.get(key) for key in ("Actor Reasoning", "Answer", "Contains Answer"))
    else:
        text, answer, states = (row.get(key) for key in ("Action", "Observation", "Reasoning Contains Answer"))
        if isinstance(answer, str) and answer.startswith(STATED):
            answer = answer.removeprefix(STATED)
        else:  # a text that was to be continued, which no CoT is expected to state
            answer = states = None
    if not isinstance(text, str):
        return None
    if isinstance(states, float):
        return Cot(text, states=states)
    return Cot(text, known_answer(answer), float(states) if isinstance(states, bool) else None)


def _settings(row: Mapping[str, Any]) -> dict[str, Any]:
    given = row[HEADER] if isinstance(row.get(HEADER), dict) else row
    settings = {ours: given[theirs] for theirs, ours in SETTINGS.items() if given.get(theirs) is not None}
    if given.get("use_ppo"):
        settings["algorithm.loss"] = PUBLISHED_PPO
    return settings


def _unweigh(metrics: Metrics, weight: Any) -> None:
    """Make a KL that was logged times its weight the KL itself, or leave it out where the weight is not known."""
    value = metrics.pop("policy/kl", None)
    if value is not None and isinstance(weight, int | float) and weight > 0:
        metrics["policy/kl"] = value / weight
