"""Teachers' rows: the response, what it is worth, and what is wrong with a file."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from markov_cot.analysis.teacher_files import (
    RewardSource,
    Teacher,
    make_reader,
    names_of,
    responses,
    survey,
)
from markov_cot.analysis.teacher_golds import Golds
from markov_cot.config.schema import Data
from markov_cot.grading.kinds import Kind
from markov_cot.utils.errors import UserError

QUESTION = {"question": "What is 2+3?"}


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "t.jsonl"


def read(
    path: Path,
    *rows: dict[str, Any],
    rewards: RewardSource = "auto",
    kind: Kind | None = None,
    golds: Golds | None = None,
) -> Teacher:
    return survey(path, "t", make_reader([write(path, *rows)], rewards, kind, golds))


def refused(path: Path, *rows: dict[str, Any], **how: Any) -> str:
    with pytest.raises(UserError) as error:
        read(path, *rows, **how)
    return str(error.value)


def test_a_response_is_given_or_made_of_cot_and_answer(path: Path) -> None:
    rows = [
        {**QUESTION, "response": " Two and three\nare 5. ", "gold": 5},
        {**QUESTION, "cot": "2+3=5\n", "answer": 5, "gold": "5"},
        {**QUESTION, "cot": "2+3=6", "answer": "6", "gold": 5.0},
    ]
    teacher = read(path, *rows)
    reader = make_reader([path], "auto", None, None)
    assert [each.response for _, each in responses(teacher, reader, {0, 1, 2})] == [
        "Two and three\nare 5.",
        "2+3=5\nAnswer: 5",
        "2+3=6\nAnswer: 6",
    ]
    assert teacher.reward_N.tolist() == [1, 1, 0]
    assert len(set(teacher.keys)) == 1 and reader.kind == "numeric" and not reader.is_given
    assert [index for index, _ in responses(teacher, reader, {2})] == [2]


def test_rewards_are_given_unless_they_are_to_be_verified(path: Path) -> None:
    rows = [
        {**QUESTION, "response": "It is 5", "gold": "5", "reward": -0.5},
        {**QUESTION, "response": "6", "reward": 2},
    ]
    assert read(path, *rows).reward_N.tolist() == [-0.5, 2]
    rows[1]["gold"] = "nobody knows"
    assert read(path, *rows).reward_N.tolist() == [-0.5, 2], "golds that are not needed may be anything"
    rows[1]["gold"] = "5"
    assert read(path, *rows, rewards="verified").reward_N.tolist() == [1, 0]


def test_golds_of_every_kind(path: Path) -> None:
    choice = {"question": "Which?", "choices": ["7", "9", "8"], "gold": "B"}
    teacher = read(path, {**choice, "response": "So it is (B)."}, {**choice, "cot": "hm", "answer": "C"})
    assert teacher.reward_N.tolist() == [1, 0]
    words = {"question": "Where?", "gold": ["Paris", "the city of Paris"]}
    teacher = read(
        path, {**words, "cot": "in France", "answer": "paris."}, {**words, "cot": "in Italy", "answer": "Rome"}
    )
    assert teacher.reward_N.tolist() == [1, 0]
    one = {"question": "Who?", "gold": "7"}
    assert read(path, {**one, "cot": "-", "answer": "7.0"}).reward_N.tolist() == [1]
    assert read(path, {**one, "cot": "-", "answer": "7.0"}, kind="text").reward_N.tolist() == [0]


def test_the_same_question_with_other_choices_is_another(path: Path) -> None:
    rows = [
        {"question": "Which?", "choices": list(texts), "response": "A", "reward": 1} for texts in ("ab", "ba", "ab")
    ]
    first, second, third = read(path, *rows).keys
    assert first == third != second
    spaced, plain = read(
        path, {"question": "a  b", "response": "x", "reward": 1}, {"question": "a b", "response": "x", "reward": 1}
    ).keys
    assert spaced == plain


def test_golds_of_a_dataset(path: Path, tmp_path: Path) -> None:
    data = write(
        tmp_path / "data.jsonl",
        {"question": "Which is largest?", "choices": ["7", "9"], "answer": "B"},
        {"question": "Which is  smallest?", "choices": ["7", "9"], "answer": "A"},
        *({"question": "Again?", "choices": ["7", "9"], "answer": letter} for letter in "AB"),
    )
    golds = Golds(Data(dataset=str(data)))
    teacher = read(
        path,
        {"question": "Which is largest?", "response": "It is B."},
        {"question": "Which is smallest?", "response": "It is B."},
        golds=golds,
    )
    assert teacher.reward_N.tolist() == [1, 0]
    [(_, answered)] = responses(teacher, make_reader([path], "auto", None, golds), {0})
    assert answered.problem.choices == ("7", "9"), "which the student is shown"
    assert "its question is not in data" in refused(path, {"question": "Why?", "response": "B"}, golds=golds)
    assert "has its question several times" in refused(path, {"question": "Again?", "response": "B"}, golds=golds)
    assert "--kind text: is of the rows' golds" in refused(
        path, {"question": "Why?", "response": "B"}, golds=golds, kind="text"
    )
    assert golds.kind == "choice"
    with pytest.raises(UserError, match="is generated, not stored"):
        Golds(Data(dataset="arithmetic"))


def test_gzipped_files_and_their_names(path: Path, tmp_path: Path) -> None:
    rows = {**QUESTION, "response": "5", "reward": 1}
    zipped = tmp_path / "t.jsonl.gz"
    zipped.write_bytes(gzip.compress(json.dumps(rows).encode()))
    assert len(survey(zipped, "t", make_reader([zipped], "auto", None, None)).keys) == 1
    assert names_of([path, tmp_path / "u.jsonl"]) == ["t", "u"]
    assert names_of([path, zipped]) == [str(path), str(zipped)]


def test_faults_of_rows(path: Path) -> None:
    good = {**QUESTION, "response": "5", "reward": 1}
    assert "t.jsonl line 2: field 'question' is missing (the row has response, reward)" in refused(
        path, good, {"response": "5", "reward": 1}
    )
    assert "line 1: no `response`, and no `cot` and `answer`" in refused(path, {**QUESTION, "reward": 1})
    assert "has a `cot` and no `answer`" in refused(path, {**QUESTION, "cot": "5", "reward": 1})
    assert "response is empty" in refused(path, {**QUESTION, "response": " ", "reward": 1})
    for reward in (float("nan"), float("inf"), "1", True, 10**200):
        assert "line 2: reward is " in refused(path, good, {**good, "reward": reward})
    assert "line 2: no `reward`, which other rows have" in refused(path, good, {**QUESTION, "response": "5"})
    verified = {**QUESTION, "response": "5", "gold": "5"}
    assert "line 2: has a `reward`, and others have none" in refused(path, verified, good)
    assert "line 2: no `reward`, and no `gold` to verify by" in refused(path, verified, {**QUESTION, "response": "5"})
    assert "line 2: gold 'who?' is not a number" in refused(path, verified, {**verified, "gold": "who?"})
    assert "gold 'C' is neither a label" in refused(path, {**verified, "choices": ["1", "2"], "gold": "C"})
    path.write_text('{"question": "a"\n')
    with pytest.raises(UserError, match="line 1: not JSON"):
        make_reader([path], "auto", None, None)


def test_faults_of_files(path: Path, tmp_path: Path) -> None:
    path.write_text("\n \n")
    with pytest.raises(UserError, match=r"t\.jsonl: is empty"):
        make_reader([path], "auto", None, None)
    with pytest.raises(UserError, match="is a folder"):
        make_reader([tmp_path], "auto", None, None)
    with pytest.raises(UserError, match="does not exist"):
        make_reader([tmp_path / "none.jsonl"], "auto", None, None)
    path.write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(UserError, match="Git LFS pointer"):
        make_reader([path], "auto", None, None)


def test_of_a_file_little_is_kept(path: Path) -> None:
    """Rows are read one at a time: the file's text is never in memory as a whole."""
    import tracemalloc

    response = "word " * 2_000
    write(path, *({"question": f"{i}?", "response": response, "reward": 1} for i in range(400)))
    assert path.stat().st_size > 4_000_000
    tracemalloc.start()
    try:
        survey(path, "t", make_reader([path], "auto", None, None))
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()
