"""`markov-cot forgetting`: planted loss is lost, the same model is kept, few items are undecided; what is refused."""

from __future__ import annotations

import contextlib
import io
import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from markov_cot.analysis.forgetting import Margins
from markov_cot.cli.forgetting import forgetting_command
from markov_cot.cli.main import main
from tests.warm_starts import write_adapter

Cli = Callable[..., tuple[int, str, str]]
COUNT, WINDOWS = 80, 24
OWN = (
    *("--checkpoint", "bad", "--model", "nano", "--suite", "suite.yaml", "--data-dir", "data", "--out", "sides"),
    *("--set", "data.context_tokens=28", "--set", "data.target_tokens=12"),
)
ENOUGH = ("--margin", "5")
"""At 80 items without a change the interval is +- 4.6 points."""
SUITE = """
tasks:
  - {dataset: hellaswag, direct: endings}
  - {dataset: wiki, direct: loss, limit: 24}
"""


def write_data(folder: Path) -> None:
    """Sums that the bundled model can finish, as situations with endings and as articles."""
    rng = random.Random(0)
    rows, text = [], ""
    for i in range(COUNT):
        a, b, right = rng.randint(10, 99), rng.randint(10, 99), rng.randrange(4)
        worked = f"What is {a}+{b}?\nReasoning: {a}+{b}={a + b}\nSo {a + b}.\nAnswer:"
        endings = [str(a + b + step) for step in rng.sample((-30, -20, -10, 10, 20, 30), 3)]
        endings.insert(right, str(a + b))
        row = {"activity_label": "Question", "ctx_a": worked, "ctx_b": "", "endings": endings, "label": right}
        rows.append(json.dumps(row) + "\n")
        text += f"\n\n = Sum {i} = \n\nQuestion: {worked} {a + b}\n"
    (folder / "hellaswag").mkdir(parents=True)
    (folder / "hellaswag" / "hellaswag_val.jsonl").write_text("".join(rows))
    (folder / "wikitext2").mkdir()
    (folder / "wikitext2" / "wiki.test.raw").write_text(text)


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the data, a suite, and an adapter that writes noise into every layer."""
    folder = tmp_path_factory.mktemp("damaged")
    write_data(folder / "data")
    (folder / "suite.yaml").write_text(SUITE)
    write_adapter(folder / "bad", scale=0.5, r=4)
    return folder


@pytest.fixture(scope="module")
def measured(damaged: Path) -> dict[str, Any]:
    """What is found of it; both sides are then in sides/suite/base and sides/suite/bad."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(damaged)
        patch.delenv("MARKOV_COT_DATA", raising=False)
        with contextlib.redirect_stdout(io.StringIO()) as out, pytest.raises(SystemExit) as stopped:
            main(["forgetting", *OWN, *ENOUGH, "--json"])
    assert stopped.value.code == 0
    found: dict[str, Any] = json.loads(out.getvalue(), parse_constant=pytest.fail)
    return found


