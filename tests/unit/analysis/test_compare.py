"""Runs read and compared: what is refused, what is noted, and the document."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from markov_cot.analysis.compare import compare_runs
from markov_cot.tracking.step_files import StepFiles
from markov_cot.utils.errors import UserError
from tests.run_folders import make_run, write_records


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two seeds of one setting and another one, with records of six items; the current folder is theirs."""
    monkeypatch.chdir(tmp_path)
    log = [{"step": 1, "eval/sums/accuracy": 0.5, "perf/step_seconds": 2.0}]
    make_run(Path("runs/a"), log, trained=0.5, n=40)
    make_run(Path("runs/b"), log, trained=0.75, n=40, seed=1)
    make_run(Path("runs/c"), log, trained=1.0, n=40, optim__lr=0.5)
    for name, scores in (("a", [0] * 6), ("b", [0] * 5 + [1]), ("c", [1] * 6)):
        write_records(Path("runs", name), scores)
    return tmp_path / "runs"


def test_the_document(runs: Path) -> None:
    found = compare_runs(["a", "b", "c"]).as_json()
    assert list(found) == [
        *("format", "n", "seed", "inputs", "settings", "differing", "runs", "groups"),
        *("pairs", "unpaired", "unmeasured", "curves", "notes"),
    ]
    assert (found["n"], found["seed"]) == (3, [0, 1])
    assert found["settings"] == {"level": 95.0, "correction": "holm", "tests": 3}
    assert found["differing"] == {
        "seed": {"a": 0, "b": 1, "c": 0},
        "optim.lr": {"a": 1e-4, "b": 1e-4, "c": 0.5},
    }
    assert found["groups"][0] == {
        "runs": ["a", "b"],
        "pooled": ["a", "b"],
        "result": {
            "n": 2,
            "measure": "accuracy",
            "seeds": [0, 1],
            "mean": 0.625,
            "deviation": pytest.approx(0.25 / 2**0.5),
            "lowest": 0.5,
            "highest": 0.75,
        },
    }
    run = found["runs"]["c"]
    assert (run["data"], run["state"], run["step"], run["steps"]) == ("arithmetic", "done", 1, 8)
    assert (run["base"]["value"], run["trained"]["value"], run["best"]["step"]) == (0.25, 1.0, 1)
    assert run["best_checkpoint"] == 4
    assert run["records"] == {"sums": {"checkpoint": "checkpoints/r/adapter_8", "n": 6}}
    assert run["cost"]["seconds"] == 2.0
    pair = found["pairs"][1]
    assert (pair["first"], pair["second"], pair["n"], pair["items"]) == ("a", "c", 6, [6, 6])
    assert (pair["only_first"], pair["only_second"], pair["difference"], pair["p"]) == (0, 6, 1.0, 2 / 2**6)
    assert pair["p_holm"] == 6 / 2**6, "the smallest of three"
    assert {Path(path).name for path in found["inputs"]} >= {"config.yaml", "log.jsonl", "samples_sums.jsonl"}
    assert all(len(sha256) == 64 for sha256 in found["inputs"].values())
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert [note.split(";")[0] for note in found["notes"]] == [
        "intervals and p-values are about these checkpoints on items like these"
    ]


def test_runs_may_be_given_by_path_and_are_named_so_that_they_can_be_told_apart(runs: Path) -> None:
    make_run(Path("elsewhere/a"), trained=0.5)
    found = compare_runs(["runs/a", "elsewhere/a", "b"])
    assert [run.name for run in found.runs] == [str(runs / "a"), str(runs.parent / "elsewhere" / "a"), "b"]


def test_the_current_folder_has_a_name(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(runs / "a")
    assert [run.name for run in compare_runs([".", "../b"]).runs] == ["a", "b"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "no runs given; name two or more"),
        (["a"], "RUN a: is one run; name two or more to compare"),
        (["a", "b", "a"], "RUN a: is there twice; name each run once"),
        (["a", "runs/../runs/a"], "RUN runs/../runs/a: is there twice, once as a; name each run once"),
        (["a", "nothing"], "run nothing: there is no runs/nothing/config.yaml; there are a, b, c"),
    ],
)
@pytest.mark.usefixtures("runs")
def test_what_is_refused(names: list[str], message: str) -> None:
    with pytest.raises(UserError) as error:
        compare_runs(names)
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        (
            "config.yaml",
            "nothing: {known: 1}",
            "run b: its settings are of another version or damaged (runs/b/config.yaml: unknown key nothing); leave it",
        ),
        ("summary.json", '{"step": 1', "runs/b/summary.json: is damaged; resume the run"),
        ("log.jsonl", '{"reward/value": 1}\n', "run b: runs/b/log.jsonl has a row without a step"),
        ("log.jsonl", '{"step": 1, "reward/value": [1]}\n', "run b: runs/b/log.jsonl has a row without a step, or a"),
    ],
)
@pytest.mark.usefixtures("runs")
def test_what_cannot_be_read_is_named(file: str, text: str, message: str) -> None:
    Path("runs/b", file).write_text(text)
    with pytest.raises(UserError) as error:
        compare_runs(["a", "b"])
    assert str(error.value).startswith(message) and "\n" not in str(error.value)


