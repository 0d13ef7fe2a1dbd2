"""What is printed at a run's end."""

from __future__ import annotations

import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from markov_cot.cli.outcome import by_reward
from markov_cot.config.loading import apply, build_config, read_assignments, read_recipe
from markov_cot.config.schema import Config


def ended(config: Config) -> Any:
    """A run of which only the settings matter."""
    return SimpleNamespace(
        session=SimpleNamespace(config=config), state=SimpleNamespace(folder=Path("checkpoints/r/3"))
    )


def test_the_printed_command_asks_as_the_warm_start_did() -> None:
    """Also where the recipe has a prompt for each kind of answer, and the run one for all, or none."""
    for prompt in ({"cot_prefix": "It is"}, {"cot_prefix": {"numeric": '"a\n\nb'}}, {"examples": None}):
        values = {"method": "sft", "data": {"dataset": "squad"}, "prompt": prompt, "sft": {"rows": "x.jsonl"}}
        config = build_config(values, "test")
        words = shlex.split(by_reward(ended(config)))
        assert words[1:4] == ["train", "--dataset", "squad"]
        sets = [words[i + 1] for i, word in enumerate(words) if word == "--set"]
        again = build_config(apply(read_recipe("squad"), read_assignments(sets)), "printed")
        assert (again.prompt, again.rollout.length) == (config.prompt, config.rollout.length)
