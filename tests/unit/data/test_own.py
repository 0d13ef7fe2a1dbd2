"""Data of one's own: which files make which split, and what is said of them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from markov_cot.config.loading import build_config
from markov_cot.config.schema import Data
from markov_cot.data.own import own_name, same_data
from markov_cot.data.problem import Problem
from markov_cot.data.registry import load
from markov_cot.data.splits import Splits
from markov_cot.utils.errors import UserError

Rows = list[dict[str, Any]]


def numbered(first: int, last: int) -> Rows:
    return [{"question": f"What is {i}+1?", "answer": i + 1} for i in range(first, last)]


def as_lines(rows: Rows) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def as_csv(rows: Rows, delimiter: str = ",") -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def as_parquet(rows: Rows) -> bytes:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    file = io.BytesIO()
    parquet.write_table(arrow.Table.from_pylist(rows), file)
    return file.getvalue()


FORMS: dict[str, Callable[[Rows], bytes]] = {
    "mine.jsonl": as_lines,
    "mine.JSONL": as_lines,
    "mine.ndjson": as_lines,
    "mine.json": as_lines,
    "list.json": lambda rows: json.dumps(rows, indent=2).encode(),
    "data.json": lambda rows: json.dumps({"version": "1", "data": rows}, indent=2).encode(),
    "mine.csv": as_csv,
    "semicolons.csv": lambda rows: as_csv(rows, ";"),
    "mine.Tsv": lambda rows: as_csv(rows, "\t"),
    "mine.parquet": as_parquet,
}


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def numbers(problems: Any) -> list[int]:
    return sorted(int(problem.answer) - 1 for problem in problems)


def everything(splits: Splits) -> list[Problem]:
    return [*splits.train, *splits.validation, *splits.test]


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_a_file_of_every_form_gives_the_same_problems(tmp_path: Path, name: str, mark: bytes) -> None:
    if mark and name.endswith("parquet"):
        mark = b""
    path = write(tmp_path, {name: mark + FORMS[name](numbered(0, 40))}) / name
    splits = load(Data(dataset=str(path)))
    assert numbers(everything(splits)) == list(range(40))
    assert (splits.name, splits.source) == (name.split(".")[0], str(path))
    reference = load(Data(dataset=str(write(tmp_path, {"r.jsonl": as_lines(numbered(0, 40))}) / "r.jsonl")))
    assert splits.fingerprint() == reference.fingerprint()


def test_a_note_on_ones_own_file_does_not_call_it_published(tmp_path: Path) -> None:
    write(tmp_path, {"mine.jsonl": as_lines(numbered(0, 40)), "both/train.jsonl": as_lines(numbered(0, 40))})
    write(tmp_path, {"both/test.jsonl": as_lines(numbered(40, 50))})
    notes = [load(Data(dataset=str(tmp_path / name))).note for name in ("mine.jsonl", "both")]
    assert notes == [
        "30 % of the questions of mine are held out for test and 10 % of the rest for validation",
        "there is no validation file, so 10 % of train is held out",
    ]


@pytest.mark.parametrize(
    "names",
    [
        ("train.jsonl", "validation.jsonl", "test.jsonl"),
        ("train.csv", "valid.csv", "test.csv"),
        ("mine_train.json", "mine_dev.json", "mine_test.json"),
        ("Training.tsv", "VAL.tsv", "Testing.tsv"),
        ("train.jsonl", "dev.csv", "test.parquet"),
        ("data/train-00000-of-00001.parquet", "data/validation-00000-of-00001.parquet", "data/test.parquet"),
        ("main/train-00000-of-00001-0a1b.parquet", "main/validation.parquet", "main/test.parquet"),
        ("train/0000.parquet", "validation/0000.parquet", "test/0000.parquet"),
        ("deep/er/train.jsonl", "deep/er/val.jsonl", "deep/er/test.jsonl"),
    ],
)
def test_a_folder_of_three_files(tmp_path: Path, names: tuple[str, str, str]) -> None:
    def content(name: str, rows: Rows) -> bytes:
        return FORMS["mine.Tsv" if name.endswith(".tsv") else f"mine.{name.rpartition('.')[2]}"](rows)

    parts = (numbered(0, 20), numbered(20, 25), numbered(25, 35))
    folder = write(tmp_path / "sums", {name: content(name, rows) for name, rows in zip(names, parts, strict=True)})
    write(folder, {"README.md": b"# sums", "dataset_infos.json": b"{}", ".cache/huggingface/train.json": b"{}"})
    splits = load(Data(dataset=str(folder)))
    assert numbers(splits.train) == list(range(20))
    assert numbers(splits.validation) == list(range(20, 25))
    assert numbers(splits.test) == list(range(25, 35))
    assert (splits.name, splits.source, splits.note) == ("sums", str(folder), "")
    ids = [problem.id for problem in everything(splits)]
    assert len(set(ids)) == 35 and splits.validation[0].id.startswith("validation-")


def test_parts_of_a_split_are_put_together_and_must_all_be_there(tmp_path: Path) -> None:
    parts = {f"train-0000{i}-of-00003.parquet": as_parquet(numbered(10 * i, 10 * i + 10)) for i in range(3)}
    folder = write(tmp_path, parts | {"test.parquet": as_parquet(numbered(50, 60))})
    splits = load(Data(dataset=str(folder)))
    assert numbers([*splits.train, *splits.validation]) == list(range(30))
    assert {problem.id for problem in (*splits.train, *splits.validation)} == {f"train-{n}" for n in range(1, 31)}
    (folder / "train-00001-of-00003.parquet").unlink()
    with pytest.raises(UserError, match="train has 3 parts, and 2 of them are here; fetch the others, too"):
        load(Data(dataset=str(folder)))


def test_a_broken_row_of_a_part_is_named_by_its_file(tmp_path: Path) -> None:
    files = {f"train_{i}.jsonl": as_lines(numbered(10 * i, 10 * i + 10)) for i in (1, 2)}
    folder = write(tmp_path, files)
    (folder / "train_2.jsonl").write_bytes(files["train_2.jsonl"] + b'{"question": "q"}\n')
    with pytest.raises(UserError, match=r"train_2\.jsonl line 11: field 'answer' is missing"):
        load(Data(dataset=str(folder)))
    splits = load(Data(dataset=str(folder), skip_bad_rows=True))
    assert (splits.skipped, numbers(everything(splits))) == (1, list(range(10, 30)))


def test_files_for_validation_and_test_are_settings(tmp_path: Path) -> None:
    write(tmp_path, {"a.jsonl": as_lines(numbered(0, 20)), "b.csv": as_csv(numbered(20, 25))})
    write(tmp_path, {"c/c.parquet": as_parquet(numbered(25, 35))})
    given = {"validation": str(tmp_path / "b.csv"), "test": str(tmp_path / "c")}
    splits = load(Data(dataset=str(tmp_path / "a.jsonl"), **given))
    assert [numbers(part) for part in (splits.train, splits.validation, splits.test)] == [
        list(range(20)),
        list(range(20, 25)),
        list(range(25, 35)),
    ]
    assert splits.note == "" and splits.name == "a"
    named = build_config({"data": {"train": str(tmp_path / "a.jsonl"), **given}}, "f.yaml").data
    assert named == Data(dataset=str(tmp_path / "a.jsonl"), **given)


def test_settings_that_do_not_go_together(tmp_path: Path) -> None:
    folder = write(tmp_path, {f"{name}.jsonl": as_lines(numbered(0, 9)) for name in ("train", "test", "other")})
    other = str(folder / "other.jsonl")
    with pytest.raises(
        UserError, match=r"data\.test .*other\.jsonl: .* has a file for test, too; leave one of them out"
    ):
        load(Data(dataset=str(folder), test=other))
    with pytest.raises(
        UserError, match=r"data\.validation: goes with training data of your own, and words has its own"
    ):
        load(Data(dataset="words", validation=other))
    with pytest.raises(
        UserError, match=r"f\.yaml: data\.train: is another name for data\.dataset, which is given, too"
    ):
        build_config({"data": {"train": "a.jsonl", "dataset": "b.jsonl"}}, "f.yaml")
    with pytest.raises(UserError, match=r"data\.test none\.jsonl: does not exist; check the path"):
        load(Data(dataset=other, test="none.jsonl"))


def test_a_question_of_two_files_is_left_out_of_the_earlier_one_and_counted(tmp_path: Path) -> None:
    files = {"train": numbered(0, 22), "valid": numbered(20, 26), "test": numbered(25, 35)}
    folder = write(tmp_path, {f"{name}.jsonl": as_lines(rows) for name, rows in files.items()})
    splits = load(Data(dataset=str(folder)))
    assert numbers(splits.train) == list(range(20))
    assert numbers(splits.validation) == list(range(20, 25))
    assert numbers(splits.test) == list(range(25, 35))
    assert splits.note == (
        "left out of validation, because test has them too: 1 problem; "
        "left out of train, because validation or test has them too: 2 problems"
    )


@pytest.mark.parametrize(
    ("files", "sizes", "note"),
    [
        (("train", "validation"), (20, 5, 0), "there is no test file"),
        (("validation", "test"), (0, 5, 10), "there is no training file"),
        (("test",), (0, 0, 10), "there is no training file"),
    ],
)
def test_files_are_used_as_they_are_named(
    tmp_path: Path, files: tuple[str, ...], sizes: tuple[int, int, int], note: str
) -> None:
    rows = {"train": numbered(0, 20), "validation": numbered(20, 25), "test": numbered(25, 35)}
    folder = write(tmp_path, {f"{name}.jsonl": as_lines(rows[name]) for name in files})
    splits = load(Data(dataset=str(folder)))
    assert (len(splits.train), len(splits.validation), len(splits.test)) == sizes and splits.note == note


def test_files_that_name_no_split(tmp_path: Path) -> None:
    one = write(tmp_path / "one", {"sums.jsonl": as_lines(numbered(0, 40))})
    splits = load(Data(dataset=str(one)))
    assert numbers(everything(splits)) == list(range(40)) and splits.note.startswith("30 % of the questions of one")
    more = write(tmp_path / "one", {"contest.jsonl": as_lines(numbered(0, 40))})
    with pytest.raises(
        UserError, match=r"none of contest, sums says for which split it is; name the files train, valid"
    ):
        load(Data(dataset=str(more)))
    write(more, {"train.jsonl": as_lines(numbered(0, 40)), "test.jsonl": as_lines(numbered(40, 50))})
    note = load(Data(dataset=str(more))).note
    assert note.endswith("; not read, because their names say neither train nor validation nor test: contest, sums")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("train.jsonl", "train.csv"), r"train is there more than once \(train.csv, train.jsonl\); leave one of them"),
        (("train.jsonl", "train.jsonl.gz"), "train is there more than once"),
        (("train1.jsonl", "train2.csv"), "train1 and train2 are both for train; leave one of them in the folder"),
        (("dev.jsonl", "valid.jsonl"), "dev and valid are both for validation; leave one of them in the folder"),
        (
            ("main/train.jsonl", "socratic/train.jsonl"),
            "holds several sets of splits; give one of its folders: .*main, ",
        ),
    ],
)
def test_folders_that_could_mean_two_things(tmp_path: Path, names: tuple[str, ...], message: str) -> None:
    write(tmp_path, {name: as_lines(numbered(0, 9)) for name in names})
    with pytest.raises(UserError, match=message):
        load(Data(dataset=str(tmp_path)))


def test_folders_saved_by_datasets(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    parts = {"train": numbered(0, 20), "validation": numbered(20, 25), "test": numbered(25, 35)}
    made = {split: datasets.Dataset.from_list(rows) for split, rows in parts.items()}
    datasets.DatasetDict(made).save_to_disk(str(tmp_path / "three"))
    splits = load(Data(dataset=str(tmp_path / "three")))
    sizes = len(splits.train), len(splits.validation), len(splits.test)
    assert (sizes, splits.name, splits.note) == ((20, 5, 10), "three", "")
    # A selection is kept as a list of row numbers beside the table.
    made["train"].select([3, 1]).save_to_disk(str(tmp_path / "one"))
    assert numbers(everything(load(Data(dataset=str(tmp_path / "one"))))) == [1, 3]
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    load(Data(dataset=str(tmp_path / "three")))
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    next((tmp_path / "one").glob("*.arrow")).write_bytes(b"junk")
    with pytest.raises(UserError, match="one: is not a folder saved by datasets, or a broken one"):
        load(Data(dataset=str(tmp_path / "one")))


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (
            r"C:\data\mine.jsonl",
            r"C:\\data\\mine.jsonl: does not exist; check the path, whose folders are separated by",
        ),
        ("./mine.parquet", "mine.parquet: does not exist; check the path$"),
        ("folder/mine", "does not exist; check the path. .* `hf download folder/mine --repo-type dataset --local-dir"),
        ("", "dataset '': not known; there are gsm8k, "),
        ("~no-such-user/mine.jsonl", "~no-such-user/mine.jsonl: does not exist; check the path$"),
        ("mine.txt", "mine.txt: its name does not say what it is; data are .jsonl, .* or a folder of them"),
        ("empty", "empty: holds no data; give a folder with .jsonl, "),
    ],
)
def test_paths_that_lead_to_no_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dataset: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, {"mine.txt": b"{}", "empty/README.md": b""})
    with pytest.raises(UserError, match=message) as raised:
        load(Data(dataset=dataset))
    assert "\n" not in str(raised.value)


def test_a_folder_that_may_not_be_entered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(UserError, match=r"cannot be read \(Permission denied\); check its permissions"):
        load(Data(dataset=str(tmp_path)))


def test_names_and_spellings_of_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert [own_name(path) for path in ("a/b.jsonl.GZ", "b.v2.csv", "./a/", ".")] == ["b", "b.v2", "a", tmp_path.name]
    write(tmp_path, {"a.jsonl": b""})
    (tmp_path / "link.jsonl").symlink_to("a.jsonl")
    for other in ("./a.jsonl", str(tmp_path / "a.jsonl"), "link.jsonl", "x/../a.jsonl"):
        assert same_data("a.jsonl", other), other
    assert not same_data("a.jsonl", "b.jsonl") and not same_data("gsm8k", "./gsm8k")
