"""What supervised fine-tuning learns of a written CoT."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from markov_cot.config.loading import build_config
from markov_cot.config.schema import Config, Model
from markov_cot.data.problem import Problem
from markov_cot.data.prompts import Prompts
from markov_cot.data.splits import Splits
from markov_cot.models.loading import load_tokenizer
from markov_cot.training.worked import Worked, make_worked, with_own_settings, with_steps
from markov_cot.utils.errors import UserError

PROMPTS = Prompts(load_tokenizer(Model()))
COT = "12+30=42\n42+1=43"


def problem(number: int = 0, cot: str = COT, **changes: Any) -> Problem:
    return dataclasses.replace(Problem(f"p{number}", f"What is {number}?", "43", "numeric", rationale=cot), **changes)


def config(**sft: Any) -> Config:
    length = sft.pop("length", 48)
    return build_config({"method": "sft", "rollout": {"length": length}, "sft": sft}, "test")


def worked(*train: Problem, held_out: tuple[Problem, ...] = (), **sft: Any) -> Worked:
    splits = Splits("mine", list(train), list(held_out), [], "here")
    return make_worked(config(**sft), PROMPTS, splits, held_out, lambda _: True)


def text(*ids: tuple[int, ...]) -> str:
    return PROMPTS.tokenizer.decode([token for part in ids for token in part])


def test_the_answer_is_stated_unless_the_last_line_does() -> None:
    [example] = worked(problem(cot="12+30+1")).examples
    assert text(example.cot) == " 12+30+1" and text(example.answer) == "\nAnswer: 43"
    assert not worked(problem()).examples[0].answer
    [example] = worked(problem(cot="43 it is not\n12+1"), answer=" = {answer}").examples
    assert text(example.cot, example.answer) == " 43 it is not\n12+1 = 43"
    assert not worked(problem(cot="12+1"), answer="").examples[0].answer


def test_the_question_is_read_as_before_a_rollout() -> None:
    [example] = worked(problem(7)).examples
    assert list(example.context) == PROMPTS.question_context(problem(7))
    whole = PROMPTS.question_text(problem(7)) + " " + COT
    assert text(example.context, example.cot) == PROMPTS.tokenizer.decode(PROMPTS.tokenizer(whole).input_ids)


def test_what_does_not_fit_loses_its_end_before_the_stated_answer() -> None:
    found = worked(problem(cot="11+22+33+44+55+66"), length=16)
    [example] = found.examples
    assert example.is_cut and found.cut == 1
    assert len(example.cot) + len(example.answer) == 16
    assert text(example.answer) == "\nAnswer: 43" and " 11+22+33+44+55+66".startswith(text(example.cot))
    assert found.notes == ["1 of 1 CoTs lose their end to fit into 16 tokens"]


def test_an_answer_that_is_cut_off_is_stated() -> None:
    [example] = worked(problem(cot="11+22+33+44+55+66\nThat is 43"), length=16).examples
    assert example.is_cut and text(example.answer) == "\nAnswer: 43"


def test_or_is_left_out_and_counted() -> None:
    found = worked(problem(cot="11+22+33+44+55+66"), problem(1), length=18, too_long="drop")
    assert [example.problem.id for example in found.examples] == ["p1"] and found.cut == 0
    assert found.notes == ["1 CoTs are longer than rollout.length=18 and are left out"]


def test_what_is_learnt_is_a_setting() -> None:
    [example] = worked(problem(cot="12+1")).examples
    cot, answer, both = example.cot, example.answer, example.cot + example.answer
    targets = {name: example.target(name) for name in ("cot", "cot_answer", "all")}
    assert (targets["cot"].ids, targets["cot"].answer_ids) == (example.context, cot)
    assert (targets["cot_answer"].ids, targets["cot_answer"].answer_ids) == (example.context, both)
    assert targets["all"].ids + targets["all"].answer_ids == example.context + cot + answer
    assert targets["all"].ids == example.context[:1], "the first token is predicted by nothing"


def test_questions_without_a_cot_are_counted_and_none_is_refused() -> None:
    found = worked(problem(0), problem(1, ""), problem(2))
    assert {example.problem.id for example in found.examples} == {"p0", "p2"}
    assert found.notes == ["1 of 3 questions have no written CoT, or one that is wrong, and are left out"]
    with pytest.raises(
        UserError, match=r"dataset mine: has no worked question to learn from \(1 of 1 questions have no"
    ):
        worked(problem(0, ""))


def test_or_their_answer_alone_is_learnt() -> None:
    found = worked(problem(0, ""), held_out=(problem(1, ""),), bare="answer", best="loss")
    [example] = found.examples
    assert not example.cot and text(example.answer) == "\nAnswer: 43" and len(found.held_out) == 1
    assert found.notes == [
        "1 of 1 questions have no written CoT, or one that is wrong, and are learnt by their answer alone"
    ]
    with pytest.raises(UserError, match=r"sft\.bare answer: needs a stated answer"):
        config(bare="answer", answer="")


def test_a_limit_draws_and_says_so() -> None:
    problems = [problem(i) for i in range(20)]
    first, again = (worked(*problems, limit=5) for _ in range(2))
    assert first == again and len(first.examples) == 5 and first.notes == ["5 of 20 questions are learnt (sft.limit)"]


def test_held_out_cots_are_those_of_validation_problems() -> None:
    found = worked(problem(0), held_out=(problem(1), problem(2, "")), best="loss")
    assert [example.problem.id for example in found.held_out] == ["p1"]
    with pytest.raises(UserError, match=r"sft\.best loss: no validation problem has a written CoT"):
        worked(problem(0), held_out=(problem(2, ""),), best="loss")


def test_rows_that_ask_what_is_held_out_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "teacher.jsonl"
    rows = [{"question": f"What is  {i}?", "response": COT, "answer": 43} for i in range(4)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    splits = Splits("mine", [problem(0)], [problem(1)], [problem(2)], "here")
    found = make_worked(config(rows=str(path)), PROMPTS, splits, [problem(1)], lambda _: True)
    assert {example.problem.question for example in found.examples} == {"What is  0?", "What is  3?"}
    assert found.notes == ["2 of 4 rows ask what mine holds out and are left out"]


def test_where_passages_are_given_they_count(tmp_path: Path) -> None:
    path = tmp_path / "teacher.jsonl"
    rows = [{"question": "Which?", "passage": passage, "cot": COT, "answer": 43} for passage in ("Mine.", "yours.")]
    path.write_text(
        "".join(json.dumps(row) + "\n" for row in [*rows, {"question": "which?", "cot": COT, "answer": 43}])
    )
    held_out = problem(1, question="Which?", passage="Yours.")
    splits = Splits("mine", [problem(0)], [held_out], [], "here")
    found = make_worked(config(rows=str(path)), PROMPTS, splits, [held_out], lambda _: True)
    assert [example.problem.passage for example in found.examples] == ["Mine."]


def test_a_teachers_wrong_answers_are_not_learnt(tmp_path: Path) -> None:
    path = tmp_path / "teacher.jsonl"
    rows = [{"question": f"What is {i}?", "cot": COT, "answer": answer} for i, answer in enumerate((43, 44, 44))]
    rows[2]["gold"] = 43
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    splits = Splits("mine", [problem(0), problem(1)], [problem(7)], [], "here")
    found = make_worked(config(rows=str(path)), PROMPTS, splits, [], lambda _: True)
    assert [example.problem.question for example in found.examples] == ["What is 0?"]
    assert found.notes == [
        "1 of 3 rows have another answer than mine and are left out",
        "1 of 2 questions have no written CoT, or one that is wrong, and are left out",
    ]


def test_broken_rows_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "teacher.jsonl"
    path.write_text(json.dumps({"question": "What?", "cot": COT, "answer": 43}) + '\n{"question": "Why?"}\n')
    made = config(rows=str(path))
    made = made.model_copy(update={"data": made.data.model_copy(update={"skip_bad_rows": True})})
    found = make_worked(made, PROMPTS, Splits("mine", [problem(0)], [], [], "here"), [], lambda _: True)
    assert len(found.examples) == 1 and found.notes == [f"1 broken rows of {path} were skipped"]


def test_what_is_learnt_decides_the_fingerprint() -> None:
    assert worked(problem()).fingerprint() == worked(problem()).fingerprint()
    assert worked(problem()).fingerprint() != worked(problem(cot="12+31=43")).fingerprint()


def test_steps_follow_from_passes_unless_they_are_given() -> None:
    assert with_steps(config(epochs=2.5, batch=16), 100).steps == 16  # 250 / 16, rounded up
    assert with_steps(config(steps=3), 100).steps == 3


def test_a_pass_has_the_repeats_of_hard_examples_and_the_warm_up_is_a_share() -> None:
    made = with_steps(config(epochs=2, batch=4, hard_repeats=3, hard_share=0.25, warmup_ratio=0.25), 24)
    assert made.steps == 18  # 2 * (24 + 2 * 6) / 4
    assert made.optim.warmup_steps == 4  # 4.5, rounded to even
    with pytest.raises(UserError, match=r"sft\.hard_by failure: .* give sft\.steps"):
        config(hard_repeats=2, hard_by="failure")


@pytest.mark.parametrize(
    ("last_line", "answer", "changes", "states"),
    [
        ("12+31=43", "43", {}, True),
        ("so x = -43", "43", {}, False),
        ("Twice 43 makes 86", "43", {}, False),
        ("A train needs 5 hours, so it is C", "A", {"kind": "choice", "choices": ("1", "5", "7")}, False),
        ("so the answer is A", "A", {"kind": "choice", "choices": ("1", "5", "7")}, True),
        ("There is no doubt: yes", "no", {"kind": "text"}, False),
    ],
)
def test_what_counts_as_a_conclusion(last_line: str, answer: str, changes: dict[str, Any], states: bool) -> None:
    [example] = worked(problem(cot=last_line, answer=answer, **changes)).examples
    assert bool(example.answer) != states


def test_optimizer_and_validation_are_its_own() -> None:
    made = with_own_settings(config(lr=3e-4, every=7, patience=2))
    assert (made.optim.lr, made.optim.schedule, made.validation.every) == (3e-4, "cosine", 7)
    assert with_own_settings(made) == made
    by_reward = build_config({"sft": {"lr": 3e-4}}, "test")
    assert with_own_settings(by_reward) == by_reward


@pytest.mark.parametrize("template", ["{cot}", "no field", "{answer} {question}", "{"])
def test_a_statement_without_the_answer_is_refused(template: str) -> None:
    with pytest.raises(UserError, match=r"sft.answer"):
        config(answer=template)
