from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from markov_cot.analysis.sweep_best import best_setting, expected_maximum
from markov_cot.analysis.sweep_cells import cell_tables, within
from markov_cot.analysis.sweep_columns import Asked
from markov_cot.analysis.sweep_effects import f_test, fit, run_scores, setting_effects, t_interval
from markov_cot.analysis.sweep_shares import anova_shares, resampled_shares, shapley, variance_shares
from markov_cot.analysis.sweep_steps import plateau
from markov_cot.analysis.sweep_table import SweepTable
from tests.sweeps import SQUARE, STEPS, table_of

T_1, T_2, T_3 = 12.706205, 4.302653, 3.182446
"""97.5 % quantiles of Student's t with 1, 2 and 3 degrees of freedom."""

values = st.lists(st.integers(-20, 20), min_size=16, max_size=16).filter(lambda each: len(set(each)) > 1)


def grid(scores: list[int]) -> SweepTable:
    """2 x 2 runs of 4 steps."""
    cells = itertools.product((0, 1), (0, 1), (1, 2, 3, 4))
    return table_of("a b step score", *((*cell, score) for cell, score in zip(cells, scores, strict=True)))


def test_means_and_differences_by_hand() -> None:
    found = setting_effects(table_of(*SQUARE))["a"]
    low, high = found.means
    # a=0: 1 and 3, sd sqrt(2), stderr 1. a=1: 5 and 11, sd sqrt(18), stderr 3.
    assert (low.level, low.n, low.mean) == ("0", 2, 2) and (low.low, low.high) == pytest.approx((2 - T_1, 2 + T_1))
    assert (high.mean, high.high) == (8, pytest.approx(8 + 3 * T_1))
    contrast = found.contrasts["0"]
    # The additive model leaves 4 with one degree of freedom: stderr = sqrt(4 (1/2 + 1/2)) = 2.
    assert found.reference == "1" and contrast and contrast.difference == pytest.approx(-6)
    assert contrast.stderr == pytest.approx(2) and contrast.stderr_rows == pytest.approx(2)
    assert contrast.low == pytest.approx(-6 - 2 * T_1, abs=1e-4) and not contrast.is_told_apart


def test_the_run_is_the_unit_by_hand() -> None:
    contrast = setting_effects(table_of(*STEPS))["a"].contrasts["0"]
    # Run means 2, 4 and 7, 7: the model leaves 2 with 2 degrees of freedom, stderr = sqrt(1 (1/2 + 1/2)).
    assert contrast and contrast.difference == pytest.approx(-4) and contrast.stderr == pytest.approx(1)
    assert contrast.high == pytest.approx(-4 + T_2, abs=1e-5)
    # Rows, with the step: 48 - 32 - 8 left with 5 degrees of freedom, stderr = sqrt(1.6 (1/4 + 1/4)).
    assert contrast.stderr_rows == pytest.approx(math.sqrt(0.8))


def test_differences_are_those_of_the_mixed_model() -> None:
    """Generalised least squares with V = s_run^2 ZZ' + s_row^2 I, at the variances that REML estimates."""
    table = table_of(*STEPS)
    assert table.step
    # Rows about run + step leave 4 with 3 degrees of freedom: 4/3. Runs about a leave 1: 1 - 4/3 / 2 = 1/3.
    of_run = np.eye(4)[table.run_N]
    v = of_run @ of_run.T / 3 + np.eye(8) * 4 / 3
    x = np.stack([np.ones(8), table.of_rows(table.settings[0]).codes == 0, table.step.codes], axis=1)
    covariance = np.linalg.inv(x.T @ np.linalg.inv(v) @ x)
    beta = covariance @ x.T @ np.linalg.inv(v) @ table.y_N
    contrast = setting_effects(table)["a"].contrasts["0"]
    assert contrast and contrast.difference == pytest.approx(beta[1])
    assert contrast.stderr == pytest.approx(math.sqrt(covariance[1, 1]))


def test_lower_is_better() -> None:
    found = setting_effects(table_of(*SQUARE, asked=Asked(lower_is_better=True)))["a"]
    assert found.reference == "0" and found.contrasts["1"] and found.contrasts["1"].difference == pytest.approx(6)


def test_scores_of_runs_with_different_steps() -> None:
    # r's step 2 is 2 above its step 1, so that q, with step 1 alone, is 3 at the mean step.
    table = table_of("run a step score", ("r", 0, 1, 1), ("r", 0, 2, 3), ("q", 1, 1, 2))
    assert run_scores(table).tolist() == pytest.approx([2, 3])


