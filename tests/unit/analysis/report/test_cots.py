"""The CoTs that a report shows."""

from __future__ import annotations

import html
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from markov_cot.analysis.report import cots
from markov_cot.analysis.report.cots import _of_steps, browsed, cut, examples, texts
from markov_cot.tracking.step_files import StepFiles
from markov_cot.utils.errors import UserError
from tests.report_runs import answers, healthy, healthy_rows, unvalidated, write_run


@given(st.text(alphabet="aé\n語", max_size=20), st.integers(0, 25))
def test_a_cut_text_and_what_is_left_out_are_the_whole(text: str, longest: int) -> None:
    beginning, left_out = cut(text, longest)
    assert text.startswith(beginning) and len(beginning) + left_out == len(text) and len(beginning) <= longest


STEPS = st.dictionaries(st.integers(0, 50), st.integers(1, 7), max_size=12)


@given(STEPS, st.integers(-3, 60))
def test_the_budget_is_kept_and_the_last_step_is_there(sizes: dict[int, int], most: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        files = StepFiles(Path(folder), -1)
        for step, size in sizes.items():
            files.write(step, [{"cot": f"{step} {i}"} for i in range(size)])
        picked = _of_steps("validation", Path(folder), most)
    assert len(picked) <= max(0, most)
    steps = list(dict.fromkeys(step for _, step, _ in picked))
    assert steps == sorted(set(steps), key=lambda step: step or 0)
    if sizes and most > 0:
        assert steps[-1] == max(sizes)
    if sum(sizes.values()) <= most and max(sizes.values(), default=0) * len(sizes) <= most:
        assert steps == sorted(sizes), "all fit, the first step among them"
        assert len(picked) == sum(sizes.values())


def test_steps_that_do_not_all_fit_are_evenly_spaced(tmp_path: Path) -> None:
    files = StepFiles(tmp_path, -1)
    for step in range(11):
        files.write(step, [{"cot": ""}] * 2)
    assert [step for _, step, _ in _of_steps("training", tmp_path, 6)][::2] == [0, 5, 10]
    assert [step for _, step, _ in _of_steps("training", tmp_path, 3)] == [10, 10]
    assert [step for _, step, _ in _of_steps("training", tmp_path, 1)] == [10]


def test_rollouts_that_are_not_shown_are_not_read(tmp_path: Path) -> None:
    source = healthy(tmp_path / "r", rollouts={step: [] for step in (3, 6)})
    (tmp_path / "r" / "rollouts" / "step_000003.jsonl.gz").write_bytes(b"damaged")
    assert browsed(source, 0) == []
    with pytest.raises(UserError, match="step_000003"):
        browsed(source, 10_000)


def kinds(found: list[dict[str, Any]]) -> list[tuple[str, int | None]]:
    return list(dict.fromkeys((each["kind"], each["step"]) for each in found))


def test_first_those_of_the_end_then_of_validations_then_of_training(tmp_path: Path) -> None:
    rollout = {"step": 3, "problem": "p0", "question": "1+1?", "answer": "2", "cot": "two", "answer_logprob": -1.0}
    rows = {3: [rollout | {"reward": 0.5, "advantage": -1.0}]}
    source = healthy(tmp_path / "r", rollouts=rows)
    found = browsed(source, 1000)
    assert kinds(found) == [("final", None), ("validation", 0), ("validation", 6), ("validation", 12), ("training", 3)]
    assert len(found) == 4 * 40 + 1
    first, last = found[0], found[-1]
    assert first["base"] == {
        "cot": "0 and 1 make 1.",
        "left_out": 0,
        "predicted": "1",
        "right": True,
        "answer_logprob": -0.5,
    }
    assert (first["question"], first["answer"], first["right"]) == ("What is 0 + 1?", "1", True)
    assert (last["reward"], last["advantage"], last["right"], last["base"]) == (0.5, -1.0, None, None)
    assert kinds(browsed(source, 80)) == [("final", None), ("validation", 12)]
    assert kinds(browsed(source, 40)) == kinds(browsed(source, 7)) == [("final", None)]
    assert len(browsed(source, 7)) == 7 and browsed(source, 0) == []


def test_a_long_cot_is_cut_and_says_by_how_much(tmp_path: Path) -> None:
    before, after = answers([True]), answers([True], cot="x" * 5000, question="q" * 5000, passage="p")
    [shown] = browsed(write_run(tmp_path / "r", healthy_rows(), final=(before, after)), 10)
    assert (shown["cot"], shown["left_out"]) == ("x" * 2000, 3000)
    assert shown["question"] == "q" * 600 + "…" and shown["passage"] == "p"
    assert shown["base"]["left_out"] == 0


@pytest.mark.parametrize("text", ["x", "<", "\x00", "語", "\U000e0001"])
def test_however_long_and_strange_the_texts_a_page_stays_small(tmp_path: Path, text: str) -> None:
    rows = answers([True] * 50, cot=text * 4000, question=text * 4000, reader_answer=text * 4000)
    source = write_run(tmp_path / "r", healthy_rows(), final=(rows, rows))
    page = 200_000
    found = browsed(source, 50, page)
    assert len(found) == 50, "texts are cut, none is left out"
    assert sum(len(html.escape(json.dumps(each))) for each in found) <= page
    assert all(len(each["cot"]) >= cots.SHORTEST and each["left_out"] == 4000 - len(each["cot"]) for each in found)


def test_right_and_wrong_examples_at_each_key_step(tmp_path: Path) -> None:
    found = examples(healthy(tmp_path / "r"), {"start": 1, "best": 6, "end": 12})
    assert [(each["label"], each["step"], each["problem"], each["right"]) for each in found] == [
        ("start", 0, "p0", True),
        ("start", 0, "p1", True),
        ("start", 0, "p10", False),
        ("start", 0, "p11", False),
        ("best", 6, "p0", True),
        ("best", 6, "p1", True),
        ("best", 6, "p20", False),
        ("best", 6, "p21", False),
        ("end", 12, "p0", True),
        ("end", 12, "p1", True),
        ("end", 12, "p30", False),
        ("end", 12, "p31", False),
    ]


def test_without_kept_answers_examples_are_samples_of_training(tmp_path: Path) -> None:
    [found] = examples(unvalidated(tmp_path / "r"), {"start": 1})
    assert (found["kind"], found["step"], found["cot"], found["right"]) == ("training", 6, "It is 2.", None)
    assert examples(write_run(tmp_path / "bare", healthy_rows()), {"start": 1}) == []


def test_how_long_cots_are_and_how_much_they_repeat(tmp_path: Path) -> None:
    # Words: 4, of which 2 differ, and 2 that differ. The answers are 1 and 2.
    after = answers([True] * 2, cot=lambda i: ("so so so 1", "12 2.0")[i])
    found = texts(write_run(tmp_path / "r", healthy_rows(), final=(answers([True] * 2, cot=""), after)))
    assert [each["policy"] for each in found] == ["base", "trained"]
    assert found[1] == {
        "policy": "trained",
        "step": None,
        "n": 2,
        "characters": 8.0,
        "words": 3.0,
        "repeated": 0.25,
        "states_answer": 0.5,
        "copied": 0.0,
    }
    assert (found[0]["words"], found[0]["repeated"]) == (0.0, 0.0)


def test_texts_of_the_first_and_the_last_validation_where_the_run_has_not_ended(tmp_path: Path) -> None:
    source = write_run(tmp_path / "r", healthy_rows(), validations={0: answers([True]), 3: [], 6: answers([True] * 2)})
    assert [(each["policy"], each["step"], each["n"]) for each in texts(source)] == [("actor", 0, 1), ("actor", 6, 2)]


def test_no_continuation_states_an_answer(tmp_path: Path) -> None:
    rows = answers([None] * 2)
    assert texts(write_run(tmp_path / "r", healthy_rows(), final=(rows, rows)))[1]["states_answer"] is None


def test_how_much_is_copied_from_passage_or_question(tmp_path: Path) -> None:
    rows = answers(
        [True] * 2, cot=lambda i: ("the old tower was built", "a b c d")[i], passage="The old tower was new."
    )
    [_, found] = texts(write_run(tmp_path / "r", healthy_rows(), final=(rows, rows)))
    assert found["copied"] == 0.25  # one of the first's two 4-grams, none of the second's


def test_a_text_is_stated_in_any_case_and_a_letter_is_no_article(tmp_path: Path) -> None:
    text = answers([True], answer="Paris", answers=["Paris", "City of Light"], cot="It is the city of light!")
    letter = answers([True], answer="A", cot="It is a cat.")
    for name, rows, share in (("text", text, 1.0), ("letter", letter, 0.0)):
        assert texts(write_run(tmp_path / name, healthy_rows(), final=(rows, rows)))[1]["states_answer"] == share
