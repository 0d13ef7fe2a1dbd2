"""What to do next: for each rule a run that calls for it, and one just beside it that does not."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from markov_cot.analysis.report.advice import RULES, Facts, advise
from markov_cot.analysis.report.held_out import result
from markov_cot.analysis.report.stages import stages
from markov_cot.analysis.report.verdict import verdict
from tests.report_runs import healthy, validated, write_run

METRICS_PAGE = Path(__file__).parents[4] / "docs" / "metrics.md"
STEPS = 12
Logged = Mapping[str, Any]


@dataclass(frozen=True)
class Case:
    """What the log has, as a constant, as a list over its steps, or as the first value alone, and what it does not."""

    calls: Logged
    does_not: Logged
    settings: Mapping[str, Any] = field(default_factory=dict)
    word: str = "no evidence"
    n: int = 1000


def ramp(start: float, end: float) -> list[float]:
    """A quarter of the steps at the start's value, half at the mean, a quarter at the end's."""
    return [start] * 3 + [(start + end) / 2] * 6 + [end] * 3


def scores(*rights: int, n: int = 1000) -> dict[str, dict[int, float]]:
    """Validations at steps 0, 4, 8, ..., as columns."""
    rows = [validated(4 * i, right, n) for i, right in enumerate(rights)]
    return {key: {row["step"]: row[key] for row in rows} for key in rows[0] if key != "step"}


CASES = {
    "reader_cannot_read": Case({"reader/ceiling": 0.49, "reader/floor": 0.1}, {"reader/ceiling": 0.5}),
    "reader_hears_nothing": Case(
        {"reader/ceiling_logprob": -1.0, "reader/floor_logprob": -1.49},
        {"reader/ceiling_logprob": -1.0, "reader/floor_logprob": -1.5},
    ),
    # The last of them counts.
    "below_floor": Case(
        {"reader/floor_logprob": -1.4, "eval/arithmetic/answer_logprob": ramp(-1.0, -1.41)},
        {"reader/floor_logprob": -1.4, "eval/arithmetic/answer_logprob": ramp(-1.9, -1.4)},
    ),
    "dead_groups": Case(
        {"reward/zero_variance_groups": ramp(0, 4.1)},
        {"reward/zero_variance_groups": ramp(8, 4.0)},
        {"rollout.problems": 8},
    ),
    "far_from_base": Case({"policy/kl": ramp(0, 1.01)}, {"policy/kl": ramp(5, 1.0)}),
    "entropy_gone": Case({"policy/entropy": ramp(2.0, 0.59)}, {"policy/entropy": ramp(2.0, 0.61)}),
    "repeats_itself": Case({"cot/repetition": ramp(0.3, 0.51)}, {"cot/repetition": ramp(0.35, 0.51)}),
    "copies": Case({"cot/copied": ramp(0.05, 0.31)}, {"cot/copied": ramp(0.15, 0.31)}),
    "reward_alone": Case({"reward/answer_logprob": ramp(-2, -1)}, {"reward/answer_logprob": ramp(-1, -1)}),
    "reward_flat": Case({"policy/kl": 0.009, "optim/lr": 1e-5}, {"policy/kl": 0.01, "optim/lr": 1e-5}),
    # Of 1,000 problems 0.6 has the interval 0.569 to 0.630. The best is at step 4 of 12, or of 8: 0.5, not under 0.7.
    "past_its_best": Case(scores(400, 600, 590, 560), scores(400, 600, 590, 575)),
    "still_rising": Case(scores(400, 500, 540), scores(400, 500, 530)),
    "answer_first": Case({"leak/answer_first": ramp(0, 0.51)}, {"leak/answer_first": ramp(1, 0.5)}),
    # At a share of 0.5: 2.8016 sqrt(0.5 / n), which is 0.0501 of 1,565 problems and 0.0499 of 1,575.
    "too_few_problems": Case({}, {}, n=1565),
    "clipped": Case({"ppo/clip_fraction": ramp(0, 0.31)}, {"ppo/clip_fraction": ramp(1, 0.3)}),
    "sampler_differs": Case(
        {"rollout/logprob_gap": ramp(0, 0.051), "rollout/importance_truncated": 0.1},
        {"rollout/logprob_gap": ramp(1, 0.049)},
    ),
    "skipped_updates": Case({"optim/skipped": [0] * 11 + [1]}, {"optim/skipped": 0}),
    "too_long": Case({"data/too_long": 3}, {"data/too_long": 0}),
    "not_probed": Case({}, {}, word="improved"),
}
FIRST_ONLY = ("reader/",)


def facts(case: Case, logged: Logged, **changes: Any) -> Facts:
    columns: dict[str, dict[int, float]] = {}
    for key, value in logged.items():
        if isinstance(value, dict):
            columns[key] = value
        elif key.startswith(FIRST_ONLY):
            columns[key] = {0: value}
        else:
            columns[key] = dict(enumerate(value if isinstance(value, list) else [value] * STEPS, 1))
    accuracy = columns.get("eval/arithmetic/accuracy", {0: 0.5})
    best = max(accuracy, key=lambda step: accuracy[step])
    found = {
        "measure": "accuracy",
        "n": case.n,
        "difference": None,
        "best_step": best,
        "base": {"accuracy": 0.5},
        "trained": {"accuracy": 0.5},
    }
    given = {
        "columns": columns,
        "settings": case.settings,
        "result": found,
        "verdict": {"word": case.word},
        "stages": {},
    }
    return Facts(**(given | changes))


def test_each_rule_has_a_case_and_each_case_a_rule() -> None:
    assert list(CASES) == [rule.name for rule in RULES]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_run_that_calls_for_it(rule: Any) -> None:
    case = CASES[rule.name]
    values = rule.judge(facts(case, case.calls))
    assert values is not None and all(isinstance(value, int | float) for value in values.values())
    logged = {key.partition(" at the ")[0] for key in values if "/" in key}
    page = METRICS_PAGE.read_text(encoding="utf-8")
    assert all(f"`{key}`" in page or f"{key}`" in page for key in logged), logged


BESIDE = {
    "too_few_problems": {
        "result": {
            "measure": "accuracy",
            "n": 1575,
            "difference": None,
            "base": {"accuracy": 0.5},
            "trained": {"accuracy": 0.5},
        }
    },
    "not_probed": {"stages": {"probe": [{"n": 3}]}},
}
"""Where it is not the log that makes the difference."""


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_run_beside_it(rule: Any) -> None:
    case = CASES[rule.name]
    assert rule.judge(facts(case, case.does_not, **BESIDE.get(rule.name, {}))) is None


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_log_that_has_nothing_of_it_calls_for_nothing(rule: Any) -> None:
    assert rule.judge(facts(CASES[rule.name], {}, result=None)) is None


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_its_texts_are_sentences(rule: Any) -> None:
    assert rule.reason.endswith(".") and rule.advice.endswith(".")
    for command in re.findall(r"markov-cot (\w+)", rule.advice):
        assert command in ("sample", "transfer", "probe", "eval")


def test_a_best_validation_that_is_not_long_past_is_none() -> None:
    case = CASES["past_its_best"]
    [rule] = [rule for rule in RULES if rule.name == "past_its_best"]
    assert rule.judge(facts(case, scores(400, 500, 600, 500))) is not None, "8 of 12 is under 0.7"
    late = {key: {0: of[0], 9: of[4], 12: of[8]} for key, of in scores(400, 600, 500).items()}
    assert rule.judge(facts(case, late)) is None


@pytest.mark.parametrize(("broken", "detectable"), [(9, 0.05942), (6, None)])
def test_answers_to_the_same_problems_tell_more(broken: int, detectable: float | None) -> None:
    """2.8016 sqrt(fixed + broken - (fixed - broken)^2 / n) / n: of 9 and 9 in 200 0.0594, of 6 and 6 0.0485."""
    result = {"measure": "accuracy", "n": 200, "difference": {"fixed": broken, "broken": broken}}
    found = {rule.name: rule.judge(facts(Case({}, {}), {}, result=result)) for rule in RULES}["too_few_problems"]
    assert (found and found["difference that is found in 80 % of cases"]) == (
        None if detectable is None else pytest.approx(detectable, abs=1e-4)
    )


def test_the_start_is_three_steps_and_the_end_a_quarter() -> None:
    found = facts(Case({}, {}), {"policy/kl": [float(i) for i in range(1, 17)]})
    # The first three of 16 steps, and the last quarter: 13 to 16.
    assert (found.start("policy/kl"), found.end("policy/kl")) == (2.0, 14.5)
    short = facts(Case({}, {}), {"policy/kl": [1.0, 2.0, 3.0, 4.0]})
    assert (short.start("policy/kl"), short.end("policy/kl")) == (2.0, 3.0), "three at least"
    assert not short.has_risen("policy/kl"), "its quarters overlap"


def test_noise_is_no_rise() -> None:
    # Means 1 and 2; standard errors of [0, 1, 2] and [1, 2, 3] are 1 / sqrt(3): 1 < 2 sqrt(2 / 3) = 1.63.
    noisy = [0.0, 1.0, 2.0, 1.0, 2.0, 3.0]
    steady = [0.9, 1.0, 1.1, 1.9, 2.0, 2.1]
    assert not facts(Case({}, {}), {"x": noisy}).has_risen("x")
    assert facts(Case({}, {}), {"x": steady}).has_risen("x")


def test_advice_comes_in_the_order_of_the_rules_with_its_reasons(tmp_path: Path) -> None:
    source = healthy(tmp_path / "r")
    found = advise(source, result(source), verdict(source, result(source)), stages(source))
    assert [each["rule"] for each in found] == ["still_rising", "not_probed"]
    assert found[0]["because"] == {"score at the last validation": 0.8, "score at the one before": 0.6}
    assert found[1]["because"] == {"problems": 40}


def test_a_run_without_anything_is_left_alone(tmp_path: Path) -> None:
    source = write_run(tmp_path / "r", [{"step": 1, "loss/total": 0.1}])
    assert advise(source, None, verdict(source, None), stages(source)) == []
