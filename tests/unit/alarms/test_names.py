"""Metrics under other trainers' names."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from markov_cot.alarms.logs.names import NAMES, Name, translate
from markov_cot.alarms.logs.published import KEYS
from markov_cot.alarms.registry import ALARMS

READ_BY_ALARMS = {key for alarm in ALARMS.values() for reads in alarm.reads for key in reads.split(" and ")}


@pytest.mark.parametrize("name", NAMES, ids=lambda name: f"{name.trainer}: {name.theirs}")
def test_every_name_is_read_as_ours(name: Name) -> None:
    assert translate({name.theirs: 0.5}) == {name.ours: 0.5}
    assert translate({f"train/{name.theirs}": 0.5}) == {name.ours: 0.5}


def test_the_page_has_every_name() -> None:
    page = (Path(__file__).parents[3] / "docs" / "doctor.md").read_text(encoding="utf-8")
    for theirs, ours in [*((name.theirs, name.ours) for name in NAMES), *KEYS.items()]:
        assert (f"`{theirs}`" if theirs == ours else f"`{theirs}` -> `{ours}`") in page, theirs


def test_what_a_trainer_logs_feeds_alarms() -> None:
    for trainer in {name.trainer for name in NAMES}:
        ours = {name.ours for name in NAMES if name.trainer == trainer}
        assert ours & (READ_BY_ALARMS | {"loss/total"}), trainer


def test_a_row_of_trl() -> None:
    row = {
        "loss": "0.0123",  # as the console shows it
        "grad_norm": 0.31,
        "reward": 0.62,
        "reward_std": 0.8,
        "kl": 0.05,
        "clip_ratio/region_mean": 0.1,
        "frac_reward_zero_std": None,
        "completions/mean_length": 424.3,
        "epoch": "n/a",
    }
    assert translate(row) == {
        "loss/total": 0.0123,
        "optim/grad_norm": 0.31,
        "reward/value": 0.62,
        "policy/kl": 0.05,
        "ppo/clip_fraction": 0.1,
        "reward_std": 0.8,
        "completions/mean_length": 424.3,
    }


def test_sums_over_tokens_are_not_taken_for_means() -> None:
    assert translate({"objective/kl": 40.0, "objective/entropy": 90.0}).keys() == {"objective/kl", "objective/entropy"}


def test_ours_stay_as_they_are() -> None:
    assert translate({"step": 3, "policy/kl": None, "kl": 0.5, "note": "x", "flag": True}) == {"policy/kl": None}


def test_the_first_in_the_table_counts() -> None:
    assert translate({"critic/rewards/mean": 1.0, "critic/score/mean": 2.0}) == {"reward/value": 2.0}


def test_what_is_not_finite_is_told_from_what_is_not_there() -> None:
    assert translate({"kl": None, "reward": None}) == {}
    found = translate({"kl": math.nan, "loss": "inf", "learning_rate": 10**400})
    assert math.isnan(found["policy/kl"] or 0) and found["loss/total"] == math.inf and found["optim/lr"] is None


@given(
    st.dictionaries(st.text(max_size=8), st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=4))
)
def test_any_row_is_taken(row: dict[str, float | str | None]) -> None:
    assert all(value is None or isinstance(value, float) for value in translate(row).values())
