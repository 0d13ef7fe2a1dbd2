from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from markov_cot.config.schema import Data
from markov_cot.data.catalog import BENCHMARKS
from markov_cot.data.registry import dataset_names, load
from markov_cot.utils.errors import UserError


def write_gsm8k(folder: Path, word: str, count: int = 20) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    rows = [{"question": f"{word} {i}?", "answer": f"x #### {i}"} for i in range(count)]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "test.jsonl").write_text(json.dumps({"question": f"{word} test?", "answer": "#### 1"}))
    return folder


def test_data_dir_is_the_folder_or_its_parent(tmp_path: Path, offline: Any) -> None:
    write_gsm8k(tmp_path / "gsm8k", "q")
    for given in (tmp_path, tmp_path / "gsm8k"):
        splits = load(Data(dataset="gsm8k", data_dir=str(given)), open_hub=offline)
        assert splits.source == str(tmp_path / "gsm8k") and "holds no files" not in splits.note


def test_lookup_order(tmp_path: Path, offline: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    given, environment = tmp_path / "given", tmp_path / "environment"
    write_gsm8k(environment / "gsm8k", "environment")
    monkeypatch.setenv("MARKOV_COT_DATA", str(environment))
    config = Data(dataset="gsm8k", data_dir=str(given))
    assert load(Data(dataset="gsm8k"), open_hub=offline).test[0].question == "environment test?"
    splits = load(config, open_hub=offline)
    assert splits.test[0].question == "environment test?"
    assert splits.note.startswith(f"--data-dir {given} holds no files of gsm8k, so {environment / 'gsm8k'} was read; ")
    write_gsm8k(given, "given")
    assert load(config, open_hub=offline).test[0].question == "given test?"
    monkeypatch.setenv("MARKOV_COT_DATA", "")  # an empty value is as good as none
    with pytest.raises(UserError, match="MARKOV_COT_DATA is not set"):
        load(Data(dataset="gsm8k"), open_hub=offline)


def test_when_nothing_can_be_reached_all_three_are_named(tmp_path: Path, offline: Any, monkeypatch: Any) -> None:
    with pytest.raises(UserError) as raised:
        load(Data(dataset="gsm8k"), open_hub=offline)
    assert str(raised.value) == (
        "dataset gsm8k: not found in --data-dir (not given), $MARKOV_COT_DATA/gsm8k (MARKOV_COT_DATA is not set) "
        "or on the hub (openai/gsm8k: no connection); give one of the three"
    )
    monkeypatch.setenv("MARKOV_COT_DATA", str(tmp_path))
    with pytest.raises(UserError) as raised:
        load(Data(dataset="wiki", data_dir=str(tmp_path / "none")), open_hub=offline)
    assert str(raised.value) == (
        f"dataset wiki: not found in --data-dir ({tmp_path / 'none'} does not exist), $MARKOV_COT_DATA/wikitext2 "
        f"({tmp_path / 'wikitext2'} does not exist) or on the hub (Salesforce/wikitext: no connection); "
        "give one of the three"
    )
    with pytest.raises(UserError, match=f"--data-dir \\({tmp_path} holds no such files\\)"):
        load(Data(dataset="gsm8k", data_dir=str(tmp_path)), open_hub=offline)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_dataset_can_be_missing(name: str, offline: Any) -> None:
    with pytest.raises(UserError, match=rf"\$MARKOV_COT_DATA/{BENCHMARKS[name].folder} ") as raised:
        load(Data(dataset=name), open_hub=offline)
    assert "\n" not in str(raised.value)


def test_data_dir_that_is_a_file(tmp_path: Path, offline: Any) -> None:
    (tmp_path / "f").write_text("")
    with pytest.raises(UserError, match=r"--data-dir .*f: is a file, not a folder; name the folder that holds it"):
        load(Data(dataset="gsm8k", data_dir=str(tmp_path / "f")), open_hub=offline)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("gsm8", "did you mean gsm8k"),
        ("GSM8K", "there are|did you mean gsm8k"),
        ("arithmetics", "did you mean arithmetic"),
        (
            "zzz",
            "there are gsm8k, svamp, aqua, arc, mmlu, mathqa, hellaswag, squad, xquad, wiki, preference, "
            "arithmetic, words, choices",
        ),
        ("mine", "a file or folder of your own is given by its path"),
    ],
)
def test_unknown_datasets(name: str, hint: str, offline: Any) -> None:
    with pytest.raises(UserError, match=hint) as raised:
        load(Data(dataset=name), open_hub=offline)
    assert str(raised.value).startswith(f"dataset {name!r}: not known; ")


@pytest.mark.parametrize(
    ("dataset", "subset", "message"),
    [
        ("gsm8k", "main", "data.subset 'main': gsm8k has no subsets"),
        ("arc", "hard", "data.subset 'hard': not in arc; there are challenge, easy"),
        ("arc", "challenge,easy", "arc takes one of challenge, easy"),
        ("mmlu", "anatomi", "data.subset 'anatomi': not in mmlu; did you mean anatomy"),
    ],
)
def test_subsets(dataset: str, subset: str, message: str, offline: Any) -> None:
    with pytest.raises(UserError, match=message):
        load(Data(dataset=dataset, subset=subset), open_hub=offline)


def test_broken_rows_are_counted_over_all_splits(load_files: Any) -> None:
    good = [{"question": f"q {i}?", "answer": f"#### {i}"} for i in range(20)]
    bad: list[Any] = [{"question": "q"}, 5]
    files = {"train.jsonl": good + bad, "test.jsonl": [{"question": "t", "answer": "#### 1"}, *bad]}
    splits = load_files("gsm8k", files, skip_bad_rows=True)
    assert splits.skipped == 4 and len(splits.test) == 1


def test_a_split_whose_rows_are_all_broken(load_files: Any) -> None:
    files = {"train.jsonl": [{"question": "q"}], "test.jsonl": [{"question": "t", "answer": "#### 1"}]}
    with pytest.raises(
        UserError, match=r"train.jsonl: gives no problem; every row is broken, the first: .* line 1: field"
    ):
        load_files("gsm8k", files, skip_bad_rows=True)


def test_a_hub_dataset_with_other_splits(load_hub: Any) -> None:
    with pytest.raises(UserError, match="has none of the splits train, test; is it the right dataset"):
        load_hub("gsm8k", "openai/gsm8k", "main", {"dev": [{"question": "q", "answer": "#### 1"}]})


def test_loading_twice_gives_the_same(load_files: Any) -> None:
    rows = [{"question": f"q {i}?", "answer": f"#### {i}"} for i in range(20)]
    first, again = load_files("gsm8k", {"train.jsonl": rows}), load_files("gsm8k", {})
    assert first == again and first.fingerprint() == again.fingerprint()
    changed = load_files("gsm8k", {"train.jsonl": [*rows[:-1], {"question": "q 19?", "answer": "#### 20"}]})
    assert changed.fingerprint() != first.fingerprint()


def test_names() -> None:
    assert dataset_names() == [*BENCHMARKS, "arithmetic", "words", "choices"]


def test_nothing_heavy_is_imported() -> None:
    code = (
        "import sys; import markov_cot.data.registry, markov_cot.data.describe, markov_cot.cli.datasets; "
        "print([name for name in ('torch', 'transformers', 'datasets', 'numpy', 'rich') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
