"""What each alarm looks at: functions from one row of metrics to readings. A metric that is not there is not judged.

Units: nats; shares are between 0 and 1. Metrics that are not finite are left to `non_finite`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from markov_cot.alarms.gauge import Reading
from markov_cot.alarms.smoothing import WARM_UP, Memory, count, noise, smooth, smoothed_error, start
from markov_cot.config.alarms import (
    DeadGroupsLevels,
    DivergenceLevels,
    EntropyLevels,
    KlLevels,
    LeakLevels,
    NonFiniteLevels,
    RatioLevels,
    RepetitionLevels,
    RewardLevels,
)

Row = Mapping[str, float | int | None]
"""Metrics of one step; None stands for NaN or infinity."""

HUGE = 1e100
REWARD_DECAY = 0.9
DEAD_DECAY = 0.95
KL_DECAY = 0.8
"""Questions differ in their KL, so with few of them a step a single row says little of a rise."""
LEAK = 0.9
"""What is left of the count of rows that are not finite after one that is."""
APPLIED = ("loss/total", "optim/grad_norm")
"""Not finite, and not skipped: the parameters are lost."""
FINITE = ("loss/", "reward/", "policy/", "ppo/", "optim/grad_norm")
SMALLEST_FALL = 0.1
"""Fall of an accuracy without an interval that is taken for more than chance."""
TOLERANCE = 0.25
"""Nats by which the reward may be below what it was at the accuracy's peak and still count as not fallen."""


@dataclass(slots=True)
class Context:
    """What a rule has besides the row: its settings, its memory, and what is known of the run."""

    levels: Any
    """The alarm's group of `alarm_settings`."""
    memory: Memory = field(default_factory=dict)
    baseline: Mapping[str, float] = field(default_factory=dict)
    """Metrics of the untrained base; where one is missing, the first rows stand for it."""
    problems: int | None = None
    """P: groups a step."""
    step: int = 0
    """Of the row."""

    def base(self, key: str, value: float) -> float:
        """The base's value of a metric that is `value` now."""
        return self.baseline[key] if key in self.baseline else start(self.memory, key, value)


Rule = Callable[[Row, Context], Iterator[Reading]]


def number(row: Row, key: str) -> float | None:
    """The metric, if it is there and finite; cut where its square would overflow."""
    value = row.get(key)
    return max(-HUGE, min(HUGE, float(value))) if value is not None and math.isfinite(value) else None


def ratio(row: Row, context: Context) -> Iterator[Reading]:
    """Drift from the reference, and PPO's ratio to the policy that sampled."""
    levels: RatioLevels = context.levels
    if (value := number(row, "policy/reference_ratio")) is not None:
        seen = {"policy/reference_ratio": value}
        yield Reading("drift", "drift", _log_distance(value), levels.warn, levels.critical, levels.hard, seen)
    if (value := number(row, "ppo/ratio_mean")) is not None:
        seen = {"ppo/ratio_mean": value}
        yield Reading("mean", "mean", _log_distance(value), levels.mean_warn, levels.mean_critical, seen=seen)
    if (value := number(row, "ppo/ratio_max")) is not None:
        seen = {"ppo/ratio_max": value}
        yield Reading("max", "max", value, levels.max_warn, levels.max_critical, seen=seen)
    if (value := number(row, "ppo/clip_fraction")) is not None:
        seen = {"ppo/clip_fraction": value}
        yield Reading("clip", "clip", value, levels.clip_warn, levels.clip_critical, seen=seen)


def _log_distance(ratio: float) -> float:
    """How far a ratio is from 1, in nats."""
    return abs(math.log(ratio)) if ratio > 0 else math.inf


