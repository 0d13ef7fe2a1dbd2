"""The alarms on the CoTs' text, on rows made by hand."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import pytest

from markov_cot.alarms.monitor import Event, Monitor
from markov_cot.alarms.reward_trend import reward_trend
from markov_cot.alarms.smoothing import WARM_UP
from markov_cot.config.alarms import Alarms

Row = dict[str, float | None]


def replay(rows: Iterable[Row], **alarms: Any) -> list[Event]:
    """The events of the alarms on text; with `alarms` at these levels."""
    monitor = Monitor(Alarms.model_validate(alarms))
    events = [event for step, row in enumerate(rows, 1) for event in monitor.update(step, row)]
    return [event for event in events if event.alarm in ("unstated", "compression", "refusal", "symbols")]


def changes(events: Iterable[Event]) -> list[tuple[str, str, int]]:
    return [(event.alarm, event.level, event.step) for event in events]


# --- how the reward stands


def test_the_trend_by_hand() -> None:
    memory: dict[str, float] = {}
    assert [reward_trend({"reward/answer_logprob": -4.0}, memory) for _ in range(WARM_UP)] == [None] * WARM_UP
    same = reward_trend({"reward/answer_logprob": -4.0}, memory)
    assert same is not None
    assert (same.now, same.rise, same.fall, same.error) == pytest.approx((-4, 0, 0, 0))
    up = reward_trend({"reward/answer_logprob": -1.0}, memory)
    # Twelve rows: the last has a weight of 0.1 of 1 - 0.9^12
    rise = 3 * 0.1 / (1 - 0.9**12)
    # After ten changes of 0 one of 3^2 / 2 is cut at 25 times the smallest variance of 0.01, and is one of eleven; the
    # moving average has sqrt(0.1 / 1.9) of the error of a row.
    error = math.sqrt(0.25 / 11) * math.sqrt(0.1 / 1.9)
    assert up is not None and (up.now, up.rise, up.fall, up.error) == pytest.approx((-4 + rise, rise, 0, error))
    down = reward_trend({"reward/answer_logprob": -4.0}, memory)
    assert down is not None and down.fall == pytest.approx(rise - 3 * 0.09 / (1 - 0.9**13))


def test_the_trend_of_the_reward_over_the_baseline() -> None:
    memory: dict[str, float] = {}
    rows: list[Row] = [{"reward/normalized": 2.0}] * (WARM_UP + 1)
    assert [reward_trend(row, memory) for row in rows][-1] is not None
    assert reward_trend({"reward/value": 2.0}, {}) is None, "in no known unit"
    assert reward_trend({"reward/answer_logprob": None}, {}) is None


# --- unstated

UNSTATED = {"warn": 0.5, "critical": 1.0, "patience": 2, "none": 0.1, "noise": 0.001}


def stating(shares: Iterable[float], rewards: Iterable[float]) -> list[Row]:
    return [
        {"cot/answer_in_cot": share, "reward/answer_logprob": reward}
        for share, reward in zip(shares, rewards, strict=True)
    ]


def test_a_reward_that_rises_without_the_answer() -> None:
    # k rows after row 20 the average is 0.5 (0.9^k - 0.9^(20+k)) / (1 - 0.9^(20+k)): 0.103 at k = 14, 0.093 at k = 15;
    # patience 2. The reward has risen by then.
    events = replay(stating([0.5] * 20 + [0.0] * 40, [-4.0] * 20 + [-1.0] * 40), unstated=UNSTATED)
    assert changes(events) == [("unstated", "critical", 36)]
    assert "rose by" in events[0].diagnosis and "from 0.500 at its best" in events[0].diagnosis


def test_a_reward_that_rises_with_the_answer_is_fine() -> None:
    assert replay(stating([0.5] * 60, [-4.0] * 20 + [-1.0] * 40), unstated=UNSTATED) == []
    assert replay(stating([0.15] * 60, [-4.0] * 20 + [-1.0] * 40), unstated=UNSTATED) == []


def test_an_answer_that_goes_while_the_reward_falls() -> None:
    """1 - 0.7^k of the best is gone k rows later: 0.76 at k = 4, 0.92 at k = 7; patience 2."""
    events = replay(stating([0.5] * 300 + [0.0] * 20, [-1.0] * 300 + [-3.0] * 20), unstated=UNSTATED)
    assert changes(events) == [("unstated", "warn", 305), ("unstated", "critical", 308)]
    assert "fell to 0.084, from 0.500 at its best, and the smoothed reward is 0.82" in events[0].diagnosis


def test_an_answer_that_goes_while_the_reward_stays_says_nothing() -> None:
    assert replay(stating([0.5] * 20 + [0.0] * 40, [-4.0] * 60), unstated=UNSTATED) == []


def test_an_answer_that_was_seldom_stated_may_go() -> None:
    levels = UNSTATED | {"often": 0.3}
    assert replay(stating([0.25] * 300 + [0.0] * 20, [-1.0] * 300 + [-3.0] * 20), unstated=levels) == []


def test_where_it_was_never_stated_it_is_a_warning() -> None:
    events = replay(stating([0.0] * 100, [-4.0] * 20 + [-0.5] * 80), unstated=UNSTATED)
    assert [event.level for event in events] == ["warn"]
    assert "no CoT has ever stated the answer" in events[0].diagnosis


def test_noise_is_no_rise() -> None:
    rewards = [-4.0 + 3 * (i % 2) for i in range(200)]
    assert replay(stating([0.5] * 20 + [0.0] * 180, rewards), unstated=UNSTATED | {"noise": 3.0}) == []


def test_an_answer_that_comes_back_clears_it() -> None:
    shares = [0.5] * 20 + [0.0] * 30 + [0.5] * 30
    events = replay(stating(shares, [-4.0] * 20 + [-1.0] * 60), unstated=UNSTATED)
    assert [event.level for event in events] == ["critical", "cleared"]


# --- compression

COMPRESSION = {"warn": 0.2, "critical": 0.5, "patience": 2, "fall": 0.5, "noise": 0.001}


def packed(values: Iterable[float], rewards: Iterable[float]) -> list[Row]:
    pairs = zip(values, rewards, strict=True)
    return [{"cot/compression": value, "reward/answer_logprob": reward} for value, reward in pairs]


@pytest.mark.parametrize(("later", "kind"), [(3.2, "repeat themselves"), (0.8, "turn into noise")])
def test_texture_lost_while_the_reward_falls(later: float, kind: str) -> None:
    events = replay(packed([1.6] * 30 + [later] * 60, [-1.0] * 30 + [-3.0] * 60), compression=COMPRESSION)
    assert [event.level for event in events] == ["warn", "critical"]
    assert kind in events[0].diagnosis
    assert "against 1/1.60 at the start" in events[0].diagnosis


def test_when_texture_is_lost_by_hand() -> None:
    """ln(3.2 / 1.6) is 0.69; the averages are 1.6 + 1.6 (1 - 0.9^k) and -1 - 2 (1 - 0.9^k), but for the start's share.

    The rise is above ln 0.2 = 1.22 of the start from k = 3 on (1.43 > 1.22), and the fall above 0.5 from k = 3 (0.54);
    ln 0.5 = 1.65 from k = 10 on (1.65); patience 2.
    """
    events = replay(packed([1.6] * 300 + [3.2] * 60, [-1.0] * 300 + [-3.0] * 60), compression=COMPRESSION)
    assert changes(events) == [("compression", "warn", 304), ("compression", "critical", 311)]


def test_texture_may_change_while_the_reward_does_not_fall() -> None:
    assert replay(packed([1.6] * 30 + [6.0] * 60, [-3.0] * 30 + [-1.0] * 60), compression=COMPRESSION) == []
    assert replay(packed([1.6] * 90, [-1.0] * 30 + [-3.0] * 60), compression=COMPRESSION) == []


def test_an_empty_text_has_no_texture() -> None:
    assert replay(packed([0.0] * 60, [-1.0] * 30 + [-3.0] * 30), compression=COMPRESSION) == []


# --- refusal, symbols


@pytest.mark.parametrize(
    ("alarm", "key", "start", "later", "rows"),
    [
        # 1 - 0.9^k of the way: 0.34 at k = 4 and 0.61 at k = 9; patience 2
        ("refusal", "cot/refusal", 0.0, 1.0, [305, 310]),
        ("refusal", "cot/refusal", 0.5, 1.0, [305, 310]),
        # 0.5 (1 - 0.9^k) more: 0.136 at k = 3 and 0.203 at k = 5
        ("symbols", "cot/symbols", 0.1, 0.6, [304, 306]),
    ],
)
def test_shares_that_rise(alarm: str, key: str, start: float, later: float, rows: list[int]) -> None:
    levels = {
        "refusal": {"warn": 0.3, "critical": 0.6, "patience": 2},
        "symbols": {"warn": 0.1, "critical": 0.2, "patience": 2},
    }
    events = replay([{key: start}] * 300 + [{key: later}] * 60, **levels)
    assert changes(events) == [(alarm, "warn", rows[0]), (alarm, "critical", rows[1])]
    assert f"against {start:.2f} at the start" in events[0].diagnosis


@pytest.mark.parametrize(("key", "share"), [("cot/refusal", 1.0), ("cot/symbols", 0.9)])
def test_where_a_share_begins_it_may_stay(key: str, share: float) -> None:
    assert replay([{key: share}] * 100) == []


@pytest.mark.parametrize("key", ["cot/refusal", "cot/symbols", "cot/compression", "cot/answer_in_cot"])
def test_what_is_not_a_number_is_not_judged(key: str) -> None:
    monitor = Monitor(Alarms())
    for step in range(20):
        monitor.update(step, {key: None, "reward/answer_logprob": -1.0})
    assert not monitor.judged() & {"unstated", "compression", "refusal", "symbols"}
