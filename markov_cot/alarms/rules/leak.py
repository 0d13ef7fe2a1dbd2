"""Answers that the CoT states without deriving them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from markov_cot.alarms.alarm import Alarm, Context, Row, Text, number
from markov_cot.alarms.changes import FEWER_STEPS, RAISE_KL, SHORTEN, Changes, two_digits
from markov_cot.alarms.gauge import Reading
from markov_cot.alarms.smoothing import REWARD_DECAY, smooth
from markov_cot.config.alarms import LeakLevels

KL_FACTOR = 3
USUAL_KL_WEIGHT = 0.1


def leak(row: Row, context: Context) -> Iterator[Reading]:
    """CoTs that state the answer instead of deriving it, or whose reasoning the answer does not need."""
    levels: LeakLevels = context.levels
    memory = context.memory
    first = number(row, "leak/answer_first")
    if first is not None:
        base = context.base("leak/answer_first", first)
        way = (first - base) / (1 - base) if base < 1 else 0.0
        seen = {"leak/answer_first": first, "base": base}
        yield Reading("answer_first", "answer_first", way, levels.warn, levels.critical, seen=seen)
    baseline = number(row, "reward/baseline_logprob")
    if baseline is not None:
        memory["baseline"] = smooth(memory, "baseline", baseline, REWARD_DECAY)
    cut, whole = number(row, "leak/answer_logprob_cut"), number(row, "reward/answer_logprob")
    if cut is None or whole is None or "baseline" not in memory:
        return
    gain = whole - memory["baseline"]
    kept = (cut - memory["baseline"]) / gain if gain > levels.gain else 0.0
    seen = {"leak/answer_logprob_cut": cut, "reward/answer_logprob": whole, "kept": kept}
    yield Reading("cut", "cut", kept, levels.kept_warn, levels.kept_critical, seen=seen)


def raise_kl_weight(settings: Mapping[str, Any]) -> Changes:
    """Return a stronger pull to the base, which reasons before it answers."""
    weight = settings["algorithm.kl_weight"]
    return {"algorithm.kl_weight": two_digits(weight * KL_FACTOR if weight else USUAL_KL_WEIGHT)}


LEAK = Alarm(
    name="leak",
    levels=LeakLevels(),
    rule=leak,
    texts={
        "answer_first": Text(
            "A share of {leak/answer_first:.2f} of the CoTs states the answer before any reasoning, against {base:.2f} "
            "for the base",
            "The actor solves the problem within itself and the CoT only carries the result, so there is no reasoning "
            "to read.",
            ("Use problems that the model cannot solve at a glance.", RAISE_KL, FEWER_STEPS),
        ),
        "cut": Text(
            "With the reasoning cut away the answer's log-prob is still {leak/answer_logprob_cut:.2f} nats, against "
            "{reward/answer_logprob:.2f} with it: {kept:.0%} of the gain over the base is left",
            "The reasoning is not what carries the answer: it is stated up front, or coded into a few tokens.",
            ("Read the samples.", RAISE_KL, "Use harder problems.", SHORTEN),
        ),
    },
    remedy=raise_kl_weight,
    reads=("leak/answer_first", "leak/answer_logprob_cut and reward/answer_logprob and reward/baseline_logprob"),
)
