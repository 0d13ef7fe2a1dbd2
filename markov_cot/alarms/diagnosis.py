"""What an alarm says: what was seen, since when, an example, the likely cause, what to change."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from markov_cot.alarms.alarm import Alarm
from markov_cot.alarms.changes import HIGH_LR
from markov_cot.alarms.gauge import Reading

CAUSE, CHANGE = "Likely cause: ", " What to change: "
EXAMPLE_LENGTH = 160
PUBLISHED_PPO = "ppo (published code)"
"""What `algorithm.loss` is set to for logs of the published code with `use_ppo`."""


def diagnose(
    alarm: Alarm, readings: Sequence[Reading], step: int, since: int, example: str | None, settings: Mapping[str, Any]
) -> str:
    """One paragraph on the readings of one alarm that are at its level. `settings` are the run's, flat.

    `example` is a CoT of this very step; None where there is no sample of it, which is said.
    """
    texts = [alarm.texts[reading.kind] for reading in readings]
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
