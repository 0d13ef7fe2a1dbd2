"""`markov-cot report`: of runs and logs by name, folder or file; and what `train` leaves at its end."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from markov_cot.cli import reporting
from tests.command_fixtures import SMALL, train_small
from tests.report_pages import mistaken_numbers, parse

Cli = Callable[..., tuple[int, str, str]]
RUN = Path("runs", "r")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As everybody's, but so slow a learner that no alarm stops it: its end has scores."""
    return train_small(tmp_path_factory.mktemp("trained"), lr=1e-4)


def document_of(cli: Cli, *arguments: str) -> dict[str, Any]:
    code, out, err = cli("report", *arguments, "--json")
    assert code == 0, err
    found: dict[str, Any] = json.loads(out)
    return found


def one_line(cli: Cli, *arguments: str) -> str:
    """What is said of a mistake: one line, exit code 2."""
    code, out, err = cli("report", *arguments)
    assert (code, out) == (2, "") and err.count("\n") == 1
    return err.removeprefix("markov-cot: ").strip()


def cut_at_three(folder: Path) -> None:
    """Make of the run one that was interrupted in step 4."""
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    text = "".join(json.dumps(row) + "\n" for row in rows if row["step"] <= 3)
    (folder / "log.jsonl").write_text(text + '{"step": 4, "loss/to')
    (folder / "summary.json").unlink()
    for path in (folder / "validation").glob("final_*"):
        path.unlink()
    (folder / "validation" / "step_000004.jsonl.gz").unlink()


def test_a_run_by_its_name_as_a_page_beside_it(workplace: Path, cli: Cli) -> None:
    code, out, err = cli("report", "r")
    assert (code, err) == (0, "")
    verdict, where = out.splitlines()
    assert where == "report: runs/r/report.html"
    document = document_of(cli, "r")
    [run] = document["runs"]
    assert verdict == f"r: {run['verdict']['word']}. {run['verdict']['sentence']}"
    page = (RUN / "report.html").read_text(encoding="utf-8")
    assert list(mistaken_numbers(parse(page), document)) == []
    assert (run["dataset"], run["model"], run["planned_steps"], run["last_step"]) == ("arithmetic", "nano", 4, 4)
    log = [json.loads(line) for line in (RUN / "log.jsonl").read_text().splitlines()]
    assert run["key_steps"][-1]["metrics"]["policy/kl"] == log[-1]["policy/kl"]
    summary = json.loads((RUN / "summary.json").read_text())
    assert run["result"]["trained"] == summary["trained"] and run["result"]["base"] == summary["base"]
    # 4 problems at the end, base beside trained; and those of the validations at steps 0, 2 and 4.
    assert [each["kind"] for each in run["cots"]] == ["final"] * 4 + ["validation"] * 12
    assert cli("report", "runs/r")[0] == 0
    assert (RUN / "report.html").read_text(encoding="utf-8") == page, "the same run gives the same bytes"


def test_the_same_as_markdown(workplace: Path, cli: Cli) -> None:
    code, out, err = cli("report", "r", "--out", "deep.MD")
    assert code == 0 and out.endswith("report: deep.MD\n"), err
    text = Path("deep.MD").read_text(encoding="utf-8")
    [run] = document_of(cli, "r")["runs"]
    assert text.startswith("# markov-cot report\n") and "<" not in text.replace("&lt;", "")
    assert f"**{run['verdict']['word']}**" in text
    assert run["reproduction"]["command"] in text
    assert f"{100 * run['result']['trained']['accuracy']:.1f} %" in text
    assert not (RUN / "report.html").exists()


def test_json_writes_nothing_and_takes_no_file(workplace: Path, cli: Cli) -> None:
    assert document_of(cli, "r", "--cots", "0")["runs"][0]["cots"] == []
    assert not list(Path().rglob("report.*"))
    assert (
        one_line(cli, "r", "--json", "--out", "x.html") == "--out x.html: --json writes no file; leave one of them out"
    )


def test_a_run_interrupted_at_step_3(workplace: Path, cli: Cli) -> None:
    cut_at_three(RUN)
    code, out, _ = cli("report", "r")
    assert code == 0 and "So far, that is: the run has not ended." in out
    [run] = document_of(cli, "r")["runs"]
    assert (run["last_step"], run["result"]["stage"], run["result"]["step"]) == (3, "so far", 2)
    assert [each["kind"] for each in run["cots"]] == ["validation"] * 8
    assert "so far" in (RUN / "report.html").read_text(encoding="utf-8")


def test_several_runs_and_a_log_share_a_page(workplace: Path, cli: Cli) -> None:
    shutil.copytree(RUN, "runs/second")
    cut_at_three(Path("runs", "second"))
    shutil.copy(RUN / "log.jsonl", "foreign.jsonl")
    code, out, _ = cli("report", "r", "second", "foreign.jsonl", "--cots", "30")
    assert code == 0 and out.splitlines()[-1] == "report: report.html"
    assert [line.partition(":")[0] for line in out.splitlines()] == ["r", "second", "foreign.jsonl", "report"]
    root = parse(Path("report.html").read_text(encoding="utf-8"))
    document = document_of(cli, "r", "second", "foreign.jsonl", "--cots", "30")
    assert [each["kind"] for each in document["runs"]] == ["run", "run", "log"]
    assert list(mistaken_numbers(root, document)) == []
    assert all(len(each["cots"]) <= 10 for each in document["runs"])