def test_a_level_that_another_always_goes_with_has_no_difference() -> None:
    rows = [(a, b, a + b + a * b) for a in (1, 2) for b in (1, 2)]
    table = table_of("a b score", *rows, (3, 3, 20), asked=Asked(settings=("a", "b")))
    found = setting_effects(table)["a"]
    assert found.reference == "2" and found.contrasts["3"] is None, "3 has the best mean, and b=3 as well"
    # a=1: 3, 5 and a=2: 5, 8.
    assert found.contrasts["1"] and found.contrasts["1"].difference == pytest.approx(-2.5)


def test_no_run_left_to_judge_by() -> None:
    contrast = setting_effects(table_of("a score", (0, 1), (1, 5), (2, 4)))["a"].contrasts["0"]
    assert contrast and contrast.difference == pytest.approx(-4)
    assert (contrast.stderr, contrast.low, contrast.stderr_rows, contrast.is_told_apart) == (None, None, None, False)
    assert best_setting(table_of("a score", (0, 1), (1, 5), (2, 4))).curse is None


def test_f_by_hand() -> None:
    # F = (36 / 1) / (4 / 1) = 9; with (1, 1) degrees of freedom p = 1 - 2/pi atan(sqrt(F)).
    y = np.array([1.0, 3.0, 5.0, 11.0])
    a, b, one = np.array([0, 0, 1, 1.0]), np.array([0, 1.0, 0, 1]), np.ones(4)
    smaller, larger = fit(np.stack([one, b], 1), y), fit(np.stack([one, a, b], 1), y)
    assert f_test(smaller, larger) == pytest.approx(1 - 2 / math.pi * math.atan(3))
    assert f_test(larger, larger) is None
    assert f_test(smaller, fit(np.eye(4), y)) is None, "nothing is left to compare with"


def test_shares_by_hand() -> None:
    found = variance_shares(table_of(*SQUARE))
    assert found.method == "anova" and found.explained == pytest.approx(52 / 56)
    shares = {term: each.share for term, each in found.terms.items()}
    assert shares == pytest.approx({("a",): 36 / 56, ("b",): 16 / 56, ("a", "b"): 4 / 56})
    assert found.terms["a",].p_value == pytest.approx(1 - 2 / math.pi * math.atan(3))
    assert found.terms["a", "b"].p_value is None
    steps = variance_shares(table_of(*STEPS)).terms
    assert {term: each.share for term, each in steps.items()} == pytest.approx(
        {("a",): 32 / 48, ("step",): 8 / 48, ("a", "step"): 0}, abs=1e-12
    )


def test_shapley_by_hand() -> None:
    # y = 0, 1, 3: R^2 of a alone 4/7, of b alone 25/28, of both 1.
    found = variance_shares(table_of("a b score", (0, 0, 0), (1, 0, 1), (1, 1, 3)))
    assert found.method == "shapley" and found.explained == pytest.approx(1, abs=1e-6)
    assert found.terms["a",].share == pytest.approx((4 / 7 + 1 - 25 / 28) / 2, abs=1e-6)
    assert found.terms["b",].share == pytest.approx((25 / 28 + 1 - 4 / 7) / 2, abs=1e-6)


@given(values)
def test_on_a_balanced_grid_shapley_is_the_analysis_of_variance(scores: list[int]) -> None:
    table = grid(scores)
    exact = anova_shares(table.y_N, table.row_factors)
    names = [each.name for each in table.row_factors]
    assert {name: float(share) for name, share in shapley(gains(table), names).items()} == pytest.approx(
        {name: exact[name,] for name in names}, abs=1e-9
    )


@given(values, st.sets(st.integers(0, 15), min_size=1, max_size=6))
def test_unbalanced_shares_are_those_of_plain_regressions(scores: list[int], missing: set[int]) -> None:
    cells = list(itertools.product((0, 1), (0, 1), (1, 2, 3, 4)))
    rows = [(*cell, score) for i, (cell, score) in enumerate(zip(cells, scores, strict=True)) if i not in missing]
    if len({row[3] for row in rows}) < 2 or any(len({row[i] for row in rows}) < 2 for i in range(3)):
        return
    table = table_of("a b step score", *rows)
    if table.step is None or len(table.settings) < 2:
        return
    found = variance_shares(table, resamples=20)
    expected = shapley(gains(table), [each.name for each in table.row_factors])
    for name, share in expected.items():
        assert found.terms[name,].share == pytest.approx(float(share), abs=1e-6)
    assert found.explained == pytest.approx(sum(map(float, expected.values())), abs=1e-6)
    assert -1e-6 <= found.explained <= 1 + 1e-6


