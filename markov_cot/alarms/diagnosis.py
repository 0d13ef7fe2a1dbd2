"""What an alarm says: what was seen, since when, an example, the likely cause, what to change."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from markov_cot.alarms.gauge import Reading

CAUSE, CHANGE = "Likely cause: ", " What to change: "
EXAMPLE_LENGTH = 160
HIGH_LR = 1e-3
PUBLISHED_PPO = "ppo (published code)"
"""What `algorithm.loss` is set to for logs of the published code with `use_ppo`."""


class Text(NamedTuple):
    """`seen` holds {metrics}, `changes` hold <settings>; both are filled in."""

    seen: str
    cause: str
    changes: tuple[str, ...]
    """Sentences that other texts may have too; each is said once."""


PULL_BACK = "Lower <optim.lr>, raise <algorithm.kl_weight>."
BACK = "Continue from a checkpoint of before."
KEEP_BEST = "Keep the checkpoint `best`."
LOWER_LR = "Lower <optim.lr>."
LOWER_CLIP = "Lower <optim.grad_clip>."
FEWER_EPOCHS = "Take fewer inner epochs."
FEWER_STEPS = "Train for fewer steps (<validation.patience>)."
RAISE_KL = "Raise <algorithm.kl_weight>."
SHORTEN = "Shorten <rollout.length>."
FLOAT32 = "Compute in float32 (<model.dtype>)."

TEXTS: dict[tuple[str, str], Text] = {
    ("ratio", "drift"): Text(
        "The actor gives the tokens of its CoTs {policy/reference_ratio:.3g} times the probability that the untrained "
        "base gives them (geometric mean per token; 1 at the start)",
        "The policy has drifted away from the base, where the critic can no longer read it; it is the usual forerunner "
        "of a collapse.",
        (PULL_BACK, BACK),
    ),
    ("ratio", "mean"): Text(
        "The mean ratio of the updated policy to the one that sampled is {ppo/ratio_mean:.3g}, and should be near 1",
        "The update goes far beyond what the samples support, or the log-probs of sampling and of scoring disagree.",
        (LOWER_LR, FEWER_EPOCHS, "See that rollout/logprob_gap is within rounding."),
    ),
    ("ratio", "max"): Text(
        "One token became {ppo/ratio_max:.3g} times as probable within a step as when it was sampled",
        "Single tokens dominate the update.",
        (LOWER_LR, LOWER_CLIP, FEWER_EPOCHS),
    ),
    ("ratio", "clip"): Text(
        "A share of {ppo/clip_fraction:.2f} of the tokens lies beyond the clip range",
        "The inner epochs move the policy further than the clip allows, so most samples have no gradient left.",
        (LOWER_LR, FEWER_EPOCHS),
    ),
    ("reward", "fall"): Text(
        "The smoothed {what} is {smoothed:.2f} nats, {fall:.2f} below its best of {best:.2f}, which is more than its "
        "noise explains",
        "Training undoes what it had learnt.",
        (
            PULL_BACK,
            "Or average over more samples with <rollout.problems> and <rollout.samples>.",
            "The checkpoint `best` is of before the fall.",
        ),
    ),
    ("reward", "base"): Text(
        "The smoothed {what} is {smoothed:.2f} nats, {below:.2f} below the base's (or below where it began, "
        "{reference:.2f}), which is more than its noise explains",
        "The CoTs help the answerer less than those of the untrained base do.",
        (PULL_BACK, "Look at the samples; the run has lost what the base could do."),
    ),
    ("reward", "plunge"): Text(
        "{what} is {value:.2f} nats, {below:.1f} below {reference:.2f} (its best, or the base)",
        "The CoTs have become worse than useless: after them the true answer is next to impossible. It is what a "
        "collapsed policy looks like.",
        (BACK, PULL_BACK, "Or lower <algorithm.actor_reward_weight> if it is not 0."),
    ),
    ("repetition", "repetition"): Text(
        "{what} is {value:.3g}, against {base:.3g} for the base: {way:.0%} of the way to nothing but repetition",
        "The CoTs loop or repeat one token: the policy is collapsing, or <rollout.length> is longer than the problems "
        "need and the rest is filled up.",
        (PULL_BACK, "If the reward is fine, shorten <rollout.length>."),
    ),
    ("entropy", "fall"): Text(
        "The actor's entropy is {policy/entropy:.2g} nats per token, from {start:.2g} at the start",
        "The policy has become deterministic: all samples of a group will be the same, and nothing can be learnt from "
        "them.",
        (PULL_BACK, "Or raise <rollout.temperature>."),
    ),
    ("entropy", "rise"): Text(
        "The actor's entropy rose to {policy/entropy:.2g} nats per token, from {start:.2g} at the start",
        "The policy is turning into noise, as after updates that are far too large.",
        (LOWER_LR, LOWER_CLIP, "Raise <optim.warmup_steps>.", BACK),
    ),
    ("kl", "kl"): Text(
        "The KL divergence from the base is {policy/kl:.3g} nats per token",
        "The policy has left the base faster than any useful reasoning asks for.",
        (PULL_BACK, BACK),
    ),
    ("kl", "rise"): Text(
        "The KL divergence from the base leapt to {policy/kl:.3g} nats per token, on average {rise:.2g} above the "
        "slow rise that training explains",
        "The updates are too large; collapses begin like this.",
        (PULL_BACK, LOWER_CLIP, BACK),
    ),
    ("dead_groups", "dead"): Text(
        "A share of {reward/zero_variance_share:.2f} of the groups has no variance in its rewards",
        "Every sample of a group gets the same reward, so the run costs time and learns nothing: problems that are all "
        "too hard or too easy, or a policy that always writes the same.",
        (
            "Use problems of another difficulty, more samples (<rollout.samples>) or a higher <rollout.temperature>; "
            "<algorithm.sigma_floor> says what counts as no variance.",
        ),
    ),
    ("dead_groups", "solved"): Text(
        "A share of {reward/zero_variance_share:.2f} of the groups has no variance, at a reward near its ceiling",
        "The problems are solved; there is little left to learn from them.",
        ("Stop, or continue with harder problems.",),
    ),
    ("divergence", "hacking"): Text(
        "{what} fell to {accuracy:.3f} from its peak of {peak:.3f}, beyond its interval, while the training reward did "
        "not fall ({reward_then:.2f} then, {reward:.2f} now, nats)",
        "The policy earns reward by something other than reasoning well, such as hedging so that the critic is never "
        "confidently wrong.",
        (KEEP_BEST, PULL_BACK, FEWER_STEPS, "Or use a stronger base as critic."),
    ),
    ("divergence", "accuracy"): Text(
        "{what} fell to {accuracy:.3f} from its peak of {peak:.3f}, beyond its interval",
        "The policy answers unseen problems worse than it did.",
        (KEEP_BEST, PULL_BACK, FEWER_STEPS),
    ),
    ("non_finite", "rows"): Text(
        "Row after row is not finite: {what}",
        "Numbers overflow, as with too large updates or too few bits. Updates with such gradients are skipped.",
        (LOWER_LR, LOWER_CLIP, FLOAT32),
    ),
    ("non_finite", "applied"): Text(
        "The loss or its gradient is not finite, and the update was not skipped: {what}",
        "The parameters are very likely lost: every later step starts from NaN.",
        (BACK, LOWER_LR, FLOAT32),
    ),
    ("leak", "answer_first"): Text(
        "A share of {leak/answer_first:.2f} of the CoTs states the answer before any reasoning, against {base:.2f} for "
        "the base",
        "The actor solves the problem within itself and the CoT only carries the result, so there is no reasoning to "
        "read.",
        ("Use problems that the model cannot solve at a glance.", RAISE_KL, FEWER_STEPS),
    ),
    ("leak", "cut"): Text(
        "With the reasoning cut away the answer's log-prob is still {leak/answer_logprob_cut:.2f} nats, against "
        "{reward/answer_logprob:.2f} with it: {kept:.0%} of the gain over the base is left",
        "The reasoning is not what carries the answer: it is stated up front, or coded into a few tokens.",
        ("Read the samples.", RAISE_KL, "Use harder problems.", SHORTEN),
    ),
}


def diagnose(
    alarm: str, readings: Sequence[Reading], step: int, since: int, example: str | None, settings: Mapping[str, Any]
) -> str:
    """One paragraph on the readings of one alarm that are at its level. `settings` are the run's, flat.

    `example` is a CoT of this very step; None where there is no sample of it, which is said.
    """
    texts = [TEXTS[alarm, reading.kind] for reading in readings]
    seen = "; ".join(
        text.seen.format_map({**reading.seen, "what": reading.what})
        for text, reading in zip(texts, readings, strict=True)
    )
    when = f"at step {step}" if since == step else f"since step {since}, now step {step}"
    parts = [f"{seen} ({when})."]
    if example is None:
        parts.append(f"There is no sample CoT of step {step} to quote.")
    elif shown := " ".join(example.split()):
        cut = shown[:EXAMPLE_LENGTH] + ("..." if len(shown) > EXAMPLE_LENGTH else "")
        parts.append(f'Example CoT: "{cut}".')
    causes = [*dict.fromkeys(text.cause for text in texts), *_suspects(settings)]
    changes = dict.fromkeys(change for text in texts for change in text.changes)
    advice = f"{CAUSE}{' '.join(causes)}{CHANGE}{' '.join(changes)}"
    parts.append(re.sub(r"<([a-z_]+\.[a-z_]+)>", lambda match: _setting(match[1], settings), advice))
    return " ".join(parts)


def eased(alarm: str, step: int, before: str, now: str) -> str:
    """Of an alarm whose level has fallen."""
    what = "is over" if now == "cleared" else f"has eased from {before} to {now}"
    return f"The {alarm} alarm {what} at step {step}."


def _setting(key: str, settings: Mapping[str, Any]) -> str:
    return f"{key} (now {settings[key]})" if key in settings else key


def _suspects(settings: Mapping[str, Any]) -> list[str]:
    """What in the settings is known to end badly."""
    found = []
    if settings.get("algorithm.loss") == PUBLISHED_PPO:
        found.append(
            "This run used the published code's PPO, which takes its ratio against the frozen base instead of the "
            "policy that sampled, and drops the KL term: use algorithm.loss=ppo of this project."
        )
    lr, kl_weight = settings.get("optim.lr"), settings.get("algorithm.kl_weight")
    if isinstance(lr, float | int) and lr >= HIGH_LR:
        found.append(f"The learning rate of {lr} is high; 1e-4 is usual for LoRA.")
    if kl_weight == 0:
        found.append("Nothing pulls the policy back to the base: algorithm.kl_weight is 0.")
    return found
