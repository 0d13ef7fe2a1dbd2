from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from markov_cot.alarms.gauge import Gauge, Reading
from markov_cot.alarms.monitor import Event, Monitor
from markov_cot.alarms.registry import ALARMS
from markov_cot.alarms.smoothing import noise, smooth, smoothed_error, start
from markov_cot.config.alarms import Alarms
from markov_cot.config.loading import build_config, flatten
from markov_cot.config.schema import Config
from markov_cot.utils.errors import UserError

Rows = Sequence[dict[str, Any]]


def replay(rows: Iterable[dict[str, Any]], alarms: dict[str, Any] | None = None, **options: Any) -> list[Event]:
    monitor = Monitor(Alarms.model_validate(alarms or {}), **options)
    return [event for step, row in enumerate(rows, 1) for event in monitor.update(step, row)]


def changes(events: Iterable[Event]) -> list[tuple[str, str, int]]:
    return [(event.alarm, event.level, event.step) for event in events]


# --- running statistics


def test_smooth_by_hand() -> None:
    memory: dict[str, float] = {}
    assert smooth(memory, "x", 2.0, 0.9) == pytest.approx(2.0)
    assert smooth(memory, "x", 4.0, 0.9) == pytest.approx((0.9 * 0.2 + 0.4) / (0.9 * 0.1 + 0.1))  # 0.58 / 0.19


def test_start_is_the_mean_of_three() -> None:
    memory: dict[str, float] = {}
    assert [start(memory, "x", v) for v in (1.0, 3.0, 5.0, 99.0)] == [1.0, 2.0, 3.0, 3.0]


def test_noise_by_hand() -> None:
    memory: dict[str, float] = {}
    assert noise(memory, "x", 0.0) == 0
    assert noise(memory, "x", 2.0) == pytest.approx(math.sqrt(2))  # 2^2 / 2
    assert noise(memory, "x", 2.0) == pytest.approx(1.0)  # mean of 2 and 0


def test_a_collapse_hardly_passes_for_noise() -> None:
    memory: dict[str, float] = {}
    before = [noise(memory, "x", float(i % 2)) for i in range(60)][-1]
    assert before == pytest.approx(math.sqrt(0.5))
    # One change of 40 nats counts as five deviations: 0.98 * 0.5 + 0.02 * 25 * 0.5 = 0.74
    assert noise(memory, "x", -40.0) == pytest.approx(math.sqrt(0.74))


def test_error_of_a_moving_average() -> None:
    assert smoothed_error(3.0, 0.8) == pytest.approx(1.0)  # sqrt(0.2 / 1.8) = 1 / 3


# --- one gauge


def levels_of(values: Iterable[float], patience: int = 3, clear_rows: int = 2) -> list[int]:
    gauge, levels = Gauge(), []
    for step, value in enumerate(values):
        gauge.update(step, Reading("m", "k", float(value), 1.0, 2.0, 4.0), patience, 0.8, clear_rows)
        levels.append(gauge.level)
    return levels


def test_patience() -> None:
    assert levels_of([1, 1, 0.9, 1, 1, 1, 1]) == [0, 0, 0, 0, 0, 1, 1]
    assert levels_of([1, 1, 2, 2, 2]) == [0, 0, 1, 1, 2]
    assert levels_of([2, 2, 1.9, 2, 2]) == [0, 0, 1, 1, 1]


def test_one_row_at_the_hard_level() -> None:
    assert levels_of([0, 4]) == [0, 2]
    assert levels_of([0, 3.9]) == [0, 0]


def test_hysteresis() -> None:
    # Critical eases below 0.8 * 2 for two rows, and then to warn while at or above 0.8 * 1.
    assert levels_of([4, 1.7, 1.7, 1.7]) == [2, 2, 2, 2]
    assert levels_of([4, 1.5, 1.7, 1.5, 1.5]) == [2, 2, 2, 2, 1]
    assert levels_of([4, 0, 0]) == [2, 2, 0]
    assert levels_of([1, 1, 1, 0.85, 0.85, 0.7, 0.7]) == [0, 0, 1, 1, 1, 1, 0]


def test_since_is_the_first_row_of_the_excursion() -> None:
    gauge = Gauge()
    for step, value in ((10, 0.0), (20, 1.0), (30, 0.0), (40, 1.0), (50, 2.0), (60, 2.0), (70, 2.0)):
        gauge.update(step, Reading("m", "k", float(value), 1.0, 2.0), 3, 0.8, 2)
    assert (gauge.level, gauge.since) == (2, 40)