def reward(row: Row, context: Context) -> Iterator[Reading]:
    """Fall of the smoothed reward below its best and below the base's, and of a single row far below either.

    Batches are small and questions differ, so the levels are raised by what the reward's own noise explains.
    """
    levels: RewardLevels = context.levels
    memory = context.memory
    answer, normalized = number(row, "reward/answer_logprob"), number(row, "reward/normalized")
    base = number(row, "reward/baseline_logprob")
    if base is None and answer is not None and normalized is not None:
        base = answer - normalized
    if base is not None:
        memory["base"] = base
    for key, value in (("reward/answer_logprob", answer), ("reward/normalized", normalized)):
        if value is None:
            continue
        yield _plunge(key, value, levels, memory)
        start(memory, key, value)
        smoothed = smooth(memory, key, value, REWARD_DECAY)
        margin = levels.noise * smoothed_error(noise(memory, key, value), REWARD_DECAY)
        if count(memory, key) < WARM_UP:
            continue
        best = memory[key + ".best"] = max(memory.get(key + ".best", smoothed), smoothed)
        seen = {"smoothed": smoothed, "best": best, "fall": best - smoothed}
        warn, critical = levels.warn + margin, levels.critical + margin
        yield Reading(f"fall.{key}", "fall", best - smoothed, warn, critical, seen=seen, what=key)
        if key == "reward/normalized":
            reference = min(0.0, memory[key + ".start"])
            below = reference - smoothed
            seen = {"smoothed": smoothed, "reference": reference, "below": below}
            yield Reading("base", "base", below, warn, critical, seen=seen, what=key)


def _plunge(key: str, value: float, levels: RewardLevels, memory: Memory) -> Reading:
    """One row against the best so far, or where that is not known yet, against the base or the start."""
    base = memory.get("base")
    known = [memory[name] for name in (key + ".best", key + ".start") if name in memory][:1]
    if key == "reward/normalized":
        known.append(0.0)
    elif base is not None:
        known.append(base)
    reference = max(known, default=value)
    hard = max(levels.hard, abs(memory.get("reward/answer_logprob.start", 0.0) if base is None else base))
    below = reference - value
    seen = {"value": value, "reference": reference, "below": below}
    return Reading(f"plunge.{key}", "plunge", below, hard, hard, hard, seen, key)


def repetition(row: Row, context: Context) -> Iterator[Reading]:
    """How much of the way from the base's value to nothing but repetition the CoTs have gone, by four measures."""
    levels: RepetitionLevels = context.levels
    for key in ("cot/repetition", "cot/longest_run", "cot/distinct", "cot/compression"):
        value = number(row, key)
        if value is None:
            continue
        base = context.base(key, value)
        if key == "cot/distinct":
            way = (base - value) / base if base > 0 else 0.0
        elif key == "cot/compression":
            way = 1 - base / value if value > 0 else 0.0
        else:
            way = (value - base) / (1 - base) if base < 1 else 0.0
        seen = {"value": value, "base": base, "way": way}
        yield Reading(key, "repetition", way, levels.warn, levels.critical, levels.hard, seen, key)


def entropy(row: Row, context: Context) -> Iterator[Reading]:
    """Collapse of the actor's entropy to zero, or its jump to noise, against its start."""
    levels: EntropyLevels = context.levels
    value = number(row, "policy/entropy")
    if value is None:
        return
    base = context.base("policy/entropy", value)
    seen = {"policy/entropy": value, "start": base}
    if base > 0:
        fall = math.log(base / value) if value > 0 else math.inf
        yield Reading("fall", "fall", fall, levels.warn, levels.critical, levels.hard, seen)
    rise = value - base
    yield Reading("rise", "rise", rise, levels.rise_warn, levels.rise_critical, levels.rise_hard, seen)


def kl(row: Row, context: Context) -> Iterator[Reading]:
    """KL divergence of the actor from the reference per token: its size, and a rise faster than its pace.

    Slow drift is how training works, and a jump is how collapses begin, long before the size itself is alarming.
    """
    levels: KlLevels = context.levels
    memory = context.memory
    value = number(row, "policy/kl")
    if value is None:
        return
    seen = {"policy/kl": value}
    yield Reading("kl", "kl", value, levels.warn, levels.critical, levels.hard, seen)
    smoothed = smooth(memory, "kl", value, KL_DECAY)
    steps = max(0, context.step - memory.get("step", context.step))
    paced = memory["paced"] = min(smoothed, memory.get("paced", smoothed) + levels.pace * steps)
    memory["step"] = context.step
    rise = smoothed - paced
    seen = {"policy/kl": value, "rise": rise}
    yield Reading("rise", "rise", rise, levels.rise_warn, levels.rise_critical, seen=seen)


