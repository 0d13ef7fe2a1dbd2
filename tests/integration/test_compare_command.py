"""`markov-cot compare` on runs of the bundled model and on hostile ones made by hand."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from markov_cot.cli.main import main
from markov_cot.config.loading import build_config
from markov_cot.training.setup import open_session
from markov_cot.training.trainer import Trainer
from tests.command_fixtures import Cli
from tests.command_fixtures import cli as cli
from tests.run_folders import make_run, write_records
from tests.small_runs import warm

PROBLEMS = 4


def train(folder: Path, name: str, **settings: Any) -> None:
    """Two steps on sums of two terms."""
    values: dict[str, Any] = {
        "steps": 2,
        "data": {"dataset": "arithmetic", "terms": [2, 2]},
        "rollout": {"problems": 1, "samples": 2, "length": 8},
        "validation": {"every": 1, "problems": PROBLEMS, "final_problems": PROBLEMS, "reader_check": 0},
        "checkpoint": {"runs_dir": str(folder / "runs"), "checkpoints_dir": str(folder / "checkpoints")},
        "tracking": {"trackers": []},
        **settings,
    }
    Trainer(open_session(build_config(values, "test"), name, "test", resume=False)).run(lambda *_: None)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two seeds of one setting, evaluated, and a run of another setting, which is not."""
    folder = tmp_path_factory.mktemp("compared")
    with warm(), pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        train(Path(), "one")
        train(Path(), "two", seed=1)
        train(Path(), "other", optim={"lr": 0.01}, tracking={"trackers": [], "validations": False})
        for name in ("one", "two"):
            with pytest.raises(SystemExit) as stopped:
                main(["eval", "--run", name, "--limit", "6", "--against", "none"])
            assert not stopped.value.code
    return folder


