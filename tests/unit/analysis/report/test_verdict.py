"""What a run came to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from markov_cot.analysis.report import held_out
from markov_cot.analysis.report.held_out import result
from markov_cot.analysis.report.sources import Source, open_source
from markov_cot.analysis.report.verdict import verdict
from tests.report_runs import (
    answers,
    collapsed,
    healthy,
    interrupted,
    log_rows,
    unvalidated,
    validated,
    write_run,
)


def judged(source: Source) -> dict[str, Any]:
    return verdict(source, result(source))


def run_of(folder: Path, before: Sequence[bool | None], after: Sequence[bool | None], rows: Any = None) -> Source:
    """A run that ended with these answers, and whose validations say nothing."""
    logged = rows if rows is not None else log_rows(12, reward__normalized=0.1)
    return write_run(folder, logged, final=(answers(before), answers(after)))


def test_a_significant_rise_is_an_improvement(tmp_path: Path) -> None:
    found = judged(healthy(tmp_path / "r"))
    assert found["word"] == "improved" and found["step"] is None
    assert found["sentence"] == "The trained actor is better than its base on unseen problems."


@pytest.mark.parametrize(
    ("fixed", "word"),
    # McNemar's p of k fixed and none broken is 2^(1 - k): 0.0625 of 5, 0.03125 of 6.
    [(5, "no evidence"), (6, "improved")],
)
def test_five_percent_is_the_border(tmp_path: Path, fixed: int, word: str) -> None:
    assert judged(run_of(tmp_path / "r", [False] * 20, [i < fixed for i in range(20)]))["word"] == word


def test_a_significant_fall_is_worse(tmp_path: Path) -> None:
    found = judged(run_of(tmp_path / "r", [True] * 20, [i < 12 for i in range(20)]))
    assert found == {
        "word": "worse",
        "sentence": "The trained actor is worse than its base on unseen problems.",
        "step": None,
    }


def test_without_right_and_wrong_the_interval_decides(tmp_path: Path) -> None:
    before, after = ([None] * 8 for _ in range(2))
    source = write_run(
        tmp_path / "r",
        log_rows(3, reward__normalized=0.1),
        final=(answers(before, answer_logprob=-2.0), answers(after, answer_logprob=lambda i: -1.0 - i / 100)),
    )
    assert judged(source)["word"] == "improved"


def test_without_answers_intervals_that_do_not_meet_decide(tmp_path: Path) -> None:
    for name, right, word in (("up", 80, "improved"), ("same", 45, "no evidence"), ("down", 15, "worse")):
        source = write_run(tmp_path / name, [validated(0, 40), validated(9, right)])
        assert judged(source)["word"] == (word if name != "down" else "collapsed")
    # Down by less than half: worse, and no collapse.
    assert judged(write_run(tmp_path / "less", [validated(0, 400, 1000), validated(9, 300, 1000)]))["word"] == "worse"


def test_a_fall_under_half_of_the_peak_is_a_collapse(tmp_path: Path) -> None:
    found = judged(collapsed(tmp_path / "r"))
    assert found["word"] == "collapsed" and found["step"] == 8


def test_a_collapse_is_of_the_first_validation_that_stays_down(tmp_path: Path) -> None:
    rows = [validated(step, right) for step, right in ((0, 40), (2, 80), (4, 10), (6, 60), (8, 20), (10, 15))]
    # The alarm that looks at this score would call it critical from step 4 on.
    source = write_run(tmp_path / "r", rows, settings={"alarms.divergence.enabled": False})
    sentence = "The held-out accuracy fell under half of its peak and stayed there."
    assert judged(source) == {"word": "collapsed", "sentence": sentence, "step": 8}


def test_a_fall_that_recovers_is_none(tmp_path: Path) -> None:
    rows = [validated(step, right) for step, right in ((0, 40), (2, 80), (4, 10), (6, 70))]
    assert judged(write_run(tmp_path / "r", rows))["word"] == "improved"


def test_a_fall_within_the_intervals_is_none(tmp_path: Path) -> None:
    # 1 of 4 is under half of 3 of 4, and their intervals meet.
    assert judged(write_run(tmp_path / "r", [validated(0, 3, 4), validated(4, 1, 4)]))["word"] == "no evidence"


def repeating(clears: bool) -> list[dict[str, Any]]:
    """CoTs that loop from step 6 to step 12, and from then on or not."""
    return log_rows(
        30,
        reward__normalized=0.1,
        cot__repetition=lambda step: 0.99 if step >= 6 and not (clears and step > 12) else 0.1,
    )


def test_an_alarm_that_stands_at_the_end_is_a_collapse(tmp_path: Path) -> None:
    found = judged(run_of(tmp_path / "r", [False] * 20, [False] * 20, repeating(clears=False)))
    assert (found["word"], found["step"]) == ("collapsed", 6)
    assert found["sentence"].startswith("cot/repetition is 0.99, against 0.1 for the base")
    assert "Likely cause" not in found["sentence"] and "sample CoT" not in found["sentence"]


def test_an_alarm_that_cleared_is_none(tmp_path: Path) -> None:
    source = run_of(tmp_path / "r", [False] * 20, [False] * 20, repeating(clears=True))
    assert source.alarms.events[0].is_critical
    assert judged(source)["word"] == "no evidence"


def test_an_alarm_that_stands_beside_an_improvement_is_said(tmp_path: Path) -> None:
    found = judged(run_of(tmp_path / "r", [False] * 20, [True] * 20, repeating(clears=False)))
    assert found["word"] == "improved" and found["step"] is None
    assert found["sentence"].endswith("But the repetition alarm is critical.")


OWN = {"alarm": "mine", "level": "critical", "step": 12, "since": 9, "diagnosis": "It is odd. Likely cause: ?"}


def test_the_alarms_are_those_that_the_run_recorded(tmp_path: Path) -> None:
    """Its own alarms count; one that did not watch it does not, though its log would have raised it."""
    rows, final = log_rows(12, reward__normalized=0.1), (answers([False] * 9), answers([False] * 9))
    own = judged(write_run(tmp_path / "own", rows, final=final, lines={"alarms.jsonl": [OWN]}))
    assert own == {"word": "collapsed", "sentence": "It is odd.", "step": 9}
    unwatched = write_run(tmp_path / "unwatched", repeating(clears=False), final=final, lines={"alarms.jsonl": []})
    assert judged(unwatched)["word"] == "no evidence" and not unwatched.alarms.is_healthy


@pytest.mark.parametrize(("last", "word"), [(20, "no evidence"), (12, "collapsed")])
def test_what_a_rollback_undid_is_over(tmp_path: Path, last: int, word: str) -> None:
    rows, final = log_rows(last, reward__normalized=0.1), (answers([False] * 9), answers([False] * 9))
    settings, lines = {"alarms.action": "rollback"}, {"alarms.jsonl": [OWN]}
    assert judged(write_run(tmp_path / "r", rows, final=final, settings=settings, lines=lines))["word"] == word


def test_the_earliest_sign_gives_the_step(tmp_path: Path) -> None:
    rows = repeating(clears=False)
    for step, right in ((3, 80), (4, 10), (30, 10)):
        rows[step - 1] |= validated(step, right)
    assert judged(write_run(tmp_path / "fall", rows))["step"] == 4
    rows[3] = {"step": 4, "reward/normalized": 0.1, "cot/repetition": 0.1}
    assert judged(write_run(tmp_path / "alarm", rows))["step"] == 6


def test_a_run_that_has_not_ended_is_judged_so_far(tmp_path: Path) -> None:
    found = judged(interrupted(tmp_path / "r"))
    assert found["word"] == "no evidence" and found["sentence"].endswith("So far, that is: the run has not ended.")


def test_without_validation_nothing_is_claimed(tmp_path: Path) -> None:
    assert judged(unvalidated(tmp_path / "r"))["word"] == "not measured"


def test_of_a_log_alone_it_is_the_alarms_that_judge(tmp_path: Path) -> None:
    for name, rows in (("fine", log_rows(30, reward__normalized=0.1, cot__repetition=0.1)), ("bad", repeating(False))):
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(f"{row}\n".replace("'", '"') for row in rows))
        found = judged(open_source(str(path), tmp_path))
        assert found["word"] == {"fine": "healthy", "bad": "collapsed"}[name]


MIRRORED = {"improved": "worse", "worse": "improved", "no evidence": "no evidence"}


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=30))
def test_base_and_trained_swapped_mirror_the_verdict(pairs: list[tuple[bool, bool]]) -> None:
    def word(before: list[bool], after: list[bool]) -> str:
        difference = held_out._difference("accuracy", answers(before), answers(after))
        quiet = Source("r", Path(), None)
        quiet.__dict__.update(columns={}, alarms=type("Quiet", (), {"events": [], "critical": []})())
        found: str = verdict(
            quiet, {"stage": "final", "against": "base", "measure": "accuracy", "difference": difference}
        )["word"]
        return found

    before, after = ([pair[side] for pair in pairs] for side in (0, 1))
    assert word(after, before) == MIRRORED[word(before, after)]
    assert word(before, before) == "no evidence"