@pytest.mark.parametrize("given", [".", "log.jsonl"])
def test_within_the_runs_folder_it_has_the_runs_name(
    workplace: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    monkeypatch.chdir(RUN)
    assert document_of(cli, given)["runs"][0]["name"] == "r"


def test_what_eval_and_probe_wrote_is_in_it(workplace: Path, cli: Cli) -> None:
    assert cli("eval", "--checkpoint", "latest", "--limit", "4")[0] == 0
    tests = [argument for test in ("delete", "empty") for argument in ("--test", test)]
    assert cli("probe", "--checkpoint", "latest", "--n", "4", "--examples", "1", *tests)[0] == 0
    [run] = document_of(cli, "r")["runs"]
    [results] = [json.loads(path.read_text()) for path in (RUN / "eval").glob("results_*.json")]
    [evaluation] = run["stages"]["evaluation"]
    own = results["markov_cot"]["arithmetic"]
    assert evaluation["score"] == own["metrics"][own["primary"]] and evaluation["n"] == 4
    assert evaluation["checkpoint"] == "adapter_4" and len(evaluation["extractors"]) > 1
    [probed] = [json.loads(path.read_text()) for path in (RUN / "analysis").glob("probe-*.json")]
    [probe] = run["stages"]["probe"]
    assert probe["tests"]["delete"]["effect"] == probed["tests"]["delete"]["overall"]["effect"]
    assert run["occlusions"][0]["tokens"] == probed["occlusion"][0]["tokens"]
    assert {each["stage"] for each in run["missing"]} == {"transfer", "forgetting", "teachers"}
    assert cli("report", "r")[0] == 0
    root = parse((RUN / "report.html").read_text(encoding="utf-8"))
    assert list(mistaken_numbers(root, {"format": 1, "level": 95, "runs": [run]})) == []


def test_bad_input_is_named_in_one_line(workplace: Path, cli: Cli) -> None:
    Path("folder").mkdir()
    Path("empty.jsonl").write_text("")
    Path("no log.jsonl").write_text("not a log\n")
    Path("unknown.jsonl").write_text('{"step": 1, "apples": 3}\n')
    said = {
        ("nothing",): "nothing",
        ("folder",): "folder folder: has no log.jsonl",
        ("empty.jsonl",): "has no rows",
        ("no log.jsonl",): "line 1: is not JSON",
        ("unknown.jsonl",): "has no metric that the alarms know",
        ("r", "runs/r"): "runs/r: is given twice; name each run once",
        ("r", "--out", "x.pdf"): "--out x.pdf: ends in neither .html nor .md",
        ("r", "--out", "nowhere/x.html"): "--out nowhere/x.html: cannot be written (No such file or directory)",
        ("r", "--out", "folder/.html"): "--out folder/.html: ends in neither .html nor .md",
        ("r", "--cots", "-1"): "Invalid value for '--cots'",
        ("a" * 300,): "File name too long",
        (): "Missing argument",
    }
    for arguments, expected in said.items():
        assert expected in one_line(cli, *arguments), arguments
    assert not list(Path().rglob("report.*"))


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("config.yaml", b"a: [1"),
        ("summary.json", b"{"),
        ("validation/final_base.jsonl.gz", b"no gzip"),
        ("log.jsonl", b'{"step": 0, "policy/kl": 1}\n{"policy/kl": 1}\n'),
        ("log.jsonl", b""),
    ],
)
def test_a_damaged_file_is_named_in_one_line(workplace: Path, cli: Cli, file: str, content: bytes) -> None:
    (RUN / file).write_bytes(content)
    assert file in one_line(cli, "r")


def test_train_writes_one_at_its_end_and_says_where(workplace: Path, cli: Cli) -> None:
    code, out, _ = cli("train", *SMALL, "--run", "new")
    assert code == 0 and out.splitlines()[-1] == "report:      runs/new/report.html"
    root = parse(Path("runs", "new", "report.html").read_text(encoding="utf-8"))
    document = document_of(cli, "new")
    assert list(mistaken_numbers(root, document)) == []
    [run] = document["runs"]
    assert run["reproduction"]["command"].startswith("markov-cot train quickstart --set steps=1")
    assert run["settings"]["recipe"] == "quickstart" and not run["settings"]["is_nearest"]


def test_no_report_is_no_report(workplace: Path, cli: Cli) -> None:
    code, out, _ = cli("train", *SMALL, "--run", "new", "--no-report")
    assert code == 0 and "report:" not in out and not Path("runs", "new", "report.html").exists()


def test_a_report_that_fails_does_not_fail_the_training(
    workplace: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Any:
        raise RuntimeError("no such luck\x1b[31m\nsecond line")

    monkeypatch.setattr(reporting, "report", fail)
    code, out, _ = cli("train", *SMALL, "--run", "new")
    assert code == 0
    assert out.splitlines()[-1] == "report:      could not be made (RuntimeError: no such luck\\x1b[31m)"
    assert Path("runs", "new", "summary.json").is_file() and Path("checkpoints", "new", "latest").exists()