@pytest.mark.usefixtures("runs")
def test_what_is_not_measured_says_what_to_do() -> None:
    make_run(Path("runs/new run"), [{"step": 3}])
    make_run(Path("old/moved"), trained=0.5, checkpoint__checkpoints_dir="kept")
    write_records(make_run(Path("runs/torn"), trained=0.5), [1])
    Path("runs/torn/eval/samples_sums.jsonl").write_text("{broken\n")
    found = compare_runs(["a", "new run", "old/moved", "torn"])
    assert found.pairs == ()
    assert found.unmeasured == {
        "new run": "it has no evaluation records; markov-cot eval --run 'new run' makes them",
        "moved": "it has no evaluation records; markov-cot eval --run moved --set checkpoint.runs_dir=old --set "
        "checkpoint.checkpoints_dir=kept makes them",
        "torn": found.unmeasured["torn"],
    }
    start = "records of it cannot be read (runs/torn/eval/samples_sums.jsonl line 1: not JSON"
    assert found.unmeasured["torn"].startswith(start)
    assert found.notes[0] == "new run: no final result, because the run was interrupted at step 3 of 8"


@pytest.mark.usefixtures("runs")
def test_different_data_are_said_to_be_different() -> None:
    make_run(Path("runs/other"), trained=0.5, data__dataset="gsm8k")
    notes = compare_runs(["a", "b", "other"]).notes
    assert notes[0].startswith(
        "the runs are validated on different data (a: arithmetic; b: arithmetic; other: gsm8k), so that held-out"
    )


@pytest.mark.usefixtures("runs")
def test_evaluations_that_differ_in_how_they_were_made_are_noted() -> None:
    write_records(Path("runs/a"), [0, 1], settings={"length": 8, "readers": ["base"]})
    write_records(Path("runs/b"), [0, 1], settings={"length": 9, "readers": ["base"], "samples": 1})
    assert compare_runs(["a", "b"]).notes[-1] == (
        "sums: evaluated with different length, which may be what a difference is of"
    )


@pytest.mark.usefixtures("runs")
def test_a_result_that_is_no_number_is_null_and_not_pooled() -> None:
    damaged: dict[str, Any] = json.loads(Path("runs/b/summary.json").read_text())
    damaged["trained"]["accuracy"] = float("nan")
    Path("runs/b/summary.json").write_text(json.dumps(damaged))
    document = compare_runs(["a", "b"]).as_json()
    assert document["runs"]["b"]["trained"]["value"] is None
    assert document["groups"][0]["result"]["seeds"] == [0]
    json.dumps(document, allow_nan=False)


def _answers(run: Path, right: list[bool], first: int = 0) -> None:
    """The answers behind a final score, to the problems `first` and those that follow."""
    rows = [
        {
            "problem": f"p{i}",
            "question": f"{i}?",
            "answer": "1",
            "right": each,
            "answer_logprob": -1.0 - i,
        }
        for i, each in enumerate(right, first)
    ]
    StepFiles(run / "validation", -1).finish("trained", rows)


def test_final_answers_to_common_problems_are_compared(tmp_path: Path) -> None:
    one, other = (make_run(tmp_path / name, trained=0.5) for name in "ab")
    _answers(one, [False] * 6 + [True, True])
    _answers(other, [True] * 6 + [True], first=1)  # problems 1 to 7 are common; 1 to 5 are right in b alone
    [pair] = compare_runs([str(one), str(other)]).pairs
    assert (pair.task, pair.metric, pair.items) == ("held-out problems", "exact_match,primary", (8, 7))
    assert (pair.change.n, pair.change.fixed, pair.change.broken) == (7, 5, 0)
    assert pair.change.p_value == pytest.approx(2 * 0.5**5)  # McNemar: 5 of 5


def test_continuations_are_compared_by_their_log_probs(tmp_path: Path) -> None:
    one, other = (make_run(tmp_path / name, trained=None) for name in "ab")
    for run, shift in ((one, 0.0), (other, 0.5)):
        rows = [
            {"problem": str(i), "passage": "x", "answer": "y", "right": None, "answer_logprob": shift - i}
            for i in range(4)
        ]
        StepFiles(run / "validation", -1).finish("trained", rows)
    [pair] = compare_runs([str(one), str(other)]).pairs
    assert pair.metric == "answer_logprob,none" and pair.change.difference == pytest.approx(0.5)


def test_final_answers_that_cannot_be_read_are_left_out_and_named(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / name, trained=0.5) for name in "abc"]
    for run in runs:
        _answers(run, [True, False])
        write_records(run, [1, 0])
    (runs[1] / "validation" / "final_trained.jsonl.gz").write_bytes(b"torn")
    StepFiles(runs[2] / "validation", -1).finish("trained", [{"problem": "p0"}])
    found = compare_runs([*map(str, runs)])
    assert {pair.task for pair in found.pairs} == {"sums"}
    assert "final_trained.jsonl.gz: is damaged" in found.unmeasured["b"]
    assert "final_trained.jsonl.gz: has a row that is none of an answer" in found.unmeasured["c"]


def test_problems_that_are_not_the_same_are_no_matter_of_how_they_were_evaluated(tmp_path: Path) -> None:
    one, other = (make_run(tmp_path / name, trained=0.5) for name in "ab")
    _answers(one, [True])
    _answers(other, [True], first=5)
    [unpaired] = compare_runs([str(one), str(other)]).unpaired
    assert unpaired.why == "held-out problems: none of their 1 and 1 items are the same"
