"""The benchmark of collapses: its recipes are valid, and onset means what it says."""

from __future__ import annotations

import importlib
import json
import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

from markov_cot.alarms.logs.entry import Entry
from markov_cot.config.loading import build_config
from markov_cot.config.yaml_files import read_yaml

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def scripts() -> Iterator[Callable[[str], ModuleType]]:
    """The benchmark and those beside it, which import from one another."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield importlib.import_module


@pytest.fixture(scope="module")
def collapses(scripts: Callable[[str], ModuleType]) -> ModuleType:
    return scripts("collapses")


@pytest.fixture(scope="module")
def alarm_quality(scripts: Callable[[str], ModuleType]) -> ModuleType:
    return scripts("alarm_quality")


def entries(rewards: Iterable[float], accuracies: dict[int, float]) -> list[Entry]:
    key = "eval/arithmetic/accuracy"
    rows = [Entry(step, {"reward/answer_logprob": reward}) for step, reward in enumerate(rewards, 1)]
    for step, accuracy in accuracies.items():
        rows[step - 1].metrics.update({key: accuracy, key + "_low": accuracy - 0.1, key + "_high": accuracy + 0.1})
    return rows


def test_onset_by_accuracy(collapses: ModuleType) -> None:
    flat = [-1.0] * 40
    assert collapses.onset(entries(flat, {10: 0.9, 20: 0.5, 30: 0.4, 40: 0.1})) == (30, "accuracy")
    assert collapses.onset(entries(flat, {10: 0.04, 20: 0.0})) == (None, ""), "0.0 lies within the interval of 0.04"


def test_onset_by_reward(collapses: ModuleType) -> None:
    # The average of -1, -1, ... and then -4 is 3 (1 - 0.9^k) lower after k rows: 0.81 at k = 3, 1.03 at k = 4.
    assert collapses.onset(entries([-1.0] * 100 + [-4.0] * 9, {})) == (104, "reward")


def test_every_recipe_is_a_valid_config(collapses: ModuleType) -> None:
    base = read_yaml((collapses.RECIPES / "base.yaml").read_text(), "base")
    names = {path.stem for path in collapses.RECIPES.glob("*.yaml")} - {"base"}
    assert names == set(collapses.NAMES)
    for name in names:
        values = collapses.merged(base, read_yaml((collapses.RECIPES / f"{name}.yaml").read_text(), name))
        config = build_config(values, name)
        assert config.alarms.action == "continue" and config.validation.every == 10
        rescued = build_config(collapses.merged(values, collapses.RESCUE), name)
        assert rescued.alarms.action == "rollback" and rescued.rollout.length == 48


def test_the_published_mistake_is_one(scripts: Callable[[str], ModuleType]) -> None:
    """Its ratio is against the base, so the clip holds the policy to the base and not to the one that sampled."""
    mistake = scripts("published_ppo").published_loss
    logp_BL, reference_BL = torch.tensor([[-1.0, -1.0]]), torch.tensor([[-1.5, -1.7]])
    advantage_B = torch.tensor([1.0])
    # exp(-1 + 1.6) = 1.82 is clipped to 1.2, although the CoT was only just sampled
    assert mistake(logp_BL, reference_BL, advantage_B, 0.2).tolist() == pytest.approx([-1.2])
    assert mistake(logp_BL, reference_BL, -advantage_B, 0.2).tolist() == pytest.approx([1.8221188])


@pytest.mark.parametrize("name", ["published-ppo", "weak-critic"])
def test_the_recipes_with_parts_of_their_own_train_a_step(collapses: ModuleType, name: str, tmp_path: Path) -> None:
    if name == collapses.WEAK:
        collapses.save_weak_base(tmp_path / name)
    few = {"problems": 2, "final_problems": 2}
    changes = {"steps": 1, "rollout": {"samples": 2, "length": 4}, "validation": few}
    run = collapses.train_recipe(tmp_path, name, 10, changes)
    row = json.loads((run / "log.jsonl").read_text().splitlines()[-1])
    assert row["step"] == 1 and math.isfinite(row["loss/total"]) and row["optim/grad_norm"] > 0


def test_every_healthy_recipe_is_a_valid_config(collapses: ModuleType) -> None:
    base = read_yaml((collapses.RECIPES / "base.yaml").read_text(), "base")
    names = {path.stem for path in collapses.HEALTHY_RECIPES.glob("*.yaml")}
    assert names == set(collapses.HEALTHY)
    for name in names:
        values = read_yaml((collapses.HEALTHY_RECIPES / f"{name}.yaml").read_text(), name)
        assert build_config(collapses.merged(base, values), name).alarms.action == "continue"


def test_quality_by_hand(alarm_quality: ModuleType) -> None:
    judged = alarm_quality.Judged
    runs = [
        judged("early", 40, True, {"kl": 30, "compression": 20}),
        judged("just in time", 40, True, {"reward": 65}),
        judged("late", 40, False, {"reward": 66}),
        judged("missed", 40, False, {}),
        judged("fine", None, True, {}),
        judged("false", None, True, {"compression": 10}),
        judged("neither", None, False, {"kl": 10}),
    ]
    assert alarm_quality.quality(runs, ("kl", "reward")) == (2, 1, 1, 0, [10, -25, -26])
    both = alarm_quality.quality(runs, ("kl", "reward", "compression"))
    assert both == (2, 1, 1, 1, [20, -25, -26])
    assert both.row("all", 4, 2) == "| all | 2 of 4 | 1 | 1 | 1 of 2 | -25 (-26 to +20) |"
