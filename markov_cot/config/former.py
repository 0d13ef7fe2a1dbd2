"""Settings that runs were saved with before a setting was renamed, or had another default."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markov_cot.config.reward import FORMER_READERS


def renamed(key: str, value: Any) -> tuple[str, Any]:
    """Return a setting by key with dots, as it is called today, with its value."""
    if key == "reward.answerer" and value in FORMER_READERS:
        return "reward.reader", FORMER_READERS[value]
    return key, value


def in_todays_terms(saved: Mapping[str, Any]) -> dict[str, Any]:
    """Return the whole config of a run, as a manifest or config.yaml has it, so that it means what it meant.

    `reward.answerer` became `reward.reader`, and what prompts were is the preset `paper`. Anything else is left for
    validation.
    """
    values = dict(saved)
    reward, prompt = values.get("reward"), values.get("prompt")
    if isinstance(reward, Mapping) and reward.get("answerer") in FORMER_READERS:
        rest = {key: value for key, value in reward.items() if key != "answerer"}
        values["reward"] = {**rest, "reader": FORMER_READERS[reward["answerer"]]}
    if isinstance(prompt, Mapping) and "preset" not in prompt:
        values["prompt"] = {**prompt, "preset": "paper"}
    return values
