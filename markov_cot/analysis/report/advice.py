"""What to do next: rules from metrics to advice. docs/report.md has the table.

A rule looks at the end of a run, the mean of the last quarter of its steps but at least `FEWEST`, and at
its start, the mean of the first `FEWEST`. Shares are between 0 and 1, log-probs, KL and entropy in nats.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markov_cot.analysis.report.held_out import ACCURACY, LOGPROB
from markov_cot.analysis.report.sources import Columns, Source
from markov_cot.evaluation.runs import held_out_key
from markov_cot.evaluation.statistics import detectable_effect, mean_and_stderr

FEWEST = 3
QUARTER = 4
Values = dict[str, float]


@dataclass(frozen=True)
class Facts:
    """What the rules look at."""

    columns: Columns
    settings: Mapping[str, Any]
    result: Mapping[str, Any] | None
    verdict: Mapping[str, Any]
    stages: Mapping[str, Sequence[Any]]

    def start(self, key: str) -> float | None:
        """Return the metric's mean over its first `FEWEST` steps."""
        return self._mean(key, slice(None, FEWEST))

    def end(self, key: str) -> float | None:
        """Return the metric's mean over the last quarter of its steps."""
        return self._mean(key, slice(-self._quarter(key), None))

    def has_risen(self, key: str) -> bool:
        """Whether the end is above the start by more than two standard errors of their difference."""
        values = list(self.columns.get(key, {}).values())
        count = self._quarter(key)
        if len(values) < 2 * count:
            return False
        (before, error), (after, other) = mean_and_stderr(values[:count]), mean_and_stderr(values[-count:])
        return after - before > 2 * math.hypot(error or 0.0, other or 0.0)

    def first(self, key: str) -> float | None:
        """Return the metric's first value."""
        return next(iter(self.columns.get(key, {}).values()), None)

    def _quarter(self, key: str) -> int:
        return max(FEWEST, len(self.columns.get(key, {})) // QUARTER)

    def _mean(self, key: str, of: slice) -> float | None:
        values = list(self.columns.get(key, {}).values())[of]
        return sum(values) / len(values) if values else None


Judge = Callable[[Facts], Values | None]
"""The metrics that call for the advice, by name; None where it is not called for."""


@dataclass(frozen=True)
class Rule:
    """One line of the table."""

    name: str
    judge: Judge
    reason: str
    advice: str


def advise(
    source: Source, result: Mapping[str, Any] | None, verdict: Mapping[str, Any], stages: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Return what the rules advise, in their order: the rule, why, the metrics that say so, and what to do."""
    facts = Facts(source.columns, source.settings, result, verdict, stages)
    found = ((rule, rule.judge(facts)) for rule in RULES)
    return [
        {"rule": rule.name, "reason": rule.reason, "advice": rule.advice, "because": values}
        for rule, values in found
        if values is not None
    ]


def _reader_cannot_read(facts: Facts) -> Values | None:
    ceiling, floor = facts.first("reader/ceiling"), facts.first("reader/floor")
    if ceiling is None or ceiling >= 0.5:
        return None
    return {"reader/ceiling": ceiling} | ({} if floor is None else {"reader/floor": floor})


def _reader_hears_nothing(facts: Facts) -> Values | None:
    ceiling, floor = facts.first("reader/ceiling_logprob"), facts.first("reader/floor_logprob")
    if ceiling is None or floor is None or ceiling - floor >= 0.5:
        return None
    return {"reader/ceiling_logprob": ceiling, "reader/floor_logprob": floor}


def _below_floor(facts: Facts) -> Values | None:
    key, floor = held_out_key(facts.columns), facts.first("reader/floor_logprob")
    if key is None or floor is None:
        return None
    scores = facts.columns.get(f"{key.rpartition('/')[0]}/{LOGPROB}", {})
    last = max(scores, default=0)
    if not last or scores[last] >= floor:
        return None
    return {"answer_logprob at the last validation": scores[last], "reader/floor_logprob": floor}


def _dead_groups(facts: Facts) -> Values | None:
    dead, problems = facts.end("reward/zero_variance_groups"), facts.settings.get("rollout.problems")
    if dead is None or not problems or dead / problems <= 0.5:
        return None
    return {"reward/zero_variance_groups": dead, "rollout.problems": problems}


def _far_from_base(facts: Facts) -> Values | None:
    kl = facts.end("policy/kl")
    return {"policy/kl": kl} if kl is not None and kl > 1.0 else None


def _entropy_gone(facts: Facts) -> Values | None:
    start, end = facts.start("policy/entropy"), facts.end("policy/entropy")
    if start is None or end is None or start <= 0 or end >= 0.3 * start:
        return None
    return {"policy/entropy at the start": start, "policy/entropy at the end": end}


def _repeats_itself(facts: Facts) -> Values | None:
    start, end = facts.start("cot/repetition"), facts.end("cot/repetition")
    if start is None or end is None or end < 0.5 or end - start < 0.2:
        return None
    return {"cot/repetition at the start": start, "cot/repetition at the end": end}


def _copies(facts: Facts) -> Values | None:
    start, end = facts.start("cot/copied"), facts.end("cot/copied")
    if start is None or end is None or end <= 0.3 or end - start < 0.2:
        return None
    return {"cot/copied at the start": start, "cot/copied at the end": end}


def _reward_alone(facts: Facts) -> Values | None:
    if facts.result is None or facts.verdict["word"] != "no evidence" or not facts.has_risen("reward/answer_logprob"):
        return None
    start, end = facts.start("reward/answer_logprob"), facts.end("reward/answer_logprob")
    assert start is not None and end is not None
    return {"reward/answer_logprob at the start": start, "reward/answer_logprob at the end": end}


def _reward_flat(facts: Facts) -> Values | None:
    key, kl = "reward/answer_logprob", facts.end("policy/kl")
    if facts.has_risen(key) or kl is None or kl >= 0.01 or facts.verdict["word"] != "no evidence":
        return None
    return {"policy/kl": kl, "optim/lr": facts.end("optim/lr") or 0.0}


def _past_its_best(facts: Facts) -> Values | None:
    found = facts.result
    scores = _scores(facts)
    if found is None or len(scores) < 2 or facts.verdict["word"] == "collapsed":
        return None
    best, last = found["best_step"], max(scores)
    if best is None or best not in scores or best > 0.7 * last or scores[last] >= _low(facts, best, scores[best]):
        return None
    return {"best step": best, "last step": last, "score at the best": scores[best], "score at the last": scores[last]}


def _still_rising(facts: Facts) -> Values | None:
    scores = _scores(facts)
    if len(scores) < 3 or facts.verdict["word"] == "collapsed":
        return None
    *_, before, last = sorted(scores)
    if scores[last] != max(scores.values()) or _high(facts, before, scores[before]) >= scores[last]:
        return None
    return {"score at the last validation": scores[last], "score at the one before": scores[before]}


def _answer_first(facts: Facts) -> Values | None:
    share = facts.end("leak/answer_first")
    return {"leak/answer_first": share} if share is not None and share > 0.5 else None


def _too_few(facts: Facts) -> Values | None:
    found = facts.result
    if not found or found["measure"] != ACCURACY or not found["n"] or facts.verdict["word"] != "no evidence":
        return None
    detectable = detectable_effect(_stderr(found))
    return (
        {"problems": found["n"], "difference that is found in 80 % of cases": detectable} if detectable > 0.05 else None
    )


def _stderr(result: Mapping[str, Any]) -> float:
    """Standard error of trained less base: of the same problems where the answers were kept, else as if of others."""
    n: int = result["n"]
    if paired := result["difference"]:
        fixed, broken = int(paired["fixed"]), int(paired["broken"])
        return math.sqrt(max(fixed + broken - (fixed - broken) ** 2 / n, 1)) / n
    share = float(result["base"][ACCURACY] + result["trained"][ACCURACY]) / 2
    return math.sqrt(2 * max(share * (1 - share), 1 / n) / n)


def _clipped(facts: Facts) -> Values | None:
    share = facts.end("ppo/clip_fraction")
    return {"ppo/clip_fraction": share} if share is not None and share > 0.3 else None


def _sampler_differs(facts: Facts) -> Values | None:
    gap, truncated = facts.end("rollout/logprob_gap"), facts.end("rollout/importance_truncated")
    if gap is None or gap <= 0.05:
        return None
    return {"rollout/logprob_gap": gap} | ({} if truncated is None else {"rollout/importance_truncated": truncated})


def _skipped(facts: Facts) -> Values | None:
    skipped = sum(facts.columns.get("optim/skipped", {}).values())
    return {"updates left out": skipped} if skipped else None


def _too_long(facts: Facts) -> Values | None:
    share = facts.end("data/too_long")
    return {"data/too_long": share} if share else None


def _not_probed(facts: Facts) -> Values | None:
    found = facts.result
    if facts.verdict["word"] != "improved" or facts.stages.get("probe") or not found:
        return None
    return {"problems": found["n"]}


def _scores(facts: Facts) -> dict[int, float]:
    key = _score_key(facts)
    return facts.columns.get(key, {}) if key else {}


def _score_key(facts: Facts) -> str | None:
    key = held_out_key(facts.columns)
    return key if key and key.endswith(f"/{ACCURACY}") else None


def _low(facts: Facts, step: int, otherwise: float) -> float:
    return facts.columns.get(f"{_score_key(facts)}_low", {}).get(step, otherwise)


def _high(facts: Facts, step: int, otherwise: float) -> float:
    return facts.columns.get(f"{_score_key(facts)}_high", {}).get(step, otherwise)


RULES = (
    Rule(
        "reader_cannot_read",
        _reader_cannot_read,
        "The reader gives back fewer than half of the answers that are stated to it, so the reward is mostly noise.",
        "Try other prompts with markov-cot sample --reader-check (prompt.answer, prompt.examples), or another reader.",
    ),
    Rule(
        "reader_hears_nothing",
        _reader_hears_nothing,
        "A stated answer is hardly more probable to the reader than one after no CoT at all.",
        "Change what the reader is shown (prompt.answer, prompt.examples) before anything else.",
    ),
    Rule(
        "below_floor",
        _below_floor,
        "The reader does better with no CoT than with the trained ones: what was gained may be that they mislead less.",
        "Compare with no CoT and with another question's (markov-cot probe --test empty --test swap). Where the base "
        "hardly ever states the answer (cot/answer_in_cot), begin with easier problems, or with sft on CoTs that do.",
    ),
    Rule(
        "dead_groups",
        _dead_groups,
        "In most groups all CoTs have the same reward, so they teach nothing.",
        "Raise rollout.samples or rollout.temperature, or sample such groups again (algorithm.resample_dead).",
    ),
    Rule(
        "far_from_base",
        _far_from_base,
        "The policy has moved far from its reference; CoTs may be a code that only this reader knows.",
        "Raise algorithm.kl_weight or lower optim.lr; markov-cot transfer shows whether others can read the CoTs.",
    ),
    Rule(
        "entropy_gone",
        _entropy_gone,
        "Entropy has fallen to a small part of its start, so that samples differ less and less.",
        "Lower optim.lr, raise algorithm.kl_weight, or set algorithm.entropy_weight.",
    ),
    Rule(
        "repeats_itself",
        _repeats_itself,
        "CoTs have come to repeat themselves.",
        "Shorten rollout.length to what the problems need, or raise algorithm.kl_weight.",
    ),
    Rule(
        "copies",
        _copies,
        "CoTs have come to copy the passage or the question.",
        "The gain may be copying: make it dear (reward.copy_penalty), or CoTs shorter than what there is to copy.",
    ),
    Rule(
        "reward_alone",
        _reward_alone,
        "The log-prob of the answer rose while training; the held-out score did not change significantly.",
        "See which tokens of the answer gained: its form may have become more probable, and not the answer. Or too few "
        "problems were asked.",
    ),
    Rule(
        "reward_flat",
        _reward_flat,
        "The policy has hardly moved from its reference, and the reward has not risen.",
        "Raise optim.lr or steps; check that groups have variance (reward/group_std).",
    ),
    Rule(
        "past_its_best",
        _past_its_best,
        "The last held-out score is under the interval of the best one, which was long before the end.",
        "Use the checkpoint best, and stop earlier next time (validation.patience).",
    ),
    Rule(
        "still_rising",
        _still_rising,
        "The last validation is the best, and above the interval of the one before.",
        "Train for more steps.",
    ),
    Rule(
        "answer_first",
        _answer_first,
        "Most CoTs state the answer before any reasoning.",
        "The CoT is then an answer with a comment. Ask for reasoning first (prompt.question, prompt.cot_prefix), and "
        "see what markov-cot probe --test truncate_front does.",
    ),
    Rule(
        "too_few_problems",
        _too_few,
        "With so few held-out problems even a difference of this size is often missed.",
        "Raise validation.final_problems, or evaluate on the whole test split (markov-cot eval).",
    ),
    Rule(
        "clipped",
        _clipped,
        "Much of the update is clipped away.",
        "Lower optim.lr, or take fewer algorithm.inner_epochs.",
    ),
    Rule(
        "sampler_differs",
        _sampler_differs,
        "Sampling and scoring round so differently that the policy gradient is of another policy.",
        "Compute in float32 (model.dtype), or set rollout.decoder=plain.",
    ),
    Rule(
        "skipped_updates",
        _skipped,
        "Updates were left out because their gradient was not finite.",
        "Lower optim.lr; in bfloat16 try model.dtype=float32.",
    ),
    Rule(
        "too_long",
        _too_long,
        "Some training problems are too long for the model's context and were left out.",
        "Shorten rollout.length or the prompts, or use a model with a longer context.",
    ),
    Rule(
        "not_probed",
        _not_probed,
        "The score rose; whether the CoT carries the answer is not known yet.",
        "Run markov-cot probe, with --against a run whose reader sees the question.",
    ),
)