def dead_groups(row: Row, context: Context) -> Iterator[Reading]:
    """Groups that teach nothing. Where the reward is at its ceiling they are the sign of success: no critical alarm."""
    levels: DeadGroupsLevels = context.levels
    memory = context.memory
    answer = number(row, "reward/answer_logprob")
    if answer is not None:
        memory["reward"] = smooth(memory, "reward", answer, REWARD_DECAY)
    share = number(row, "reward/zero_variance_share")
    dead = number(row, "reward/zero_variance_groups")
    if share is None and dead is not None and context.problems:
        share = dead / context.problems
    if share is None:
        return
    smoothed = smooth(memory, "share", share, DEAD_DECAY)
    solved = memory.get("reward", -math.inf) > -levels.solved
    critical = math.inf if solved else levels.critical
    kind = "solved" if solved else "dead"
    yield Reading("share", kind, smoothed, levels.warn, critical, seen={"reward/zero_variance_share": smoothed})


def divergence(row: Row, context: Context) -> Iterator[Reading]:
    """Held-out accuracy that falls beyond its interval while the reward it was trained on does not."""
    levels: DivergenceLevels = context.levels
    memory = context.memory
    reward_now = number(row, "reward/answer_logprob")
    if reward_now is not None:
        start(memory, "reward", reward_now)
        memory["reward"] = smooth(memory, "reward", reward_now, REWARD_DECAY)
    for key in row:
        if not (key.startswith("eval/") and key.endswith("/accuracy")):
            continue
        accuracy = number(row, key)
        if accuracy is None:
            continue
        low, high = number(row, key + "_low"), number(row, key + "_high")
        if accuracy >= memory.get(key + ".peak", -math.inf):
            memory[key + ".peak"] = accuracy
            memory[key + ".low"] = accuracy - SMALLEST_FALL if low is None else low
            if "reward" in memory:
                memory[key + ".reward"] = memory["reward"]
        peak = memory[key + ".peak"]
        beyond = (accuracy if high is None else high) < memory[key + ".low"]
        fall = (peak - accuracy) / peak if beyond and peak > 0 else 0.0
        then = memory.get(key + ".reward", memory.get("reward.start", math.inf))
        hacked = memory.get("reward", -math.inf) >= then - TOLERANCE
        critical = levels.critical if hacked else levels.hard
        seen = {"accuracy": accuracy, "peak": peak}
        if "reward" in memory:
            seen |= {"reward": memory["reward"], "reward_then": then}
        kind = "hacking" if hacked else "accuracy"
        yield Reading(key, kind, fall, levels.warn, critical, levels.hard, seen, key)


def non_finite(row: Row, context: Context) -> Iterator[Reading]:
    """NaN or infinity in losses, gradients, rewards or log-probs."""
    levels: NonFiniteLevels = context.levels
    memory = context.memory
    bad = [key for key in row if key.startswith(FINITE) and number(row, key) is None]
    skipped = bool(row.get("optim/skipped"))
    rows = memory["rows"] = LEAK * memory.get("rows", 0.0) + float(bool(bad) or skipped)
    what = ", ".join(bad) or "optim/skipped"
    yield Reading("rows", "rows", rows, levels.warn, levels.critical, what=what)
    lost = not skipped and any(key in bad for key in APPLIED)
    yield Reading("applied", "applied", float(lost), 1.0, 1.0, 1.0, what=what)


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


RULES: dict[str, Rule] = {
    rule.__name__: rule for rule in (ratio, reward, repetition, entropy, kl, dead_groups, divergence, non_finite, leak)
}
"""Name of an alarm, which is also its group of settings, and its rule."""
