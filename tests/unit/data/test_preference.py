"""The three forms of comparisons, their files and their faults."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from markov_cot.config.schema import Data
from markov_cot.data.benchmarks.preference import from_row
from markov_cot.data.fields import RowError
from markov_cot.data.problem import Problem
from markov_cot.data.registry import load
from markov_cot.utils.errors import UserError

WINNERS = ("winner_model_a", "winner_model_b", "winner_tie")


def arena(i: int = 0, winner: int = 0, **fields: Any) -> dict[str, Any]:
    row: dict[str, Any] = {"id": i, "model_a": "m", "model_b": "n", "prompt": json.dumps([f"Question {i}?"])}
    row |= {"response_a": json.dumps([f"One {i}."]), "response_b": json.dumps([f"Two {i}."])}
    return row | {name: int(number == winner) for number, name in enumerate(WINNERS)} | fields


def pandalm(i: int = 0, votes: tuple[int, int, int] = (1, 1, 2), **fields: Any) -> dict[str, Any]:
    row = {"idx": i, "instruction": f"Do {i}.", "input": "", "response1": "Yes.", "response2": "No."}
    return row | dict(zip(("annotator1", "annotator2", "annotator3"), votes, strict=True)) | fields


def llmbar(i: int = 0, label: int = 1) -> dict[str, Any]:
    return {"input": f"Do {i}.", "output_1": "Yes.", "output_2": "No.", "label": label}


def as_csv(rows: list[dict[str, Any]]) -> str:
    file = io.StringIO()
    writer = csv.DictWriter(file, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def one(row: Any, place: Any) -> Problem:
    return from_row(row, place())


@pytest.mark.parametrize("winner", [0, 1, 2])
def test_a_vote_of_the_arena(place: Any, winner: int) -> None:
    turns = {"prompt": '["Hi?", "And?"]', "response_a": '["Hi.", null]', "response_b": ["Yo.", "Well."]}
    problem = one(arena(7, winner, **turns), place)
    assert (problem.id, problem.answer, len(problem.choices)) == ("arena-7", "ABC"[winner], 3)
    assert problem.passage.endswith("Response A, turn 2:\n\n\nResponse B, turn 2:\nWell.\n")
    cells = {name: str(value) for name, value in arena(7, winner).items()}
    assert one(cells, place) == one(arena(7, winner), place), "as in CSV"


def test_half_an_emoji_and_models_names_are_not_shown(place: Any) -> None:
    problem = one(arena(response_a='["Fine \\ud83d"]', response_b='["Fine \\ud83d\\ude00"]', model_a="secret"), place)
    assert "Fine \ufffd\n" in problem.passage and problem.passage.endswith("Fine \U0001f600\n")
    assert "secret" not in problem.passage


@pytest.mark.parametrize(
    ("votes", "letter"), [((1, 1, 2), "A"), ((2, 0, 2), "B"), ((0, 0, 0), "C"), ((1, 0, 0), "C"), ((2, 2, 2), "B")]
)
def test_the_majority_of_pandalms_annotators(place: Any, votes: tuple[int, int, int], letter: str) -> None:
    assert one(pandalm(3, votes), place).answer == letter


def test_prompts_and_responses_of_pandalm(place: Any) -> None:
    problem = one(pandalm(3, input="On this.", response1=True, response2=""), place)
    assert problem.passage == "Prompt:\nDo 3.\n\nOn this.\n\nResponse A:\nTrue\n\nResponse B:\n\n"
    assert problem.id == "pandalm-3"
    assert one(pandalm(instruction="", input="Only this."), place).passage.startswith("Prompt:\nOnly this.\n\n")


def test_llmbar_has_no_tie(place: Any) -> None:
    problem = one(llmbar(label=2) | {"part": "Manual"}, place)
    assert (problem.answer, len(problem.choices), problem.subject, problem.id) == ("B", 2, "Manual", "llmbar-Manual-7")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (5, "expected an object with fields, got a number"),
        ({"text": "x"}, r"has neither `prompt` \(arena\) nor `instruction` \(pandalm\) nor `output_1` \(llmbar\)"),
        (arena(prompt="Hello?"), "prompt: 'Hello\\?' is not a JSON list of turns"),
        (arena(prompt='"Hello?"'), "prompt: expected a list of turns, got 'Hello\\?'"),
        (arena(prompt="[]"), "prompt: expected a list of turns"),
        (arena(prompt="[[]]"), "prompt: turn 1: expected text, got a list"),
        (arena(prompt='["a", "b"]'), "prompt has 2 turns, response_a 1 and response_b 1"),
        (arena(winner=5), "winner_model_a 0, winner_model_b 0, winner_tie 0: expected 1 in one of them"),
        (arena(winner_tie=1), "winner_model_a 1, winner_model_b 0, winner_tie 1: expected 1 in one"),
        (arena(winner_tie="maybe"), "winner_tie 'maybe': expected 1 in one"),
        ({k: v for k, v in arena().items() if k not in WINNERS}, "has no label .* like the rows of Kaggle's test file"),
        (arena() | dict.fromkeys(WINNERS, ""), "has no label"),
        ({k: v for k, v in arena().items() if k != "response_b"}, "field 'response_b' is missing"),
        (pandalm(votes=(0, 1, 2)), "annotator1, annotator2, annotator3 all differ; there is no majority"),
        (pandalm(annotator2=3), "annotator2: 3 is not one of 0, 1, 2"),
        (pandalm(annotator2="1"), "annotator2: '1' is not one of 0, 1, 2"),
        (pandalm(response1=[]), "response1: expected text, got a list"),
        (llmbar(label=0), "label: 0 is not one of 1, 2"),
    ],
)
def test_faults(row: Any, message: str, place: Any) -> None:
    with pytest.raises(RowError, match=message):
        one(row, place)


def votes_of(groups: int, size: int = 2) -> list[dict[str, Any]]:
    """Rows of which `size` have one prompt each."""
    return [
        arena(i, i % 3, prompt=json.dumps([f"Prompt {i // size}".upper() if i % size else f"prompt  {i // size}"]))
        for i in range(groups * size)
    ]


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_a_prompts_rows_stay_together_and_training_rows_are_swapped(load_files: Any, form: str) -> None:
    rows = votes_of(60)
    content = as_csv(rows) if form == "csv" else rows
    splits = load_files("preference", {f"preference/train.{form}": content}, swap=True)
    assert [len(side) for side in (splits.train, splits.validation, splits.test)] == [2 * 76, 8, 36]
    groups = [{problem.group for problem in side} for side in (splits.train, splits.validation, splits.test)]
    assert sum(map(len, groups)) == 60 == len(set.union(*groups))
    swapped = [problem for problem in splits.train if problem.id.endswith("-swapped")]
    assert len(swapped) == 76 and not any(p.id.endswith("-swapped") for p in (*splits.validation, *splits.test))
    plain = load_files("preference", {})
    assert [problem for problem in splits.train if problem not in swapped] == plain.train
    assert plain.validation == splits.validation and plain.test == splits.test


def test_kaggles_test_file_is_left_aside_and_a_labelled_one_is_used(load_files: Any, tmp_path: Path) -> None:
    unlabelled = [{k: v for k, v in arena(i + 100).items() if "model" not in k and k != "winner_tie"} for i in range(3)]
    files = {"preference/train.csv": as_csv(votes_of(20)), "preference/test.csv": as_csv(unlabelled)}
    splits = load_files("preference", files)
    assert "test.csv was left aside, because its rows have no winner" in splits.note
    assert len(splits.test) == 12
    splits = load_files("preference", {"preference/test.csv": as_csv([arena(i + 100) for i in range(3)])})
    assert [problem.id for problem in splits.test] == ["arena-100", "arena-101", "arena-102"]
    assert "left aside" not in splits.note
    (tmp_path / "preference" / "train.csv").unlink()
    (tmp_path / "preference" / "test.csv").write_text(as_csv(unlabelled))
    with pytest.raises(UserError, match=r"dataset preference: not found in --data-dir \(.* holds no such files\)"):
        load_files("preference", {})


def write(folder: Path, **files: list[dict[str, Any]]) -> None:
    for name, rows in files.items():
        path = folder / name.replace("__", "/")
        path = path.with_name(f"{path.name}.json")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(rows))


def test_subsets(tmp_path: Path, offline: Any) -> None:
    def read(subset: str | None) -> Any:
        return load(Data(dataset="preference", data_dir=str(tmp_path), subset=subset), open_hub=offline)

    # Flat, and as in the authors' repository.
    write(tmp_path, llmbar_natural=[llmbar(i) for i in range(3)])
    write(tmp_path, Adversarial__GPTOut__dataset=[llmbar(i + 10, 2) for i in range(2)])
    alone = read(None)
    assert (len(alone.train), len(alone.test)) == (0, 5)
    assert alone.note == "only the published test split (llmbar) was found; there is nothing to train on"
    assert [problem.id for problem in alone.test][2:4] == ["llmbar-Natural-3", "llmbar-GPTOut-1"]
    places = "github.com/WeOpenML/PandaLM and github.com/princeton-nlp/LLMBar"
    with pytest.raises(UserError, match=rf"dataset preference: not found in .*; get all its files, from {places}"):
        read("pandalm,llmbar")
    write(tmp_path, **{"testset-v1": [pandalm(i) for i in range(20)]})
    assert "pandalm was read; data.subset=llmbar reads the other" in read(None).note
    both = read("pandalm,llmbar")
    assert (len(both.train), len(both.validation), len(both.test)) == (14, 1, 5)
    assert "left out of testset-v1, because llmbar has them too: 5 problems" in both.note, "five prompts are in both"
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(arena(i)) + "\n" for i in range(20)))
    assert "arena was read; data.subset=pandalm reads the others" in read(None).note
    mixed = read("arena,pandalm")
    assert "train and testset-v1" in mixed.note
    assert sum(map(len, (mixed.train, mixed.validation, mixed.test))) == 40


def test_the_hub_has_the_votes(load_hub: Any) -> None:
    rows = [{**arena(i, i % 3)} for i in range(40)]
    splits = load_hub("preference", "lmarena-ai/arena-human-preference-55k", None, {"train": rows})
    assert len(splits.test) == 12 and splits.source == "hub:lmarena-ai/arena-human-preference-55k"


@pytest.mark.parametrize("dataset", ["arithmetic", "gsm8k", "rows.jsonl"])
def test_nothing_else_is_swapped(dataset: str, offline: Any) -> None:
    with pytest.raises(UserError, match=r"data.swap: .* has none \(only preference\); set it to false"):
        load(Data(dataset=dataset, swap=True), open_hub=offline)


def test_a_broken_row_is_named(load_files: Any) -> None:
    with pytest.raises(UserError, match=r"train\.csv line 4: winner_model_a '0'.*--skip-bad-rows"):
        load_files("preference", {"preference/train.csv": as_csv([arena(0), arena(1), arena(2, 9)])})