# --- each alarm: rows that are fine, and rows that are not

FINE: dict[str, float] = {
    "loss/total": 0.01,
    "optim/grad_norm": 0.1,
    "optim/skipped": 0.0,
    "reward/answer_logprob": -1.5,
    "reward/zero_variance_groups": 0,
    "policy/reference_ratio": 1.0,
    "policy/kl": 0.0,
    "policy/entropy": 0.9,
    "ppo/ratio_mean": 1.0,
    "ppo/ratio_max": 1.1,
    "ppo/clip_fraction": 0.05,
    "cot/repetition": 0.08,
    "cot/longest_run": 0.03,
    "cot/distinct": 0.7,
    "cot/compression": 1.3,
    "cot/refusal": 0.0,
    "cot/symbols": 0.01,
    "cot/answer_in_cot": 0.5,
    "leak/answer_first": 0.1,
}
WITHOUT_RISE = {"rise_warn": 9.0, "rise_critical": 9.0}
P4 = {"settings": {"rollout.problems": 4}}

SICK: list[tuple[str, str, dict[str, Any], int]] = [
    # alarm, level reached, what changes, rows until then at the default settings
    ("ratio", "critical", {"policy/reference_ratio": 21.75}, 1),
    ("ratio", "critical", {"policy/reference_ratio": math.exp(1.6)}, 3),
    ("ratio", "critical", {"policy/reference_ratio": math.exp(-1.6)}, 3),
    ("ratio", "warn", {"policy/reference_ratio": math.exp(1.2)}, 3),
    ("ratio", "critical", {"policy/reference_ratio": 0.0}, 1),
    ("ratio", "critical", {"ppo/ratio_mean": 2.1}, 3),
    ("ratio", "critical", {"ppo/ratio_max": 2000.0}, 3),
    ("ratio", "critical", {"ppo/clip_fraction": 0.8}, 3),
    ("reward", "critical", {"reward/answer_logprob": -41.0}, 1),
    ("reward", "critical", {"reward/normalized": -39.25}, 1),
    # The average falls by 4 * (1 - 0.9^k), 1.638 at k = 5, which is past 1.5 and the noise of one jump; patience 5
    ("reward", "critical", {"reward/answer_logprob": -5.5}, 9),
    ("repetition", "critical", {"cot/repetition": 0.99}, 1),
    ("repetition", "critical", {"cot/longest_run": 0.9}, 5),
    ("repetition", "critical", {"cot/distinct": 0.1}, 5),
    ("repetition", "critical", {"cot/compression": 8.0}, 5),
    ("repetition", "warn", {"cot/repetition": 0.6}, 5),
    ("entropy", "critical", {"policy/entropy": 0.0}, 1),
    ("entropy", "critical", {"policy/entropy": 0.01}, 5),
    ("entropy", "warn", {"policy/entropy": 0.06}, 5),
    ("entropy", "critical", {"policy/entropy": 2.5}, 5),
    ("entropy", "critical", {"policy/entropy": 4.0}, 1),
    ("kl", "critical", {"policy/kl": 4.0}, 1),
    ("kl", "critical", {"policy/kl": 2.5}, 3),
    ("kl", "warn", {"policy/kl": 1.5}, 3),
    # The average is 0.5 (1 - 0.8^k) after k rows, and the pace 0.01 k: 0.16 at k = 2, 0.309 at k = 6; patience 3
    ("kl", "warn", {"policy/kl": 0.5}, 4),
    ("kl", "critical", {"policy/kl": 0.5}, 8),
    ("dead_groups", "critical", {"reward/zero_variance_groups": 4}, 103),  # past 0.95 at row 54, patience 50
    ("dead_groups", "critical", {"reward/zero_variance_share": 1.0}, 103),
    ("non_finite", "critical", {"loss/total": math.nan}, 1),
    ("non_finite", "critical", {"optim/grad_norm": None}, 1),
    ("non_finite", "warn", {"policy/kl": math.nan}, 1),
    ("non_finite", "critical", {"policy/kl": math.inf}, 3),  # 1 + 0.9 + 0.81
    ("non_finite", "warn", {"optim/skipped": 1.0, "loss/total": math.nan}, 1),
    ("non_finite", "critical", {"optim/skipped": 1.0, "loss/total": math.nan}, 3),
    ("leak", "critical", {"leak/answer_first": 0.95}, 20),
    ("leak", "warn", {"leak/answer_first": 0.6}, 20),
    ("leak", "critical", {"reward/baseline_logprob": -3.0, "leak/answer_logprob_cut": -1.51}, 20),
    # After k rows of 1 and 30 of 0 the average is (1 - 0.9^k) / (1 - 0.9^(30 + k)): 0.354 at k = 4, 0.623 at k = 9
    ("refusal", "warn", {"cot/refusal": 1.0}, 8),
    ("refusal", "critical", {"cot/refusal": 1.0}, 13),
    # The same of 0.5: 0.052 at k = 1, 0.098 at k = 2, 0.14 at k = 3
    ("symbols", "warn", {"cot/symbols": 0.51}, 5),
    ("symbols", "critical", {"cot/symbols": 0.51}, 7),
]


