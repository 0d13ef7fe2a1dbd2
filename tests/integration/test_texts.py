"""Answers in free text from the command line: train, eval, grade, and what is said of bad input."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from markov_cot.api import train
from markov_cot.cli.main import main
from markov_cot.utils.errors import UserError

SMALL = (
    *("--model", "nano", "--steps", "2", "--set", "rollout.samples=2", "--set", "rollout.length=6"),
    *("--set", "validation.every=1", "--set", "validation.problems=2", "--set", "validation.final_problems=2"),
)
TOWNS = {"France": ["Paris", "the city of Paris"], "Italy": "Rome", "Norway": ["Oslo"], "Peru": "Lima"}
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


def write(path: str, rows: list[Any]) -> str:
    Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def capitals() -> list[dict[str, Any]]:
    return [
        {"question": f"What is its capital ({i})?", "answer": town, "passage": f"{land} {i} is a country."}
        for i in range(10)
        for land, town in TOWNS.items()
    ]


def test_own_texts_are_trained_evaluated_and_graded_again(cli: Cli) -> None:
    write("towns.jsonl", capitals())
    code, out, err = cli("train", "--dataset", "towns.jsonl", "--run", "r", *SMALL)
    assert code == 0, err
    assert "F1" in out and "unseen problems (validation split)" in out

    code, out, _ = cli("eval", "--run", "r", "--json", "--samples", "2", "--temperature", "1")
    document = json.loads(out)
    results = document["results"]["towns"]
    assert code == 0 and document["markov_cot"]["towns"]["primary"] == "exact_match,line"
    for name in ("line", "anchor", "exact"):
        assert {f"exact_match,{name}", f"f1,{name}", f"maj@2,{name}"} <= set(results)

    code, out, _ = cli("grade", "runs/r/eval/samples_towns.jsonl", "--kind", "text", "--json")
    regraded = json.loads(out)["extractors"]["line"]
    assert code == 0 and regraded["f1"] == pytest.approx(results["f1,line"])
    assert regraded["accuracy"] == pytest.approx(results["exact_match,line"])

    code, out, _ = cli("eval", "--run", "r", "--all-checkpoints", "--json", "--limit", "2")
    points = json.loads(out)["datasets"]["towns"]["points"]
    assert code == 0 and [point["step"] for point in points] == [0, 1, 2]
    scalars = EventAccumulator("runs/r").Reload().Scalars("eval_all/towns/f1")
    assert [each.value for each in scalars] == [pytest.approx(point["f1"]["mean"]) for point in points]
    assert "F1 [95 %]" in cli("eval", "--run", "r", "--all-checkpoints", "--limit", "2")[1]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("train", "--dataset", "mixed.jsonl"),
         "mixed.jsonl: mixes kinds of answers, text in 2 rows (the first: mixed.jsonl line 1) and numeric in 1 row "
         "(the first: mixed.jsonl line 3); give one file for each, or say which with data.kind"),
        (("train", "--dataset", "gsm8k", "--set", "data.kind=text"),
         "data.kind: goes with data of your own, and gsm8k has its own; leave it out"),
        (("eval", "--checkpoint", "base", "--dataset", "arithmetic", "--set", "data.kind=numeric"),
         "data.kind: goes with data of your own, and arithmetic has its own; leave it out"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_and_exit_code_2(cli: Cli, arguments: tuple[str, ...], line: str) -> None:
    write("mixed.jsonl", [{"question": f"q{i}", "answer": answer} for i, answer in enumerate(["Rome", "Oslo", 7])])
    code, out, err = cli(*arguments, "--model", "nano")
    assert (code, out, err.splitlines()[-1]) == (2, "", f"markov-cot: {line}")
    assert not Path("runs").exists()


def test_rows_from_python_of_several_kinds_are_named_as_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [{"question": f"q{i}", "answer": answer} for i, answer in enumerate(["Rome", "Oslo", 7])]
    with pytest.raises(UserError) as raised:
        train(dataset=rows, steps=1, run="r")
    assert str(raised.value) == (
        "dataset: mixes kinds of answers, text in 2 rows (the first: row 1) and numeric in 1 row (the first: row 3); "
        "give one file for each, or say which with data.kind"
    )
    assert not Path("runs").exists()