@given(values, st.sets(st.integers(0, 15), max_size=3))
def test_interactions_are_what_a_regression_gains(scores: list[int], missing: set[int]) -> None:
    cells = itertools.product((0, 1), (0, 1), range(4))
    rows = [(f"r{a}{b}{seed}", a, b, seed, y) for (a, b, seed), y in zip(cells, scores, strict=True)]
    kept = [row for i, row in enumerate(rows) if i not in missing]
    if len({row[-1] for row in kept}) < 2:
        return
    table = table_of("run a b seed score", *kept)
    share = variance_shares(table, resamples=10).terms["a", "b"].share
    a, b = table.row_factors
    cell = np.eye(4)[2 * a.codes + b.codes]
    deviations = table.y_N - table.y_N.mean()
    left = deviations - cell @ np.linalg.lstsq(cell, deviations, rcond=None)[0]
    whole = float(gains(table)[frozenset("ab")])
    assert share == pytest.approx(1 - left @ left / (deviations @ deviations) - whole, abs=1e-6)
    drawn = resampled_shares(table, table.row_factors, [(a, b)], seed=0, resamples=3)
    assert drawn["a", "b"][0] == pytest.approx(share, abs=1e-6) and len(drawn["a",]) == 4


@given(values, st.integers(-5, 5), st.sampled_from([-3.0, 0.5, 8.0]))
def test_units_of_the_metric_do_not_matter(scores: list[int], shift: int, scale: float) -> None:
    table = grid(scores)
    other = grid([round(1000 * (shift + scale * score)) for score in scores])
    own, same = anova_shares(table.y_N, table.row_factors), anova_shares(other.y_N, other.row_factors)
    assert own == pytest.approx(same, abs=1e-9)
    assert 0 <= sum(own.values()) <= 1 + 1e-9


def gains(table: SweepTable) -> dict[frozenset[str], np.ndarray]:
    """R^2 of every set of factors, by a regression of its own."""
    deviations = table.y_N - table.y_N.mean()
    found = {}
    for size in range(len(table.row_factors) + 1):
        for some in itertools.combinations(table.row_factors, size):
            x = np.hstack([np.ones((len(deviations), 1)), *(np.eye(len(each.levels))[each.codes] for each in some)])
            left = deviations - x @ np.linalg.lstsq(x, deviations, rcond=None)[0]
            found[frozenset(each.name for each in some)] = np.array(1 - (left @ left) / (deviations @ deviations))
    return found


def test_intervals_are_of_runs_and_repeat() -> None:
    table = table_of(*STEPS)
    found, again, other = (variance_shares(table, seed=seed) for seed in (0, 0, 1))
    assert found == again and found != other
    for each in found.terms.values():
        assert each.low is not None and each.high is not None and 0 <= each.low <= each.share <= each.high


def test_rows_of_a_run_are_drawn_together() -> None:
    """A run copied into many checkpoints is no more certain for it."""
    once = [(f"r{i}", i % 2, 1, i * i) for i in range(8)]
    often = [(*row[:2], step, row[3]) for row in once for step in range(5)]
    one = variance_shares(table_of("run a step score", *once)).terms["a",]
    many = variance_shares(table_of("run a step score", *often)).terms["a",]
    assert (many.low, many.high) == pytest.approx((one.low, one.high), abs=1e-6)


def test_cells_and_their_corner_by_hand() -> None:
    pairs = ((0, 0, (1, 3)), (0, 1, (4, 4)), (1, 0, (6, 8)), (1, 1, (2, 6)))
    rows = [(a, b, seed, score) for a, b, pair in pairs for seed, score in enumerate(pair)]
    found = cell_tables(table_of("a b seed score", *rows))["a", "b"]
    assert [[cell.mean for cell in row] for row in found.cells] == [[2, 4], [7, 4]]
    # Within cells 2 + 0 + 2 + 8 of 4 degrees of freedom; (7 - 2) - (4 - 4) = 5, stderr sqrt(3 * 4 / 2).
    assert found.pooled == pytest.approx(math.sqrt(3))
    assert found.corner and found.corner.size == 5 and found.corner.stderr == pytest.approx(math.sqrt(6))
    assert (found.corner.levels, found.corner.at, found.is_unequal) == (("0", "1"), ("0", "1"), True)
    assert found.best(1) == {"0": "1", "1": "1"} and found.best(-1) == {"0": "0", "1": "1"}
    assert within([np.array([1.0]), np.array([])]) is None