@pytest.mark.parametrize(("alarm", "level", "change", "rows"), SICK)
def test_alarms_fire_when_due(alarm: str, level: str, change: dict[str, Any], rows: int) -> None:
    sick = [FINE] * 30 + [FINE | change] * (rows + 5)
    events = [event for event in replay(sick, **P4) if event.alarm == alarm]
    assert (alarm, level, 30 + rows) in changes(events)
    if level == "warn":
        assert not any(event.is_critical for event in events if event.step <= 30 + rows)
    assert {event.alarm for event in replay(sick, **P4)} == {alarm}, "and no other"


def test_fine_rows_are_fine() -> None:
    assert replay([FINE] * 300, **P4) == []


def test_alarms_clear() -> None:
    rows = [FINE] * 20 + [FINE | {"policy/kl": 2.5}] * 5 + [FINE | {"policy/kl": 1.2}] * 12 + [FINE] * 20
    events = replay(rows, {"kl": WITHOUT_RISE})
    # critical at the third row; below 0.8 * 2 for ten rows: warn; below 0.8 * 1 for ten: over
    assert changes(events) == [("kl", "critical", 23), ("kl", "warn", 35), ("kl", "cleared", 47)]
    assert events[2].diagnosis == "The kl alarm is over at step 47."
    assert [e.since for e in events] == [21, 35, 47], "what is over is over since then"


def test_solved_problems_only_warn() -> None:
    rows = [FINE | {"reward/zero_variance_groups": 4, "reward/answer_logprob": -0.01}] * 300
    assert changes(replay(rows, **P4)) == [("dead_groups", "warn", 50)]


def test_dead_groups_need_to_know_how_many_there_are() -> None:
    assert replay([FINE | {"reward/zero_variance_groups": 4}] * 200) == []


def validation(accuracy: float, reward: float) -> dict[str, float]:
    low, high = accuracy - 0.09, accuracy + 0.09
    key = "eval/arithmetic/accuracy"
    return FINE | {key: accuracy, key + "_low": low, key + "_high": high, "reward/answer_logprob": reward}


def hacking(accuracies: Iterable[float], reward_step: float) -> list[dict[str, float]]:
    """Nine rows and a validation, again and again, while the reward changes by `reward_step` from row to row."""
    rows = []
    for i, accuracy in enumerate(accuracies):
        rewards = [-4 + reward_step * (10 * i + j) for j in range(1, 11)]
        rows += [FINE | {"reward/answer_logprob": r} for r in rewards[:9]] + [validation(accuracy, rewards[9])]
    return rows


def test_divergence() -> None:
    events = replay(hacking([0.2, 0.4, 0.5, 0.45, 0.3, 0.3, 0.3], 0.05))
    # 0.45 lies within the interval; 0.3 is 40 % below the peak and beyond it, at two validations running
    assert changes(events) == [("divergence", "critical", 60)]
    assert "eval/arithmetic/accuracy fell to 0.300 from its peak of 0.500" in events[0].diagnosis
    assert events[0].since == 50


def test_halved_accuracy_is_critical_whatever_the_reward_does() -> None:
    events = replay(hacking([0.2, 0.5, 0.2], -0.1))
    assert ("divergence", "critical", 30) in changes(events)
    assert "answers unseen problems worse" in next(e for e in events if e.alarm == "divergence").diagnosis


def test_falling_accuracy_with_a_falling_reward_is_left_to_the_reward_alarm() -> None:
    assert not any(e.is_critical for e in replay(hacking([0.5, 0.3, 0.3, 0.3], -0.03)))


