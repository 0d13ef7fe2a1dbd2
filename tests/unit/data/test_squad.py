from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from markov_cot.config.schema import Data
from markov_cot.data.benchmarks.squad import from_article, from_hub
from markov_cot.data.fields import RowError
from markov_cot.data.problem import Problem
from markov_cot.data.registry import load
from markov_cot.utils.errors import UserError


def article(title: str, questions: int = 2, **fields: Any) -> dict[str, Any]:
    """Of one paragraph; a title makes the answers."""
    qas = [
        {"id": f"{title}-{i}", "question": f"What is {i} of {title}?", "answers": [{"text": f"{title} {i}"}], **fields}
        for i in range(questions)
    ]
    return {"title": title, "paragraphs": [{"context": f"About {title}.", "qas": qas}]}


def write(path: Path, *articles: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"version": "1.1", "data": list(articles)}), encoding="utf-8")


def test_an_article_becomes_its_questions(place: Any) -> None:
    row = article("Ada", 1)
    row["paragraphs"][0]["qas"][0]["answers"] = [{"text": "1843"}, {"text": "in  1843"}, {"text": "1843"}]
    [problem] = from_article(row, place())
    assert problem == Problem(
        "Ada-0", "What is 0 of Ada?", "1843", "text", passage="About Ada.", alternatives=("in 1843",), group="Ada"
    )


def test_questions_without_an_answer_are_left_out_where_they_say_so(place: Any) -> None:
    assert from_article(article("Ada", 1, answers=[], is_impossible=True), place()) == ()
    with pytest.raises(RowError, match="answers: the list of accepted answers is empty"):
        from_article(article("Ada", 1, answers=[]), place())


def test_a_row_of_the_hub(place: Any) -> None:
    row = {
        "id": "1",
        "title": "Ada",
        "context": "c",
        "question": "q",
        "answers": {"text": ["x", "y"], "answer_start": [0]},
    }
    [problem] = from_hub(row, place())
    assert (problem.accepted, problem.group, problem.passage) == (("x", "y"), "Ada", "c")
    [problem] = from_hub({key: value for key, value in row.items() if key != "title"}, place())
    assert problem.group == ""
    assert from_hub({**row, "answers": {"text": []}}, place()) == ()


def test_published_splits(tmp_path: Path) -> None:
    write(tmp_path / "squad" / "train-v1.1.json", *(article(f"T{i}") for i in range(20)))
    write(tmp_path / "squad" / "dev-v1.1.json", article("D0"), article("D1"))
    splits = load(Data(dataset="squad", data_dir=str(tmp_path)))
    assert {problem.group for problem in splits.test} == {"D0", "D1"}
    held_out = {problem.group for problem in splits.validation}
    assert len(splits.validation) == 4 and not held_out & {problem.group for problem in splits.train}
    assert "trains on train, evaluates on dev" in splits.note


def test_xquad_by_language_and_in_the_place_of_squad(tmp_path: Path) -> None:
    for language in ("en", "de"):
        write(tmp_path / "xquad" / f"xquad.{language}.json", *(article(f"{language}{i}") for i in range(10)))
    english, german = (load(Data(dataset="xquad", subset=s, data_dir=str(tmp_path))) for s in (None, "de"))
    assert {problem.group[:2] for problem in english.train} == {"en"}
    assert {problem.group[:2] for problem in german.train} == {"de"}
    assert [len(s) for s in (english.train, english.validation, english.test)] == [12, 2, 6]
    assert load(Data(dataset="squad", data_dir=str(tmp_path))).train == english.train


def test_a_broken_article_is_named(tmp_path: Path) -> None:
    write(tmp_path / "xquad" / "xquad.en.json", article("A"), {"title": "B", "paragraphs": [{"context": "c"}]})
    with pytest.raises(UserError, match=r"xquad\.en\.json row 2: field 'qas' is missing"):
        load(Data(dataset="xquad", data_dir=str(tmp_path)))