@pytest.fixture
def here(damaged: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(damaged)
    monkeypatch.delenv("MARKOV_COT_DATA", raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    return damaged


def refused(result: tuple[int, str, str]) -> str:
    code, out, err = result
    assert (code, out) == (2, ""), result
    assert err.startswith("markov-cot: ") and err.count("\n") == 1, err
    return err


def first(source: Path, count: int, into: Path) -> str:
    """The first items of every samples file of a side."""
    into.mkdir(parents=True)
    for path in source.glob("samples_*.jsonl"):
        (into / path.name).write_text("".join(path.read_text().splitlines(keepends=True)[:count]))
    return str(into)


def test_planted_loss_is_lost(measured: dict[str, Any]) -> None:
    found = measured
    assert found["verdict"] == "lost" and (found["seed"], found["n"]) == (0, COUNT + WINDOWS)
    assert {name: task["verdict"] for name, task in found["tasks"].items()} == {"hellaswag": "lost", "wiki": "lost"}
    settings = found["settings"]
    assert (settings["margin_points"], settings["suite"], settings["checkpoint"]) == (5, "suite.yaml", "bad")
    assert set(settings["checkpoint_files"]) == {"adapter_model.safetensors", "adapter_config.json"}
    assert all(len(each["sha256"]) == 64 for side in ("before", "after") for each in found[side]["files"])
    endings = found["tasks"]["hellaswag"]["metrics"]["acc_norm,none"]
    assert endings["before"] > 0.9 and endings["after"] < 0.6 and endings["paired"] and endings["counts"]
    assert endings["broken"] - endings["fixed"] == round(COUNT * (endings["before"] - endings["after"]))
    loss = found["tasks"]["wiki"]["metrics"]["nats_per_token,none"]
    assert loss["low"] > 0.1 and not loss["higher_is_better"] and loss["fixed"] is None
    assert not found["flags"]


def test_the_same_model_is_kept_and_few_items_are_undecided(
    here: Path, measured: dict[str, Any], cli: Cli, tmp_path: Path
) -> None:
    before = "sides/suite/base"
    _, out, _ = cli("forgetting", before, before, *ENOUGH)
    assert "all together: kept" in out and "both sides are the same files" in out
    assert "hellaswag: kept: a loss of more than 4.58 points is not compatible with it (margin 5.00 points)" in out
    few = first(here / before, 30, tmp_path / "few")
    _, out, _ = cli("forgetting", few, few, *ENOUGH, "--task", "hellaswag")
    assert "hellaswag: undecided: anything from -11.35 to +11.35 is compatible with it" in out
    assert "no item changed; the interval is what 30 items without a change leave open" in out


def test_what_was_computed_is_kept(
    here: Path, measured: dict[str, Any], cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("markov_cot.evaluation.direct_scoring.DirectScorer.records", None)
    monkeypatch.setattr("markov_cot.evaluation.direct._check", lambda *_: None)
    code, out, err = cli("forgetting", *OWN, "--task", "wiki")
    assert code == 0, err
    assert "scores ± stderr" in out and "wiki: lost" in out and "hellaswag" not in out and "\x1b" not in out


def test_items_of_two_sides_must_be_the_same(here: Path, measured: dict[str, Any], cli: Cli, tmp_path: Path) -> None:
    before, after = here / "sides/suite/base", here / "sides/suite/bad"
    fewer = first(after, 10, tmp_path / "fewer")
    assert "70 items are there before and not after" in refused(cli("forgetting", str(before), fewer))
    changed = tmp_path / "changed"
    first(after, COUNT, changed)
    path = changed / "samples_hellaswag.jsonl"
    path.write_text(path.read_text().replace("What is 5", "What was 5"))
    assert "ask something else before than after" in refused(cli("forgetting", str(before), str(changed)))
    (changed / "samples_wiki.jsonl").unlink()
    assert "has wiki, and" in refused(cli("forgetting", str(before), str(changed)))
    path.write_text(path.read_text().replace('"acc": 1.0', '"acc": NaN', 1))
    assert "acc is nan" in refused(cli("forgetting", str(before), str(changed)))


def test_reported_scores_alone(here: Path, cli: Cli) -> None:
    Path("a.csv").write_text("task,metric,score,stderr,n\nmmlu\x1b[31m,acc,47.00%,5.02%,100\n")
    Path("b.csv").write_text("task,metric,score,stderr,n\nmmlu\x1b[31m,acc,26.50%,4.42%,100\n")
    code, out, err = cli("forgetting", "a.csv", "b.csv")
    assert (code, err) == (0, "") and "\x1b" not in out
    assert "-20.50 [-33.61, -7.39]" in out and "compared by totals" in out
    assert "after, mmlu\\x1b[31m, acc: 26.50 % is no k/100: 26/100 is 26.00 % and 27/100 is 27.00 %" in out
    found = json.loads(cli("forgetting", "a.csv", "b.csv", "--json")[1])
    assert found["verdict"] == "lost" and found["seed"] is None and len(found["flags"]) == 1
    assert found["n"] == 100


def test_bad_input_is_one_line_and_exit_2(here: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("a.csv").write_text("task,metric,score\nt,acc,0.5\n")
    Path("empty.jsonl").write_text("")
    Path("nothing.csv").write_text("task,metric\n")
    assert "nothing to compare: give BEFORE and AFTER, or --run NAME" in refused(cli("forgetting"))
    assert "expected BEFORE and AFTER, got 1" in refused(cli("forgetting", "a.csv"))
    assert "expected BEFORE and AFTER, got 3" in refused(cli("forgetting", "a.csv", "a.csv", "a.csv"))
    assert "none.csv: does not exist" in refused(cli("forgetting", "a.csv", "none.csv"))
    assert "empty.jsonl: is empty" in refused(cli("forgetting", "a.csv", "empty.jsonl"))
    assert "no column score" in refused(cli("forgetting", "a.csv", "nothing.csv"))
    for option, message in (("--run", "--run: is for"), ("--limit", "--limit: is for"), ("--set", "--set: is for")):
        assert message in refused(cli("forgetting", "a.csv", "a.csv", option, "1"))
    for option in ("--margin", "--loss-margin"):
        assert f"{option}: is nan" in refused(cli("forgetting", "a.csv", "a.csv", option, "nan"))
        assert option in refused(cli("forgetting", "a.csv", "a.csv", option, "-1"))
    assert "--task x: is not in suite suite.yaml; it has hellaswag, wiki" in refused(
        cli("forgetting", *OWN, "--task", "x")
    )
    assert "--checkpoint base: is what a checkpoint is compared with" in refused(
        cli("forgetting", "--checkpoint", "base", "--model", "nano")
    )
    assert "run r: has no checkpoints" in refused(cli("forgetting", "--run", "r"))
    assert "is asked directly, without a CoT" in refused(
        cli("eval", "--checkpoint", "base", "--model", "nano", "--suite", "general")
    )


def test_the_options_are_those_of_the_analysis() -> None:
    defaults = {each.name: each.default for each in forgetting_command.params}
    margins = Margins()
    assert (defaults["margin"], defaults["loss_margin"]) == (margins.points, margins.nats)


def test_no_torch_is_imported(here: Path) -> None:
    Path("a.csv").write_text("task,metric,score,stderr\nt,acc,0.5,0.1\n")
    script = (
        "import sys\nfrom markov_cot.cli.main import main\n"
        "try: main(['forgetting', 'a.csv', 'a.csv'])\n"
        "except SystemExit: print(sorted({'torch', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