def test_an_accuracy_within_its_interval_says_nothing() -> None:
    assert replay(hacking([0.5, 0.35, 0.5, 0.34, 0.35, 0.36] * 5, 0.001)) == []


def test_divergence_from_the_validation_before_the_first_step() -> None:
    first = {k: v for k, v in validation(0.5, 0.0).items() if k.startswith("eval/")}
    rows = [first, *hacking([0.3, 0.29], 0.05)]
    assert [e.alarm for e in replay(rows) if e.is_critical] == ["divergence"]


def test_the_reward_against_the_base() -> None:
    # From the first row on 2 nats worse than the base's own CoTs, then 4: there never was a best to fall from.
    rows = [FINE | {"reward/normalized": -2.0}] * 20 + [
        FINE | {"reward/normalized": -2.0 - 0.05 * i} for i in range(60)
    ]
    events = [e for e in replay(rows, {"reward": {"noise": 0.001}}) if e.alarm == "reward"]
    assert [e.level for e in events][-1] == "critical"
    assert "below the base's (or below where it began, -2.00)" in events[0].diagnosis
    assert replay([FINE | {"reward/normalized": -2.0}] * 80) == [], "where it begins it may stay"


def test_reward_levels_follow_the_noise() -> None:
    """Alternating rewards 6 nats apart dip far more than `critical` without an alarm."""
    rows = [{"reward/answer_logprob": -2 - 6 * (i // 4 % 2)} for i in range(400)]
    assert not any(event.is_critical for event in replay(rows))


def kl_rows(values: Iterable[float]) -> Rows:
    return [{"policy/kl": value} for value in values]


def test_a_slow_rise_of_the_kl_is_fine_and_a_leap_is_not() -> None:
    assert replay(kl_rows(0.009 * i for i in range(100))) == []
    # The average is 0.04 k - 0.16 (1 - 0.8^k) after k rows and the pace 0.01 k, so the rise is 0.157 at k = 10 and
    # 0.325 at k = 16; patience 3.
    events = replay(kl_rows([0.0] * 30 + [0.04 * k for k in range(1, 19)]))
    assert changes(events) == [("kl", "warn", 42), ("kl", "critical", 48)]
    assert "leapt to 0.72 nats per token" in events[1].diagnosis


def test_the_pace_counts_steps_and_not_rows() -> None:
    """0.5 nats in 100 steps are drift, the same in one are a leap."""
    values = [0.0] * 30 + [0.5] * 20
    far = Monitor(Alarms())
    assert [e for i, row in enumerate(kl_rows(values)) for e in far.update(100 * i, row)] == []
    assert [e.level for e in replay(kl_rows(values))] == ["warn", "critical"]


def test_the_kl_of_few_questions_a_step_is_noisy() -> None:
    rng = Random(0)
    assert replay(kl_rows(0.5 + rng.gauss(0, 0.1) for _ in range(2000))) == []


# --- settings


def test_alarms_can_be_switched_off() -> None:
    assert replay([FINE, FINE | {"policy/kl": 9.0}], {"kl": {"enabled": False}}) == []
    assert "alarm/kl" not in Monitor(Alarms.model_validate({"kl": {"enabled": False}})).scalars()


def test_levels_can_be_set() -> None:
    rows = [FINE | {"policy/kl": 0.3}] * 4
    assert changes(replay(rows, {"kl": {"warn": 0.1, "critical": 0.2, "patience": 2}})) == [("kl", "critical", 2)]


def test_a_baseline_stands_in_for_the_first_rows() -> None:
    rows = [{"cot/repetition": 0.9}] * 5
    assert replay(rows) == []
    assert changes(replay(rows, baseline={"cot/repetition": 0.1})) == [("repetition", "critical", 5)]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kl": {"warn": 3.0}}, "alarms.kl.warn: must not be above critical, which is 2.0"),
        ({"kl": {"critical": 9.0}}, "alarms.kl.critical: must not be above hard, which is 4.0"),
        ({"ratio": {"clip_warn": 0.9}}, "alarms.ratio.clip_warn: must not be above clip_critical, which is 0.7"),
        ({"kl": {"patience": 0}}, "alarms.kl.patience: input should be greater than 0, got 0"),
        ({"kl": {"patience": True}}, "alarms.kl.patience: expected a number, got true"),
        ({"kl": {"wran": 1}}, "unknown key alarms.kl.wran; did you mean alarms.kl.warn?"),
        ({"kll": {}}, "unknown key alarms.kll; did you mean alarms.kl?"),
        ({"kl": 3}, "alarms.kl: input should be a valid dictionary"),
        ({"action": "panic"}, "alarms.action: input should be 'continue', 'stop' or 'rollback', got 'panic'"),
        ({"rollback_lr_factor": 1.0}, "alarms.rollback_lr_factor: input should be less than 1, got 1.0"),
    ],
)
def test_wrong_settings_name_the_key(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as error:
        build_config({"alarms": values}, "file.yaml")
    assert str(error.value).startswith(f"file.yaml: {message}")


def test_every_alarm_has_its_settings() -> None:
    assert all(getattr(Alarms(), name).enabled for name in ALARMS)


# --- what an alarm says


def test_the_diagnosis() -> None:
    config = Config.model_validate(
        {"optim": {"lr": 1e-2}, "algorithm": {"kl_weight": 0}, "alarms": {"kl": WITHOUT_RISE}}
    )
    monitor = Monitor(config.alarms, flatten(config.model_dump(mode="json")))
    for step in range(1, 11):
        monitor.update(step, FINE)
    monitor.update(11, FINE | {"policy/kl": 2.5})
    monitor.update(12, FINE | {"policy/kl": 2.5})
    (event,) = monitor.update(13, FINE | {"policy/kl": 2.625}, "The answer  is\n444 <optim.lr> {}" + "4" * 500)
    assert (event.alarm, event.level, event.step, event.since) == ("kl", "critical", 13, 11)
    assert event.values == {"policy/kl": 2.625}
    assert event.diagnosis.startswith(
        "The KL divergence from the reference is 2.62 nats per token (since step 11, now step 13). "
        'Example CoT: "The answer is 444 <optim.lr> {}444'
    )
    assert '4...". Likely cause: ' in event.diagnosis
    assert "The learning rate of 0.01 is high" in event.diagnosis
    assert "algorithm.kl_weight is 0" in event.diagnosis
    assert "Lower optim.lr (now 0.01), raise algorithm.kl_weight (now 0.0)" in event.diagnosis
    assert "\n" not in event.diagnosis
    assert json.loads(json.dumps(event.as_json()))["since"] == 11


def test_scalars_are_levels() -> None:
    monitor = Monitor(Alarms())
    monitor.update(1, FINE | {"policy/kl": 5.0})
    assert monitor.scalars() == {f"alarm/{name}": 2.0 if name == "kl" else 0.0 for name in ALARMS}


def test_texts_name_only_settings_there_are() -> None:
    keys = flatten(Config().model_dump())
    for text in (text for alarm in ALARMS.values() for text in alarm.texts.values()):
        for part in " ".join([*text.changes, text.cause]).split("<")[1:]:
            assert part.split(">")[0] in keys


# --- robustness

anything = st.none() | st.floats() | st.integers(-3, 3)
keys = st.sampled_from(
    [
        *FINE,
        "reward/normalized",
        "reward/baseline_logprob",
        "reward/zero_variance_share",
        "leak/answer_logprob_cut",
        "eval/a/accuracy",
        "eval/a/accuracy_low",
        "eval/a/accuracy_high",
        "unknown",
    ]
)


@given(st.lists(st.dictionaries(keys, anything), max_size=25), st.integers(0, 25))
@settings(deadline=None)
def test_any_rows_are_taken_and_a_saved_state_goes_on_the_same(rows: Rows, cut: int) -> None:
    whole = Monitor(Alarms(), **P4)
    expected = [event for step, row in enumerate(rows) for event in whole.update(step, row)]
    first = Monitor(Alarms(), **P4)
    events = [event for step, row in enumerate(rows[:cut]) for event in first.update(step, row)]
    second = Monitor(Alarms(), **P4)
    second.load_state_dict(json.loads(json.dumps(first.state_dict(), allow_nan=False)))
    events += [event for step, row in enumerate(rows[cut:], len(rows[:cut])) for event in second.update(step, row)]
    assert events == expected
    assert second.state_dict() == whole.state_dict() and second.scalars() == whole.scalars()


@pytest.mark.parametrize(("alarm", "level", "change", "rows"), SICK)
def test_a_state_saved_within_an_excursion(alarm: str, level: str, change: dict[str, Any], rows: int) -> None:
    sick = [FINE] * 30 + [FINE | change] * (rows + 5)
    cut = 30 + rows - 1
    first, second = Monitor(Alarms(), **P4), Monitor(Alarms(), **P4)
    events = [event for step, row in enumerate(sick[:cut], 1) for event in first.update(step, row)]
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    events += [event for step, row in enumerate(sick[cut:], cut + 1) for event in second.update(step, row)]
    assert events == replay(sick, **P4)


def test_a_state_without_an_alarm_starts_it_anew() -> None:
    monitor = Monitor(Alarms())
    monitor.update(1, FINE | {"policy/kl": 9.0})
    state = monitor.state_dict()
    del state["kl"]
    monitor.load_state_dict(state)
    assert monitor.level("kl") == 0


def test_every_alarm_says_what_it_needs() -> None:
    """One of what it reads is enough, and with none of it the alarm has nothing to say."""
    for name, alarm in ALARMS.items():
        for needed in alarm.reads:
            named = needed.partition(" (")[0].replace("<dataset>", "a").replace("*", "total")
            monitor = Monitor(Alarms(), **P4)
            for step in range(30):
                monitor.update(step, dict.fromkeys(named.split(" and "), 0.5))
            assert name in monitor.judged(), f"{name} is silent with {needed}"
    monitor = Monitor(Alarms(), **P4)
    monitor.update(1, {"perf/step_seconds": 1.0})
    assert monitor.judged() == {"non_finite"}, "which looks at all there is"


def test_metrics_that_are_not_there_are_not_judged() -> None:
    monitor = Monitor(Alarms())
    assert [event for step in range(50) for event in monitor.update(step, {"perf/step_seconds": 1.0})] == []
    assert monitor.judged() == {"non_finite"}


def test_missing_rows_do_not_end_an_excursion() -> None:
    rows = [{"policy/kl": 2.5}, {}, {"policy/kl": 2.5}, {}, {"policy/kl": 2.5}]
    assert changes(replay(rows)) == [("kl", "critical", 5)]


@st.composite
def healthy_runs(draw: st.DrawFn) -> list[dict[str, float]]:
    """Learning, with the noise of small batches: all within bounds that a healthy run keeps."""
    random = Random(draw(st.integers(0, 2**32)))
    steps = draw(st.integers(20, 250))
    gain, spread = draw(st.floats(0, 4)), draw(st.floats(0, 2))
    # The KL is at its end after half the steps: at the pace it may have, and a little more.
    kl, sharpened = draw(st.floats(0, min(0.9, 0.1 + 0.01 * steps / 2))), draw(st.floats(0, 2.2))
    rows = []
    for step in range(steps):
        done = min(1.0, 2 * step / steps)
        reward = -4.2 + gain * done + spread * random.uniform(-1, 1)
        row = {
            "reward/answer_logprob": reward,
            "policy/kl": kl * done * random.uniform(0.8, 1.2),
            "policy/reference_ratio": math.exp(kl * done * random.uniform(0.8, 1.2)),
            "policy/entropy": 0.9 * math.exp(-sharpened * done) * random.uniform(0.8, 1.2),
            "cot/repetition": 0.08 + 0.3 * done * random.random(),
            "cot/longest_run": 0.05 * random.random(),
            "cot/distinct": 0.7 - 0.2 * done * random.random(),
            "cot/compression": 1.2 + done * random.random(),
            "ppo/ratio_mean": random.uniform(0.95, 1.05),
            "ppo/ratio_max": random.uniform(1, 20),
            "ppo/clip_fraction": 0.3 * random.random(),
            "reward/zero_variance_groups": random.randint(0, 3),
            "leak/answer_first": 0.4 * random.random(),
            "loss/total": random.uniform(-1, 1),
            "optim/grad_norm": random.uniform(0, 5),
            "optim/skipped": 0.0,
        }
        if step % 10 == 0:
            row |= {"reward/normalized": reward + 2, "reward/baseline_logprob": -2.0}
            accuracy = 0.3 + 0.3 * done + random.uniform(-0.05, 0.05)
            row |= {
                "eval/a/accuracy": accuracy,
                "eval/a/accuracy_low": accuracy - 0.09,
                "eval/a/accuracy_high": accuracy + 0.09,
            }
        rows.append(row)
    return rows


@given(healthy_runs())
@settings(deadline=None, max_examples=25)
def test_healthy_runs_are_never_critical(rows: Rows) -> None:
    assert [event for event in replay(rows, **P4) if event.is_critical] == []
