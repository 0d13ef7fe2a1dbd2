"""Votes, win rates, ratings and position bias, by hand and by their properties."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from markov_cot.analysis.bradley_terry import SCALE, expected_share, log_odds
from markov_cot.analysis.resampling import Sampling, ratio_stderr
from markov_cot.analysis.tally import Tally
from markov_cot.analysis.verdicts import Verdict, label_in, vote_of
from markov_cot.analysis.winrate import WinRates, win_rates
from markov_cot.utils.errors import UserError

FEW = Sampling(resamples=200)


def against(question: str, label: str, model: str = "m", *, swapped: bool = False) -> Verdict:
    """A game of `model` against the baseline `base`, which is shown first unless they are swapped."""
    first, second = (model, "base") if swapped else ("base", model)
    found = vote_of(label)
    share, votes = found or (None, 1)
    return Verdict(question, first, second, share, votes, "base", label=None if found else label)


def rates(*verdicts: Verdict, baseline: str | None = None, sampling: Sampling = FEW) -> WinRates:
    tally = Tally()
    for verdict in verdicts:
        tally.add(verdict)
    return win_rates(tally, baseline, sampling)


def beats(winner: str, loser: str, times: int = 1, question: str = "q") -> list[Verdict]:
    return [Verdict(f"{question}{winner}{loser}{i}", winner, loser, 1.0) for i in range(times)]


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("I first thought [[A>B]], but [[B>>A]].", "B>>A"),
        ("[[A>>F]] ... significantly better: [[A>>B]]", "A>>B"),
        ("a single bracket: [B>A] and then [a=b].", "A=B"),
        ("[[A>B]] wins over a later [B>A]", "A>B"),
        ("[[A>>A]]", "A>>A"),
        ("A>B without brackets", None),
        ("[[ ]] [tie] [[]]", None),
        ("", None),
    ],
)
def test_the_label_is_the_last_one_in_brackets(text: str, label: str | None) -> None:
    assert label_in(text) == label


@pytest.mark.parametrize(
    ("label", "vote"),
    [
        ("A>>B", (1.0, 3)),
        ("A>B", (1.0, 1)),
        ("A=B", (0.5, 1)),
        ("B>A", (0.0, 1)),
        ("B>>A", (0.0, 3)),
        ("A<B", (0.0, 1)),
        ("A<<B", (0.0, 3)),
        ("B<A", (1.0, 1)),
        ("B=A", (0.5, 1)),
        (" b>>a ", (0.0, 3)),
        *((label, None) for label in ("A>>A", "B=B", "A>>>B", "A", "A<>B", "A>=B", "", "C>A", "A>B>A")),
    ],
)
def test_votes_of_a_label(label: str, vote: tuple[float, int] | None) -> None:
    assert vote_of(label) == vote
    if vote and vote[1] == 3:
        assert vote_of(label, strong=5) == (vote[0], 5)


@given(st.text(alphabet="AB<>=[] \nx"))
def test_a_verdict_in_any_text_gives_its_sides_opposite_shares(text: str) -> None:
    label = label_in(text)
    if label and (vote := vote_of(label)):
        swapped = vote_of(label.translate(str.maketrans("AB", "BA")))
        assert swapped == (1 - vote[0], vote[1])


def test_a_win_rate_is_the_mean_of_votes() -> None:
    # Of q1: the baseline wins by far (3 votes), then the model wins (1). Of q2: a tie, then the model by far.
    found = rates(
        against("q1", "A>>B"),
        against("q1", "A>B", swapped=True),
        against("q2", "A=B"),
        against("q2", "A>>B", swapped=True),
    )
    model = found.models["m"]
    assert model.score and (model.score.n, model.score.votes, model.verdicts) == (2, 8, 4)
    assert model.score.win_rate == 100 * (1 + 0.5 + 3) / 8
    # (won, votes) are (1, 4) and (3.5, 4); p = 4.5 / 8, the residuals -1.25 and 1.25: sqrt(2 * 3.125) / 8 = 0.3125.
    assert model.score.stderr == pytest.approx(31.25)
    assert (model.score.low, model.score.high) == (25.0, 87.5), "those of either question alone"
    assert (found.baselines, found.anchor, list(found.models), found.n) == (["base"], "base", ["m"], 2)


def test_standard_errors_by_hand() -> None:
    ones = np.ones(3)
    # (1, 2), (3, 4): p = 2/3, the residuals -1/3 and 1/3, sqrt(2 * 2/9) / 6 = 1/9.
    assert ratio_stderr(np.array([1.0, 3.0]), np.array([2.0, 4.0]), ones[:2]) == pytest.approx(1 / 9)
    # One vote a unit: the standard deviation of 0, 0, 1 is sqrt(1/3), over sqrt(3).
    assert ratio_stderr(np.array([0.0, 0.0, 1.0]), ones, ones) == pytest.approx(1 / 3)
    assert ratio_stderr(np.array([0.0, 1.0]), ones[:2], np.array([2, 1])) == pytest.approx(1 / 3)
    assert ratio_stderr(np.array([1.0]), np.array([2.0]), ones[:1]) is None


def test_intervals_by_hand() -> None:
    games = (against("q1", "A>B"), against("q2", "B>A"))
    # Drawing two of the two questions gives 0, 50 and 100 % with probabilities 1/4, 1/2, 1/4.
    for level, expected in ((95.0, (0.0, 100.0)), (40.0, (50.0, 50.0))):
        score = rates(*games, sampling=Sampling(resamples=4000, level=level)).models["m"].score
        assert score and (score.low, score.high) == expected
    one = rates(against("q1", "A>B")).models["m"].score
    assert one and (one.n, one.low, one.high, one.stderr) == (1, None, None, None)


def test_votes_can_be_resampled_instead_of_questions() -> None:
    # All votes on a question agree, so that six votes hold what two questions do.
    games = [against("q1", "A>>B"), against("q2", "B>>A")]
    by_question = rates(*games).models["m"].score
    by_vote = rates(*games, sampling=Sampling("votes", 200)).models["m"].score
    assert by_question and by_vote and by_question.win_rate == by_vote.win_rate == 50.0
    assert by_question.stderr == pytest.approx(100 * math.sqrt(2 * (1.5**2 * 2)) / 6)
    assert by_vote.stderr == pytest.approx(100 * math.sqrt(6 / 5 * 6 * 0.25) / 6)
    assert (by_vote.n, by_vote.votes) == (2, 6)


def test_seeds_repeat_and_other_models_do_not_matter() -> None:
    games = [against(f"q{i}", "A>B" if i % 3 else "B>A") for i in range(30)]
    others = [against(f"q{i}", "B>A" if i % 4 else "A>B", "other") for i in range(30)]
    alone, together = rates(*games), rates(*others, *games)
    assert alone.models["m"] == together.models["m"] == rates(*games).models["m"]
    seeds = {rates(*games, sampling=Sampling(resamples=3, seed=seed)).models["m"].score for seed in range(5)}
    assert len(seeds) > 1
    assert list(together.models) == ["other", "m"], "the best first"


def test_malformed_verdicts_are_counted_and_have_no_vote() -> None:
    tally = Tally()
    for verdict in (against("q1", "A>>A"), against("q1", "B>A", swapped=True), against("q2", "A>>A", "n")):
        tally.add(verdict)
    found = win_rates(tally, None, FEW)
    assert (found.models["m"].malformed, found.models["m"].verdicts) == (1, 1)
    assert found.models["m"].score and found.models["m"].score.win_rate == 0
    assert (found.models["n"].score, found.models["n"].malformed) == (None, 1)
    assert tally.labels == {"A>>A": 2}
    assert found.n == 1, "q2 has no verdict"
    with pytest.raises(UserError, match="none of the 1 verdicts"):
        rates(against("q1", "A>>A"))


def test_position_by_hand() -> None:
    pairs = [
        ("A>B", "B>A"),  # the baseline wins in both orders
        ("B>A", "A>>B"),  # the model does
        ("A=B", "A=B"),
        ("A>B", "A>>B"),  # what is shown first wins
        ("A>>B", "A>B"),
        ("B>A", "B>A"),  # what is shown second wins
        ("A=B", "B>A"),  # a tie, and the baseline
        ("A>B", "A>>A"),  # of one order alone
    ]
    verdicts = [
        against(f"q{i}", label, swapped=bool(game))
        for i, labels in enumerate(pairs)
        for game, label in enumerate(labels)
    ]
    position = rates(*verdicts).position
    assert position and (position.n, position.first, position.second, position.partly) == (7, 2, 1, 1)
    assert position.depends[0] == pytest.approx(100 * 4 / 7)
    # The first's shares, in order 1 and 2: 1 0, 0 1, .5 .5, 1 1, 1 1, 0 0, .5 0: 7.5 of 14.
    assert position.first_share == pytest.approx(100 * 7.5 / 14)
    assert position.p_value == 1.0
    assert rates(against("q", "A>B")).position is None
    both = rates(Verdict("q", "a", "b", 1.0), Verdict("q", "b", "a", 1.0), *beats("a", "b")).position
    assert both and (both.n, both.first, both.first_share) == (1, 1, 100.0)


def test_without_a_baseline_each_is_measured_against_all() -> None:
    found = rates(*beats("a", "b", 3), *beats("b", "c", 1), *beats("c", "a", 1), *beats("c", "b", 1))
    assert (found.anchor, found.baselines) == (None, [])
    shares = {name: each.score.win_rate for name, each in found.models.items() if each.score}
    assert shares == pytest.approx({"a": 75.0, "c": 200 / 3, "b": 20.0})
    assert sum(each.value for each in found.ratings.values()) == pytest.approx(3000)
    asked = rates(*beats("a", "b", 3), *beats("b", "c", 1), *beats("c", "a", 1), *beats("c", "b", 1), baseline="b")
    assert {name: each.score.win_rate for name, each in asked.models.items() if each.score} == {"a": 100.0, "c": 50.0}
    assert (asked.left_out, asked.anchor) == (1, "b")
    assert asked.ratings["b"].value == 1000


def test_which_model_is_the_baseline() -> None:
    found = rates(*beats("x", "a"), *beats("a", "x"), *beats("b", "x"))
    assert found.anchor == "x", "it plays in every game"
    assert rates(*beats("x", "a")).anchor == "x", "of two, the one that is always shown first"
    assert rates(*beats("x", "a"), *beats("a", "x")).anchor is None
    named = Verdict("q", "a", "x", 1.0, baseline="x")
    assert rates(named).anchor == "x", "as the file says, which it is not by position"
    several = rates(named, Verdict("p", "a", "y", 0.0, baseline="y"))
    assert (several.anchor, several.baselines, list(several.models)) == (None, ["x", "y"], ["a"])
    with pytest.raises(UserError, match="--baseline z: has no game in these files; name one of the models there: x, a"):
        rates(*beats("x", "a"), baseline="z")
    with pytest.raises(UserError, match="did you mean model-a"):
        rates(*beats("model-a", "x"), baseline="model_a")


def test_categories_have_rates_of_their_own() -> None:
    verdicts = [
        Verdict("q1", "base", "m", 0.0, 1, "base", "hard"),
        Verdict("q2", "base", "m", 1.0, 1, "base", "creative"),
        Verdict("q3", "base", "m", 0.0, 1, "base", "creative"),
    ]
    model = rates(*verdicts).models["m"]
    assert {name: (each.n, each.win_rate) for name, each in model.categories.items()} == {
        "hard": (1, 100.0),
        "creative": (2, 50.0),
    }


def test_ratings_by_hand() -> None:
    # Odds of 2 : 1, 3 : 1 and 6 : 1 fit exactly.
    wins = np.array([[[0.0, 2, 6], [1, 0, 3], [1, 1, 0]]])
    theta = log_odds(wins, anchor=1)[0]
    assert theta == pytest.approx([math.log(2), 0, -math.log(3)], abs=1e-9)
    # Three of four votes are odds of 3, 400 log10 3 = 190.849 points.
    three, one = beats("m", "x", 3), beats("x", "m", 1)
    assert rates(*three, *one, baseline="x").ratings["m"].value == pytest.approx(1190.8485, abs=1e-4)
    assert expected_share(1190.8485) == pytest.approx(0.75, abs=1e-6)
    tied = rates(Verdict("q", "x", "m", 0.5), baseline="x")
    assert tied.ratings["m"].value == pytest.approx(1000)


def test_ratings_that_are_not_finite() -> None:
    # 3 won from the anchor, 4 lost to it, 5 beat 3 only, and 6 and 7 met only each other; 1 has won and lost.
    wins = np.zeros((1, 8, 8))
    for winner, loser in ((0, 1), (1, 0), (3, 0), (0, 4), (5, 3), (6, 7), (7, 6), (1, 2), (2, 0)):
        wins[0, winner, loser] = 1
    theta = log_odds(wins, 0)[0]
    assert np.isfinite(theta[[0, 1, 2]]).all()
    assert list(theta[[3, 4, 5]]) == [math.inf, -math.inf, math.inf]
    assert np.isnan(theta[[6, 7]]).all()
    alone = log_odds(wins[:, :3, :3], 0)[0]
    assert theta[:3] == pytest.approx(alone), "what is infinitely far away does not matter"
    unlinked = rates(*beats("a", "b"), *beats("b", "a"), *beats("c", "d"))
    assert all(math.isnan(each.value) and each.undetermined == 200 for each in unlinked.ratings.values())


@given(st.integers(2, 6), st.integers(0, 2**32 - 1))
def test_ratings_expect_the_votes_that_were_won(count: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    wins = generator.integers(1, 2000, (3, count, count)).astype(float) ** generator.integers(1, 3)
    wins[:, range(count), range(count)] = 0
    theta = log_odds(wins, anchor=0)
    games = wins + wins.swapaxes(1, 2)
    expected = (games / (1 + np.exp(theta[:, None, :] - theta[:, :, None]))).sum(2)
    assert expected == pytest.approx(wins.sum(2), rel=1e-8)
    assert log_odds(wins.swapaxes(1, 2), 0) == pytest.approx(-theta, abs=1e-8)
    order = generator.permutation(count)
    again = log_odds(wins[:, order][:, :, order], int(np.argmin(order)))
    assert again == pytest.approx(theta[:, order], abs=1e-8)


def test_lopsided_votes_still_converge() -> None:
    chain = np.zeros((1, 6, 6))
    for i in range(5):
        chain[0, i, i + 1], chain[0, i + 1, i] = 1e9, 1
    theta = log_odds(chain, 0)[0]
    assert theta == pytest.approx([-i * math.log(1e9) for i in range(6)], rel=1e-9)


@given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from(["A>>B", "A>B", "A=B", "B>A", "B>>A"])), min_size=1))
def test_with_one_baseline_ratings_are_the_mean_of_votes(games: list[tuple[int, str]]) -> None:
    found = rates(*(against(str(question), label) for question, label in games), sampling=Sampling(resamples=5))
    score = found.models["m"].score
    assert score
    assert 100 * expected_share(found.ratings["m"].value) == pytest.approx(score.win_rate, abs=1e-6)
    assert (score.n, score.votes) == (len({question for question, _ in games}), sum(vote_of(x)[1] for _, x in games))  # type: ignore[index]
    assert score.low is None or score.high is None or 0 <= score.low <= score.high <= 100


def test_questions_are_drawn_with_all_their_models() -> None:
    # On each question a and b both win from the baseline, or both lose: their ratings are the same in every resample.
    verdicts = [Verdict(str(i), "x", model, float(i % 3 == 0)) for i in range(12) for model in ("a", "b")]
    found = rates(*verdicts, *beats("a", "b", 1, "o"), *beats("b", "a", 1, "o"))
    assert found.anchor is None
    found = rates(*verdicts, baseline="x")
    assert found.ratings["a"] == found.ratings["b"]
    assert found.ratings["a"].value == pytest.approx(1000 + SCALE * math.log(2))
    assert found.ratings["a"].low < found.ratings["a"].value < found.ratings["a"].high
