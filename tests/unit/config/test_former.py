from __future__ import annotations

from markov_cot.config.former import in_todays_terms
from markov_cot.config.loading import apply, build_config
from markov_cot.config.schema import Config


def test_a_run_from_before_means_what_it_meant() -> None:
    saved = {"reward": {"answerer": "critic", "reduction": "sum"}, "prompt": {"markovian": False, "chat": True}}
    config = build_config(in_todays_terms(saved), "saved")
    assert (config.reward.reader, config.reward.reduction) == ("base", "sum")
    assert (config.prompt.preset, config.prompt.markovian) == ("paper", False)
    assert saved["reward"] == {"answerer": "critic", "reduction": "sum"}


def test_a_run_of_today_stays_as_it_is() -> None:
    values = Config().model_dump(mode="json")
    assert in_todays_terms(values) == values


def test_what_is_no_config_is_left_for_validation() -> None:
    for odd in ({}, {"reward": 3, "prompt": None}, {"reward": {"answerer": "judge"}}):
        assert in_todays_terms(odd) == odd


def test_a_setting_by_its_former_name_counts_over_the_recipes() -> None:
    values = apply({"reward": {"reader": "base"}}, {"reward.answerer": "actor"})
    assert build_config(values, "settings").reward.reader == "actor"