def test_a_table_with_holes_has_no_corner() -> None:
    found = cell_tables(table_of("a b score", (0, 0, 1), (0, 1, 2), (1, 0, 3), (2, 1, 7)))["a", "b"]
    assert found.corner is None and [cell.n for cell in found.cells[1]] == [1, 0]


def test_plateau_by_hand() -> None:
    runs = ((1, 4, 3), (2, 6, 3), (0, 2, 4))
    rows = [(f"r{i}", i, step, score) for i, of in enumerate(runs) for step, score in enumerate(of, 1)]
    found = plateau(table_of("run a step score", *rows))
    assert found and [row.mean for row in found.rows] == pytest.approx([1, 4, 10 / 3])
    # Less the final one: -2, -1, -4 and 1, 3, -2.
    first, second, last = (row.difference for row in found.rows)
    assert first.mean == pytest.approx(-7 / 3) and first.stderr == pytest.approx(math.sqrt(7 / 3 / 3))
    assert first.high == pytest.approx(-7 / 3 + T_2 * math.sqrt(7 / 9), abs=1e-5)
    assert (second.mean, second.above, second.below) == (pytest.approx(2 / 3), 2, 1)
    assert last.mean == 0 and found.peak == "2" and found.flat_from == "1"
    assert found.rows[0].p_holm == 2 * 0.25, "3 of 3 below, times two steps"
    # The best: 1, 3, 0. Chosen by the other two: step 2 for the first (gain 1), 3 for the second, 2 for the third (-2).
    assert found.best.mean == pytest.approx(4 / 3)
    assert found.chosen and found.chosen.mean == pytest.approx(-1 / 3)


def test_plateau_where_less_is_better_and_where_steps_are_missing() -> None:
    rows = [("r", 0, 1, 5), ("r", 0, 2, 2), ("r", 0, 3, 4), ("q", 1, 2, 1), ("q", 1, 3, 2), ("s", 0, 1, 9)]
    found = plateau(table_of("run a step loss", *rows))
    assert found and found.runs == 2, "s has no final score"
    assert found.peak == "2" and found.best.mean == pytest.approx(-1.5) and found.chosen is None
    assert found.rows[0].difference.stderr is None
    assert plateau(table_of("run a step loss", *rows[:3], ("q", 1, 1, 1))) is None, "one run with a final score"
    assert plateau(table_of(*SQUARE)) is None


def test_the_best_of_many_by_hand() -> None:
    found = best_setting(table_of(*SQUARE))
    assert (found.row, found.score, found.runs, found.combinations) == (11, 11, 1, 4)
    assert found.settings == {"a": "1", "b": "1"} == found.row_settings
    curse = found.curse
    assert curse and not curse.noise.is_replicated and curse.noise.deviation == pytest.approx(2)
    assert curse.overstated == pytest.approx(2 * expected_maximum(4))
    # Variance of the four 56/3: 5 + (1 - 4 / (56/3)) * 6.
    assert curse.shrunk == pytest.approx(5 + (1 - 12 / 56) * 6)
    assert curse.rivals == 3, "12.7 * 2 * sqrt(2) reaches all of them"


def test_replicates_measure_the_noise() -> None:
    rows = [(a, seed, score) for a, pair in ((0, (0, 2)), (1, (10, 12))) for seed, score in enumerate(pair)]
    found = best_setting(table_of("a seed score", *rows))
    assert found.runs == 2 and found.score == 11
    curse = found.curse
    assert curse and curse.noise.is_replicated and (curse.noise.deviation, curse.noise.df) == (math.sqrt(2), 2)
    # stderr 1; the means 1 and 11 have variance 50: 6 + (1 - 1/50) * 5. 4.30 * sqrt(2) is less than 10.
    assert curse.shrunk == pytest.approx(6 + 0.98 * 5) and curse.rivals == 0
    assert curse.overstated == pytest.approx(1 / math.sqrt(math.pi))


def test_quantiles_and_the_expected_maximum() -> None:
    assert t_interval(1, 2, 3) == pytest.approx((1 - 2 * T_3, 1 + 2 * T_3), abs=1e-5)
    # Known in closed form: 0, 1/sqrt(pi), 3/(2 sqrt(pi)).
    assert [expected_maximum(m) for m in (1, 2, 3)] == pytest.approx(
        [0, 1 / math.sqrt(math.pi), 1.5 / math.sqrt(math.pi)], abs=1e-9
    )
    assert expected_maximum(30) == pytest.approx(2.0427609, abs=1e-6)
