"""The metrics by hand, intervals over questions, ranking, and where beta changes it."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from markov_cot.analysis.resampling import Sampling
from markov_cot.analysis.teacher_scores import ScoredRow
from markov_cot.analysis.teachers import METRICS, BetaRange, beta_ranges, check_rewards, compare, sums_of
from markov_cot.utils.errors import UserError

QUICK = Sampling(resamples=400, seed=1)
# Losses 0.5 and 2 after the question, 1 and 1.6 alone; mean ranks 3 and 5.
ROWS = [
    ScoredRow(0, length=4, tokens=4, nll=2.0, rank=12, alone_tokens=3, alone_nll=3.0),
    ScoredRow(1, length=9, tokens=5, nll=10.0, rank=25, alone_tokens=5, alone_nll=8.0),
]


def sums(rows: list[ScoredRow], rewards: list[float], questions: list[int] | None = None) -> np.ndarray:
    places = questions or list(range(len(rows)))
    return sums_of(rows, np.array(places), np.array(rewards), max(places) + 1)


def row(loss: float, *, alone: float = 1.0, rank: int = 2) -> ScoredRow:
    return ScoredRow(0, 1, 1, loss, rank, 1, alone)


def test_every_metric_by_hand() -> None:
    found = compare(["t"], sums(ROWS, [1.0, 0.5])[None], [0], 3.0, QUICK)
    assert (found.questions, found.ranges) == (2, [])
    [result] = found.teachers.values()
    values = {metric: each.value for metric, each in result.metrics.items()}
    assert values == pytest.approx(
        {
            "reward": 0.75,
            "loss": 1.25,
            "car": 0.75 / (1 + 3 * 1.25),
            "ppl_self": (math.exp(0.5) + math.exp(2)) / 2,
            "ifd_loss": (0.5 / 1 + 2 / 1.6) / 2,
            "ifd_ppl": (math.exp(-0.5) + math.exp(0.4)) / 2,
            "rsr": 4 / 1.25,
            "length": 6.5,
        }
    )
    assert tuple(values) == METRICS
    assert (result.responses, result.above_1, result.without_ifd, result.cut, result.standing) == (2, 1, 0, 1, None)
    for each in result.metrics.values():
        assert each.low is not None and each.high is not None and each.low <= each.value <= each.high
    # Two questions: the resamples are one of them twice, or both.
    assert (result.metrics["loss"].low, result.metrics["loss"].high) == (0.5, 2.0)


def test_a_response_without_an_ifd_is_left_out_of_it_alone() -> None:
    bare = ScoredRow(1, 1, 1, 3.0, 7, alone_tokens=0, alone_nll=0.0)
    [result] = compare(["t"], sums([ROWS[0], bare], [1, 1])[None], [0], 1.0, QUICK).teachers.values()
    assert result.without_ifd == 1
    assert (result.metrics["ifd_loss"].value, result.metrics["loss"].value) == (0.5, 1.75)
    [result] = compare(["t"], sums([bare], [1])[None], [0], 1.0, QUICK).teachers.values()
    assert math.isnan(result.metrics["ifd_ppl"].value) and result.metrics["loss"].low is None


def test_several_responses_to_a_question_are_drawn_together() -> None:
    both = sums(ROWS, [1.0, 0.0], [0, 0])
    [result] = compare(["t"], np.stack([both]), [0], 1.0, QUICK).teachers.values()
    assert (result.responses, result.metrics["reward"].value, result.metrics["reward"].low) == (2, 0.5, None)


def test_the_same_questions_are_drawn_for_all_teachers() -> None:
    generator = np.random.default_rng(0)
    hard = generator.uniform(0, 5, 200)
    a = sums([row(1 + each) for each in hard], [1.0] * 200)
    b = sums([row(1.02 + each) for each in hard], [1.0] * 200)
    found = compare(["b", "a"], np.stack([b, a]), [0, 0], 1.0, QUICK)
    assert list(found.teachers) == ["a", "b"]
    first, second = found.teachers["a"].standing, found.teachers["b"].standing
    assert first is not None and second is not None
    width = found.teachers["a"].metrics["car"].high - found.teachers["a"].metrics["car"].low
    assert second.behind.low > 0 and second.behind.high - second.behind.low < width / 10
    assert (first.rank, first.rank_low, first.rank_high, first.best) == (1, 1, 1, 1.0)
    assert (second.rank, second.best, first.behind.value) == (2, 0.0, 0.0)


def test_equal_teachers_share_the_first_place() -> None:
    same = sums([row(1.0), row(2.0)], [1.0, 0.5])
    found = compare(["a", "b"], np.stack([same, same]), [0, 0], 1.0, QUICK)
    standings = [each.standing for each in found.teachers.values()]
    assert [(each.rank, each.best) for each in standings if each] == [(1, 0.5), (1, 0.5)]
    assert found.ranges == [BetaRange(0.0, None, (("a", "b"),))]


def test_how_sure_the_best_is() -> None:
    """Of two questions, drawn twice, a is ahead where the first is drawn more often: 1/4, and equal in half."""
    a, b = sums([row(1.0), row(1.0)], [1.0, 0.0]), sums([row(1.0), row(1.0)], [0.0, 1.0])
    found = compare(["a", "b"], np.stack([a, b]), [0, 0], 1.0, Sampling(resamples=20_000))
    shares = [each.standing.best for each in found.teachers.values() if each.standing]
    assert shares == pytest.approx([0.5, 0.5], abs=0.01) and sum(shares) == pytest.approx(1)


def test_one_question_says_nothing_of_others() -> None:
    found = compare(["a", "b"], np.stack([sums([row(1.0)], [1]), sums([row(2.0)], [1])]), [0, 0], 1.0, QUICK)
    standing = found.teachers["b"].standing
    assert standing is not None and standing.rank == 2
    assert (standing.rank_low, standing.best, standing.behind.low) == (None, None, None)


def test_a_negative_mean_reward_is_refused_with_the_reason() -> None:
    with pytest.raises(UserError, match=r"teacher b: its mean reward is -0.25, and below 0 a higher loss raises CAR"):
        check_rewards(["a", "b"], np.array([0.1, -0.25]))
    # Why: of two teachers that are as bad, the one that suits worse would win.
    assert -1 / (1 + 3 * 5) > -1 / (1 + 3 * 1)


def test_beta_ranges_by_hand() -> None:
    # 0.9 / (1 + 2 beta) = 0.6 / (1 + beta) at beta = 1; 0.5 / (1 + 0.5 beta) meets them at 0.4 / 0.55 and at 0.5.
    found = beta_ranges(["a", "b", "c"], np.array([0.9, 0.6, 0.5]), np.array([2.0, 1.0, 0.5]))
    assert [each.ranking for each in found] == [
        (("a",), ("b",), ("c",)),
        (("a",), ("c",), ("b",)),
        (("c",), ("a",), ("b",)),
        (("c",), ("b",), ("a",)),
    ]
    assert [each.low for each in found] == pytest.approx([0, 0.5, 0.4 / 0.55, 1])
    assert [each.high for each in found[:-1]] == [each.low for each in found[1:]] and found[-1].high is None


rewards = st.lists(st.floats(0, 10), min_size=2, max_size=5)


@given(rewards, st.data())
def test_within_a_range_of_beta_the_ranking_is_as_it_says(r: list[float], data: st.DataObject) -> None:
    losses = data.draw(st.lists(st.floats(0.01, 10), min_size=len(r), max_size=len(r)))
    names = [str(i) for i in range(len(r))]
    found = beta_ranges(names, np.array(r), np.array(losses))
    assert found[0].low == 0 and found[-1].high is None
    for each, following in pairwise(found):
        assert each.high == following.low and each.ranking != following.ranking
    beta = data.draw(st.floats(0, 50))
    own = next(each for each in found if each.high is None or beta < each.high)
    car = {name: reward / (1 + beta * loss) for name, reward, loss in zip(names, r, losses, strict=True)}
    order = [name for group in own.ranking for name in group]
    assert sorted(order) == names
    for better, worse in pairwise(order):
        assert car[better] >= car[worse] * (1 - 1e-6) - 1e-12
