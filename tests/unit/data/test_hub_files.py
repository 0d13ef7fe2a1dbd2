"""The hub's files in a folder of one's own, as `hf download` leaves them: the problems are those of the online path."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from markov_cot.config.schema import Data
from markov_cot.data.describe import describe
from markov_cot.data.registry import load
from markov_cot.data.splits import Splits
from markov_cot.utils.errors import UserError

arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")


def arc_row(number: int, labels: str = "ABCD") -> dict[str, Any]:
    choices = {"text": [f"t{number}{label}" for label in labels], "label": list(labels)}
    return {"id": f"id{number}", "question": f"Which, {number}?", "choices": choices, "answerKey": labels[number % 3]}


def mmlu_row(number: int, subject: str) -> dict[str, Any]:
    choices = [f"{number}{letter}" for letter in "wxyz"]
    return {"question": f"{subject} {number}?", "subject": subject, "choices": choices, "answer": number % 4}


ROWS: dict[str, Any] = {
    "gsm8k": lambda n: {"question": f"How many, {n}?", "answer": f"It is <<1+{n}={n + 1}>>{n + 1}.\n#### {n + 1},000"},
    "svamp": lambda n: {"ID": f"s{n}", "Body": f"Ann has {n} pens.", "Question": "How many?", "Answer": f"{n}.0",
                        "Equation": f"( {n} )", "Type": "Addition", "question_concat": "..."},
    "aqua": lambda n: {"question": f"What, {n}?", "options": [f"{letter}){letter}){n}{letter}" for letter in "ABCDE"],
                       "rationale": "because", "correct": "ABCDE"[n % 5]},
    "arc": arc_row,
    "mmlu": lambda n: mmlu_row(n, ("anatomy", "virology")[n % 2]),
    "mathqa": lambda n: {"Problem": f"what , {n} ?", "Rationale": "so", "correct": "abcde"[n % 5],
                         "options": "a ) 1 , b ) 2 , c ) 3 , d ) 4 , e ) 5"},
    "hellaswag": lambda n: {"activity_label": "Waving", "ctx_a": f"Man {n} waits.", "ctx_b": "then he", "label": "1",
                            "endings": [f"does {letter}." for letter in "wxyz"]},
}  # fmt: skip
HUB: dict[str, tuple[str, str | None, str, tuple[str, ...]]] = {
    "gsm8k": ("openai/gsm8k", "main", "main", ("train", "test")),
    "svamp": ("ChilleD/SVAMP", None, "data", ("train", "test")),
    "aqua": ("deepmind/aqua_rat", "raw", "raw", ("train", "validation", "test")),
    "arc": ("allenai/ai2_arc", "ARC-Challenge", "ARC-Challenge", ("train", "validation", "test")),
    "mmlu": ("cais/mmlu", "all", "all", ("auxiliary_train", "dev", "validation", "test")),
    "mathqa": ("allenai/math_qa", None, "data", ("train", "validation", "test")),
    "hellaswag": ("Rowan/hellaswag", None, "data", ("train", "validation")),
}


def tables(dataset: str) -> dict[str, list[Any]]:
    splits = HUB[dataset][3]
    return {split: [ROWS[dataset](30 * i + n) for n in range(30)] for i, split in enumerate(splits)}


def write(folder: Path, made: Mapping[str, list[Any]], name: str = "{}-00000-of-00001.parquet") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for split, rows in made.items():
        path = folder / name.format(split)
        path.parent.mkdir(exist_ok=True)
        parquet.write_table(arrow.Table.from_pylist(rows), path)


def same(found: Splits, online: Splits) -> bool:
    return (found.train, found.validation, found.test) == (online.train, online.validation, online.test)


@pytest.mark.parametrize("dataset", HUB)
@pytest.mark.parametrize("name", ["{}-00000-of-00001.parquet", "{}-00000-of-00001-0a1b2c.parquet", "{}/0000.parquet"])
def test_files_give_the_problems_of_the_online_path(
    tmp_path: Path, dataset: str, name: str, load_hub: Any, offline: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub_id, config, folder, _ = HUB[dataset]
    online = load_hub(dataset, hub_id, config, tables(dataset))
    assert len(online.test) == 30
    write(tmp_path / dataset / folder, tables(dataset), name)
    (tmp_path / dataset / "README.md").write_text("---\n")
    for data_dir in (tmp_path, tmp_path / dataset):
        found = load(Data(dataset=dataset, data_dir=str(data_dir)), open_hub=offline)
        assert same(found, online) and found.note == online.note
        assert found.source == str(tmp_path / dataset / folder)
    monkeypatch.setenv("MARKOV_COT_DATA", str(tmp_path))
    assert same(load(Data(dataset=dataset), open_hub=offline), online)
    listed = next(listing for listing in describe() if listing.name == dataset)
    assert listed.source == str(tmp_path / dataset / folder)
    assert listed.splits == dict.fromkeys(HUB[dataset][3], 30)


@pytest.mark.parametrize("dataset", HUB)
def test_a_folder_may_be_called_as_on_the_hub(tmp_path: Path, dataset: str, offline: Any) -> None:
    hub_id, _, folder, _ = HUB[dataset]
    write(tmp_path / hub_id.split("/")[1] / folder, tables(dataset))
    assert len(load(Data(dataset=dataset, data_dir=str(tmp_path)), open_hub=offline).test) == 30


def test_wiki_has_a_row_for_each_line(tmp_path: Path, load_hub: Any, load_files: Any) -> None:
    lines = ["", " = Cats = ", "", " ".join(f"w{i}" for i in range(40)), "", " = Dogs = ", "", "dog " * 40]
    rows = {split: [{"text": f"{line} {split}\n" if len(line) > 30 else line} for line in lines] for split in
            ("train", "validation", "test")}  # fmt: skip
    settings = {"context_tokens": 10, "target_tokens": 5}
    online = load_hub("wiki", "Salesforce/wikitext", "wikitext-2-raw-v1", rows, **settings)
    folder = tmp_path / "wikitext2" / "wikitext-2-raw-v1"
    write(folder, {split: rows[split] for split in ("validation", "test")})
    for part in (0, 1):
        half = {"train": rows["train"][4 * part : 4 * part + 4]}
        write(folder, half, f"{{}}-0000{part}-of-00002.parquet")
    found = load_files("wiki", {}, **settings)
    assert same(found, online) and len(found.test) == 4
    listed = next(listing for listing in describe(str(tmp_path)) if listing.name == "wiki")
    assert listed.splits == {"train": 2, "validation": 2, "test": 2}


def test_the_subsets_of_arc_are_told_apart_by_their_folders(tmp_path: Path, offline: Any) -> None:
    write(tmp_path / "arc" / "ARC-Easy", {"test": [arc_row(n) for n in range(5)]})
    easy = load(Data(dataset="arc", subset="easy", data_dir=str(tmp_path)), open_hub=offline)
    assert [problem.id for problem in easy.test] == [f"id{n}" for n in range(5)]
    shutil.move(tmp_path / "arc" / "ARC-Easy" / "test-00000-of-00001.parquet", tmp_path / "arc")
    for subset in ("easy", "challenge"):
        with pytest.raises(UserError, match="holds no such files"):
            load(Data(dataset="arc", subset=subset, data_dir=str(tmp_path)), open_hub=offline)


def test_subjects_of_mmlu_in_folders_of_their_own(tmp_path: Path, offline: Any) -> None:
    for subject in ("anatomy", "virology"):
        write(tmp_path / "mmlu" / subject, {"test": [mmlu_row(n, subject) for n in range(5)]})
    nested = {"train": [{"train": mmlu_row(n, "") | {"question": f"auxiliary {n}?"}} for n in range(40)]}
    write(tmp_path / "mmlu" / "auxiliary_train", nested)
    both = load(Data(dataset="mmlu", data_dir=str(tmp_path)), open_hub=offline)
    assert {problem.subject for problem in both.test} == {"anatomy", "virology"} and len(both.test) == 10
    assert all(problem.question.startswith("auxiliary") for problem in both.train)
    assert len(both.train) + len(both.validation) == 40
    one = load(Data(dataset="mmlu", subset="virology", data_dir=str(tmp_path)), open_hub=offline)
    assert [problem.answer for problem in one.test] == ["A", "B", "C", "D", "A"]


def test_the_other_config_of_gsm8k_is_read_where_main_is_not(tmp_path: Path, offline: Any) -> None:
    write(tmp_path / "gsm8k" / "socratic", tables("gsm8k"))
    found = load(Data(dataset="gsm8k", data_dir=str(tmp_path)), open_hub=offline)
    assert found.source == str(tmp_path / "gsm8k" / "socratic") and found.test[0].answer == "31000"


def test_what_save_to_disk_leaves(tmp_path: Path, load_hub: Any, offline: Any) -> None:
    datasets = pytest.importorskip("datasets")
    made = {split: datasets.Dataset.from_list(rows) for split, rows in tables("svamp").items()}
    datasets.DatasetDict(made).save_to_disk(str(tmp_path / "svamp"))
    found = load(Data(dataset="svamp", data_dir=str(tmp_path)), open_hub=offline)
    assert same(found, load_hub("svamp", "ChilleD/SVAMP", None, tables("svamp")))


def test_the_originals_are_preferred(tmp_path: Path, load_files: Any) -> None:
    write(tmp_path / "gsm8k" / "main", tables("gsm8k"))
    found = load_files("gsm8k", {"gsm8k/test.jsonl": [{"question": "original?", "answer": "#### 1"}]})
    assert [problem.question for problem in found.test] == ["original?"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PAR1 cut", "test.parquet: is not a Parquet file, or a broken one .*; fetch or write it again"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is a Git LFS pointer, not the data; fetch it"),
        (b"", "test.parquet: is not a Parquet file, or a broken one"),
    ],
)
def test_files_that_are_no_parquet(tmp_path: Path, offline: Any, content: bytes, message: str) -> None:
    write(tmp_path / "gsm8k" / "main", tables("gsm8k"), "{}.parquet")
    (tmp_path / "gsm8k" / "main" / "test.parquet").write_bytes(content)
    with pytest.raises(UserError, match=message) as raised:
        load(Data(dataset="gsm8k", data_dir=str(tmp_path)), open_hub=offline)
    assert "\n" not in str(raised.value)
    fault = next(listing for listing in describe(str(tmp_path)) if listing.name == "gsm8k").fault
    assert fault == str(raised.value)


def test_a_missing_part_is_named(tmp_path: Path, offline: Any) -> None:
    write(tmp_path / "gsm8k" / "main", tables("gsm8k"), "{}-00000-of-00002.parquet")
    with pytest.raises(UserError, match=r"train has 2 parts, and 1 of them are here; fetch the others, too"):
        load(Data(dataset="gsm8k", data_dir=str(tmp_path)), open_hub=offline)
    assert "has 2 parts" in next(listing for listing in describe(str(tmp_path)) if listing.name == "gsm8k").fault


def test_a_broken_row_is_named(tmp_path: Path, offline: Any) -> None:
    made = tables("gsm8k")
    made["test"][6]["answer"] = "no number"
    write(tmp_path / "gsm8k" / "main", made, "{}.parquet")
    with pytest.raises(UserError, match=r"main/test\.parquet row 7: answer: has no '####' before the final number"):
        load(Data(dataset="gsm8k", data_dir=str(tmp_path)), open_hub=offline)
    assert load(Data(dataset="gsm8k", data_dir=str(tmp_path), skip_bad_rows=True), open_hub=offline).skipped == 1
