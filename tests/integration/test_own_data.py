"""Data of one's own from the command line: train, eval and resume."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from markov_cot.cli.main import main

SMALL = ("--steps", "1", "--set", "rollout.samples=2", "--set", "rollout.length=8", "--set", "validation.problems=4")
Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Runs a command in an empty folder; returns its exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MARKOV_COT_DATA", raising=False)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stopped:
            main(list(arguments))
        captured = capsys.readouterr()
        return int(stopped.value.code or 0), captured.out, captured.err

    return run


def write(path: str, rows: list[dict[str, Any]]) -> None:
    Path(path).parent.mkdir(exist_ok=True)
    Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows))


def sums(first: int, last: int) -> list[dict[str, Any]]:
    return [{"question": f"What is {i}+1?", "answer": i + 1} for i in range(first, last)]


def test_a_folder_is_trained_validated_and_tested_on(cli: Cli) -> None:
    for name, rows in (("train", sums(0, 20)), ("valid", sums(20, 26)), ("test", sums(26, 37))):
        write(f"sums/{name}.jsonl", rows)
    code, out, err = cli("train", "--dataset", "sums", "--model", "nano", "--run", "r", *SMALL)
    assert code == 0 and "nano on sums (20 training problems from sums)" in err
    assert "published" not in err and "held out" not in err
    assert "sums: 6 unseen problems (validation split)" in out
    code, out, _ = cli("eval", "--run", "r", "--against", "none", "--json")
    report = json.loads(out)
    assert code == 0 and (report["markov_cot"]["sums"]["n"], report["markov_cot"]["sums"]["total"]) == (11, 11)
    Path("sums").rename("moved")
    code, _, err = cli("train", "--run", "r", "--resume", "--set", f"data.dataset={Path('moved').resolve()}", *SMALL)
    assert code == 0, err


def test_files_for_each_split_are_settings_of_a_yaml_file(cli: Cli) -> None:
    write("a.jsonl", sums(0, 20))
    write("b.jsonl", sums(20, 26))
    write("c.jsonl", sums(26, 37))
    Path("mine.yaml").write_text("data: {train: a.jsonl, validation: b.jsonl, test: c.jsonl}\nmodel: {name: nano}\n")
    code, out, err = cli("train", "mine.yaml", "--run", "r", *SMALL)
    assert code == 0 and "nano on a (20 training problems from a.jsonl)" in err and "a: 6 unseen problems" in out
    code, out, _ = cli("eval", "--run", "r", "--against", "none", "--dataset", "./a.jsonl", "--json")
    assert code == 0 and json.loads(out)["markov_cot"]["a"]["total"] == 11, "the same file by another spelling"


def test_ten_choices_are_trained_and_evaluated_on(cli: Cli) -> None:
    choices = [f"option {i}" for i in range(10)]
    rows = [{"question": f"Which, {i}?", "choices": choices, "answer": "J" if i % 2 else i % 10} for i in range(40)]
    write("ten.jsonl", rows)
    assert cli("train", "--dataset", "ten.jsonl", "--model", "nano", "--run", "r", *SMALL)[0] == 0
    code, out, _ = cli("eval", "--run", "r", "--against", "none", "--json")
    results = json.loads(out)["results"]["ten"]
    assert code == 0
    rows = [json.loads(line) for line in Path("runs/r/eval/samples_ten.jsonl").read_text().splitlines()]
    likelihoods = [row for row in rows if row["filter"] == "none"]
    assert {len(row["resps"]) for row in likelihoods} == {10} == {len(row["letter_logprobs"][0]) for row in likelihoods}
    assert 9 in {row["target"] for row in likelihoods}
    for name, scores in (
        ("acc,none", [[text[0] for text in row["resps"]] for row in likelihoods]),
        ("acc,letter", [row["letter_logprobs"][0] for row in likelihoods]),
    ):
        right = [
            max(range(10), key=of.__getitem__) == row["target"] for of, row in zip(scores, likelihoods, strict=True)
        ]
        assert results[name] == pytest.approx(sum(right) / len(right))
    shown = cli("sample", "Which one?", *(part for choice in choices for part in ("--choice", choice)))
    assert shown[0] == 0 and "J) option 9" in shown[1]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ("--dataset", "C:\\data\\mine.jsonl"),
            "C:\\data\\mine.jsonl: does not exist; check the path, whose folders are separated by '/' on this system",
        ),
        (("--dataset", "nothing.csv"), "nothing.csv: does not exist; check the path"),
        (
            ("twice.yaml",),
            "twice.yaml line 2: the key 'steps' is there twice, the first time in line 1; correct the YAML",
        ),
        (("--dataset", "empty.jsonl"), "empty.jsonl: gives no problem; is it the right file?"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(cli: Cli, arguments: tuple[str, ...], line: str) -> None:
    Path("twice.yaml").write_text("steps: 1\nsteps: 2\n")
    Path("empty.jsonl").write_text("\n")
    code, out, err = cli("train", *arguments, "--model", "nano")
    assert (code, out, err.splitlines()[-1]) == (2, "", f"markov-cot: {line}")
    assert not Path("runs").exists()


def test_a_split_that_is_not_there(cli: Cli) -> None:
    write("only/test.jsonl", sums(0, 9))
    code, _, err = cli("train", "--dataset", "only", "--model", "nano")
    assert code == 2 and "dataset only: has no training problems (there is no training file)" in err
    write("two/train.jsonl", sums(0, 20))
    write("two/dev.jsonl", sums(20, 29))
    code, _, err = cli("eval", "--checkpoint", "base", "--model", "nano", "--dataset", "two")
    assert code == 2 and "dataset two: has no test problems (there is no test file); pass another --split" in err