@pytest.fixture
def here(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(trained)
    monkeypatch.setenv("COLUMNS", "200")


@pytest.mark.usefixtures("here")
def test_runs_as_json(cli: Cli) -> None:
    code, out, _ = cli("compare", "one", "two", "other", "--json")
    found = json.loads(out)
    assert code == 0
    assert found["differing"] == {
        "seed": {"one": 0, "two": 1, "other": 0},
        "optim.lr": {"one": 1e-4, "two": 1e-4, "other": 0.01},
        "tracking.validations": {"one": True, "two": True, "other": False},
    }
    assert [group["runs"] for group in found["groups"]] == [["one", "two"], ["other"]]
    summaries = [json.loads(Path(f"runs/{name}/summary.json").read_text())["trained"] for name in ("one", "two")]
    mean = sum(each["accuracy"] for each in summaries) / 2
    assert found["groups"][0]["result"]["mean"] == pytest.approx(mean)
    held_out, pair = found["pairs"]
    assert (held_out["task"], held_out["n"], held_out["checkpoints"]) == ("held-out problems", 4, ["step 2", "step 2"])
    accuracies = [each["accuracy"] for each in summaries]
    assert [held_out["first_score"], held_out["second_score"]] == pytest.approx(accuracies)
    assert (pair["first"], pair["second"], pair["n"], pair["task"]) == ("one", "two", 6, "arithmetic")
    assert pair["metric"] == "exact_match,anchor" and pair["p_holm"] >= pair["p"]
    scores = {
        name: [
            json.loads(line)["exact_match"]
            for line in Path(f"runs/{name}/eval/samples_arithmetic.jsonl").read_text().splitlines()
            if json.loads(line)["filter"] == "anchor"
        ]
        for name in ("one", "two")
    }
    assert pair["difference"] == pytest.approx((sum(scores["two"]) - sum(scores["one"])) / 6)
    assert found["unmeasured"] == {"other": "it has no evaluation records; markov-cot eval --run other makes them"}
    cost = found["runs"]["one"]["cost"]
    assert (cost["tokens"], cost["tokens_of"]) == (2 * 2 * 8, "sampled")
    assert cost["seconds"] > 0 and cost["peak_memory_bytes"] > 0
    curves = {curve["key"]: curve for curve in found["curves"]}
    assert {"eval/accuracy", "reward/value", "policy/kl", "policy/entropy", "cot/repetition"} <= set(curves)
    assert curves["eval/accuracy"]["runs"]["one"]["step"] == [0, 1, 2]
    assert curves["policy/kl"]["pooled"][0]["runs"] == ["one", "two"]


@pytest.mark.usefixtures("here")
def test_runs_as_tables(cli: Cli) -> None:
    code, out, err = cli("compare", "one", "two", "other")
    assert (code, err) == (0, "")
    for heading in ("settings that differ", "held-out results [95 %]", "seeds pooled", "on common items", "costs"):
        assert heading in out
    lines = [line.split() for line in out.splitlines()]
    assert ["optim.lr", "0.0001", "0.0001", "0.01"] in lines
    assert any(line[:4] == ["one", "->", "two", "6"] for line in lines)
    assert "- other: not measured: it has no evaluation records; markov-cot eval --run other makes them" in out
    assert sum(line[1:2] == ["2/2"] for line in lines) == 3, "a line of costs for each run"


@pytest.mark.usefixtures("here")
def test_two_runs_without_records_or_seeds(cli: Cli) -> None:
    _, out, _ = cli("compare", "one", "other")
    assert "on common items: not measured\n" in out
    assert "seeds pooled" not in out


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "markov-cot: no runs given; name two or more to compare, as `markov-cot runs` lists them"),
        (("one",), "markov-cot: RUN one: is one run; name two or more"),
        (("one", "runs/one"), "markov-cot: RUN runs/one: is there twice, once as one; name each run once"),
        (("one", "onn"), "markov-cot: run onn: there is no runs/onn/config.yaml; there are one, other, two"),
        (("one", "two", "--runs-dir", "elsewhere"), "markov-cot: run one: there is no elsewhere/one/config.yaml"),
    ],
)
def test_what_is_refused_is_one_line(cli: Cli, arguments: tuple[str, ...], message: str) -> None:
    code, out, err = cli("compare", *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(message)


def test_runs_on_different_data_and_of_different_kinds(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    make_run(Path("runs/sums"), trained=0.5)
    folder = make_run(Path("runs/pages"), [{"step": 1}], trained=0.5, data__dataset="wiki")
    summary = json.loads((folder / "summary.json").read_text())
    for which in ("base", "trained"):
        summary[which]["accuracy"] = None
    (folder / "summary.json").write_text(json.dumps(summary))
    code, out, _ = cli("compare", "sums", "pages")
    assert code == 0
    assert "-0.500 log-prob" in out and "0.500 [0.250, 0.750]" in out
    assert "- the runs are validated on different data (sums: arithmetic; pages: wiki), so that" in out


def test_hostile_names_and_texts_are_shown_and_not_obeyed(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    red, task = "red\x1b[31m", "task\x1b[2J"
    for name, prompt in ((red, "\x1b]0;title\x07 {cot}"), ("plain", "Answer after: {cot}")):
        run = make_run(Path("runs", name), trained=0.5, prompt__answer=prompt)
        write_records(run, [1, 0], task="t", settings={f"length\x1b[1m{name}": 1})
        (run / "eval" / "samples_t.jsonl").rename(run / "eval" / f"samples_{task}.jsonl")
    write_records(make_run(Path("runs/\u202eother"), seed=3), [1, 0], first=7)
    for columns in ("200", "40"):
        monkeypatch.setenv("COLUMNS", columns)
        code, out, err = cli("compare", red, "plain", "\u202eother")
        assert (code, err) == (0, "")
        assert not {"\x1b", "\x07", "\u202e"} & set(out)
        assert "red\\x1b[31m" in out and "task\\x1b[2J" in out and "\\u202eother" in out
    code, _, err = cli("compare", "plain", "no\x1b[31m")
    assert code == 2 and "\x1b" not in err


def test_its_help_loads_no_library() -> None:
    start = "import sys; from markov_cot.cli.main import main\n"
    code = f"{start}try: main(['compare', '--help'])\nfinally: print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "seeds of one setting" in " ".join(done.stdout.split())
    assert not set(done.stdout.splitlines()[-1].split()) & {"torch", "numpy", "pydantic", "rich"}
