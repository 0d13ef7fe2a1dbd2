"""`markov-cot config`, `recipes` and `runs`."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from markov_cot.checkpoints.run_lock import RunLock
from markov_cot.cli.main import main
from markov_cot.config.loading import build_config, by_key, flatten, read_recipe, recipe_names
from markov_cot.config.recipes import list_recipes
from markov_cot.config.schema import Config
from markov_cot.config.setting_list import list_settings
from markov_cot.config.yaml_files import read_yaml, write_yaml
from markov_cot.evaluation.run import Run as RunFolder
from markov_cot.evaluation.runs import read_run


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")


def cli(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as stopped:
        main(list(arguments))
    assert not stopped.value.code
    return capsys.readouterr().out


# --- config


def test_every_setting_has_a_meaning() -> None:
    """A field's docstring is its one source."""
    settings = list_settings(Config())
    assert [each.key for each in settings if not each.meaning] == []
    assert [each.key for each in settings if each.default != {}] == list(flatten(Config().model_dump()))


@pytest.mark.parametrize("name", [None, *recipe_names()])
def test_the_printed_config_is_a_file_to_train_from(name: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    out = cli(capsys, "config", *([name] if name else []))
    expected = build_config(read_recipe(name) if name else {}, "expected")
    assert build_config(read_yaml(out, "printed"), "printed") == expected
    assert max(map(len, out.splitlines())) <= 80


def test_what_is_said_of_a_setting(capsys: pytest.CaptureFixture[str]) -> None:
    lines = cli(capsys, "config", "quickstart-ppo").splitlines()
    at = lines.index("  loss: ppo")
    assert " ".join(line.strip("# ") for line in lines[at - 3 : at]) == (
        "policy_gradient: advantage times log-prob. ppo: the clipped ratio, for more than one update a step. "
        "[policy_gradient | ppo | package.module:attribute; default policy_gradient]"
    )
    said = " ".join(line.strip("# ") for line in lines)
    for part in (
        "[whole number above 0; default 1000] steps: 120",
        "[text or null; default null] data_dir: null",
        "[[whole number above 0, whole number above 0]; default [15, 15]] terms: [4, 4]",
        "[number of at least 0; default 0.1] kl_weight: 0.05",
        "[number above 0 and below 1; default 0.2] clip: 0.2",
        "[text or list of text; default all-linear] target_modules: all-linear",
    ):
        assert part in said


def test_settings_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    settings = {each["key"]: each for each in json.loads(cli(capsys, "config", "quickstart", "--json"))}
    lr = settings["optim.lr"]
    assert lr == {
        "key": "optim.lr",
        "value": 3e-4,
        "default": 1e-4,
        "type": "number above 0",
        "choices": None,
        "meaning": "Learning rate after the warm-up.",
    }
    assert settings["algorithm.kl"]["choices"] == ["full", "k1", "k3"]
    assert settings["alarms.reward.critical"]["meaning"] == "Level at which the run should not continue like this."


def test_a_config_of_a_file_and_of_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.yaml").write_text("optim: {lr: 0.5}\n")
    assert "\n  lr: 0.5\n" in cli(capsys, "config", "mine.yaml")
    with pytest.raises(SystemExit) as stopped:
        main(["config", "quickstrat"])
    assert stopped.value.code == 2
    assert "did you mean quickstart?" in capsys.readouterr().err


# --- recipes


def test_every_recipe_is_listed_with_what_it_changes(capsys: pytest.CaptureFixture[str]) -> None:
    recipes = {each["name"]: each for each in json.loads(cli(capsys, "recipes", "--json"))}
    assert list(recipes) == recipe_names()
    assert all(each["about"] for each in recipes.values())
    assert recipes["quickstart-raw"]["base"] == "quickstart"
    assert recipes["quickstart-raw"]["changes"] == {"algorithm.advantage": "raw"}
    assert recipes["gsm8k-paper"]["changes"] == {
        "prompt.preset": "paper",
        "reward.reader": "actor",
        "algorithm.actor_reward_weight": 1.0,
    }
    assert recipes["gsm8k"]["base"] is None
    out = cli(capsys, "recipes")
    assert "quickstart-raw: The quickstart with the raw reward" in out
    assert "from quickstart: algorithm.advantage=raw" in out
    assert max(map(len, out.splitlines())) <= 80


def test_a_recipe_is_its_base_with_its_changes() -> None:
    for recipe in list_recipes():
        base = by_key(build_config(read_recipe(recipe.base) if recipe.base else {}, "base").model_dump(mode="json"))
        own = by_key(build_config(read_recipe(recipe.name), "own").model_dump(mode="json"))
        assert base | recipe.changes == own


# --- runs


def make_run(name: str, rows: list[dict[str, Any]], alarms: list[dict[str, Any]], *, done: bool = False) -> Path:
    folder = Path("runs", name)
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(write_yaml({"steps": 50, "data": {"dataset": "a/b/mine.jsonl"}}))
    for file, lines in (("log.jsonl", rows), ("alarms.jsonl", alarms)):
        (folder / file).write_text("".join(json.dumps(line) + "\n" for line in lines))
    if done:
        (folder / "summary.json").write_text("{}")
    return folder


def test_a_line_for_each_run(capsys: pytest.CaptureFixture[str]) -> None:
    score = "eval/mine/accuracy"
    rows = [{"step": 0, score: 0.9}, {"step": 20, score: 0.5}, {"step": 40, score: 0.25}, {"step": 50}]
    make_run("done", rows, [], done=True)
    critical = {"step": 50, "alarm": "kl", "level": "critical"}
    make_run("stopped", rows, [critical | {"step": 3, "alarm": "ratio"}, critical])
    make_run("broken off", rows[:2], [critical | {"step": 3}])
    with Path("runs/broken off/log.jsonl").open("a") as torn:
        torn.write('{"step": 30, "ev')
    training = make_run("training", [], [])
    (make_run("old", [], []) / "config.yaml").write_text("nothing: {known: 1}\n")
    Path("runs/base-nano/eval").mkdir(parents=True)
    with RunLock(training):
        found = {each["name"]: each for each in json.loads(cli(capsys, "runs", "--json"))}
        out = cli(capsys, "runs")
    assert {name: each["state"] for name, each in found.items()} == {
        "broken off": "interrupted",
        "done": "done",
        "old": "unreadable",
        "stopped": "stopped by kl",
        "training": "training",
    }
    done = found["done"]
    assert (done["step"], done["steps"], done["best"], done["best_step"]) == (50, 50, 0.5, 20), "not the base's"
    assert (done["dataset"], done["model"]) == ("mine.jsonl", "nano")
    assert found["broken off"]["step"] == 20
    assert (done["measure"], found["training"]["measure"]) == ("accuracy", None)
    assert max(map(len, out.splitlines())) <= 80
    assert [line.split()[0] for line in out.splitlines()[2:]] == ["broken", "done", "old", "stopped", "training"]


@pytest.fixture
def in_berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("in_berlin")
def test_when_a_run_was_started_is_in_the_name_that_copies_keep(capsys: pytest.CaptureFixture[str]) -> None:
    """1764238535 s after 1970 is 10:15:35 UTC on 27 November 2025, 11:15 in Berlin's winter."""
    for name in ("copied", "without"):
        folder = make_run(name, [{"step": 1}], [])
        os.utime(folder / "config.yaml", (1764238535 - 3600, 1764238535 - 3600))
    for second in (1764238475, 1764238535):
        Path(f"runs/copied/events.out.tfevents.{second}.host.12.0").touch()
    Path("runs/copied/events.out.tfevents.99999999999999.host.12.0").touch()
    found = {each["name"]: each for each in json.loads(cli(capsys, "runs", "--json"))}
    assert (found["copied"]["started"], found["copied"]["started_from"]) == (
        "2025-11-27T11:15+01:00",
        "TensorBoard's file",
    )
    assert (found["without"]["started"], found["without"]["started_from"]) == ("2025-11-27T10:15+01:00", "config.yaml")
    assert "2025-11-27 11:15" in cli(capsys, "runs")


BY_TENSORBOARD = ("2025-11-27T11:15+01:00", "TensorBoard's file")


@pytest.mark.usefixtures("in_berlin")
@pytest.mark.parametrize(
    ("text", "started", "source"),
    [
        (
            '{"starts": [{"time": "2025-07-01T22:30:59Z"}, {"time": "2025-07-02T08:00:00Z"}]}',
            "2025-07-02T00:30+02:00",
            "environment.json",
        ),
        ("{", *BY_TENSORBOARD),
        ("[]", *BY_TENSORBOARD),
        ('{"starts": []}', *BY_TENSORBOARD),
        ('{"starts": [{"time": 3}]}', *BY_TENSORBOARD),
    ],
)
def test_when_a_run_was_started_it_says_itself(
    capsys: pytest.CaptureFixture[str], text: str, started: str, source: str
) -> None:
    folder = make_run("r", [{"step": 1}], [])
    (folder / "events.out.tfevents.1764238535.host.12.0").touch()
    (folder / "environment.json").write_text(text)
    [found] = json.loads(cli(capsys, "runs", "--json"))
    assert (found["started"], found["started_from"]) == (started, source)


def test_runs_in_another_order(capsys: pytest.CaptureFixture[str]) -> None:
    make_run("b", [{"step": 7, "eval/mine/accuracy": 0.25}], [])
    make_run("a", [{"step": 9}], [], done=True)
    make_run("c", [{"step": 8, "eval/mine/accuracy": 0.75}], [])
    make_run("wiki", [{"step": 1, "eval/wiki/answer_logprob": -0.5}], [])
    for seconds, name in enumerate(("c", "a", "wiki", "b")):
        Path(f"runs/{name}/events.out.tfevents.{1764238535 + 60 * seconds}.host.1.0").touch()

    def order(*options: str) -> str:
        return " ".join(each["name"] for each in json.loads(cli(capsys, "runs", "--json", *options)))

    assert order() == "a b c wiki"
    assert order("--sort", "-name") == "wiki c b a"
    assert order("--sort", "when") == "c a wiki b"
    assert order("--sort", "steps") == "wiki b c a"
    assert order("--sort", "result") == "wiki b c a", "log-probs are below accuracies, and no result is last"
    assert order("--sort", "-result") == "c b wiki a"
    assert order("--sort", "-state") == "b c wiki a"
    lines = cli(capsys, "runs", "--sort", "-steps").splitlines()
    assert [line.split()[0] for line in lines[2:]] == ["a", "c", "b", "wiki"]
    assert "0.750 accuracy" in lines[3] and "-0.500 log-prob" in lines[5]
    with pytest.raises(SystemExit) as stopped:
        main(["runs", "--sort", "date"])
    assert stopped.value.code == 2
    assert "--sort date: not known; there are name, when, dataset" in capsys.readouterr().err


def test_a_line_for_each_run_on_a_narrow_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run("quickstart-20251127-101535", [{"step": 20}], [])
    make_run("red\x1b[31m", [{"step": 20}], [])
    lines = cli(capsys, "runs").splitlines()
    assert len(lines) == 4 and max(map(len, lines)) <= 80
    assert lines[0].split() == ["run", "when", "data", "step", "result", "state"], "what least is needed is left out"
    assert lines[3].startswith("red\\x1b[31m ")
    monkeypatch.setenv("COLUMNS", "120")
    assert cli(capsys, "runs").splitlines()[0].split()[3] == "model"


def test_of_long_logs_only_what_is_needed_is_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_run("long", [{"step": i, "reward/value": 0.5} for i in range(1000)], [])
    with (folder / "log.jsonl").open("a") as log:
        log.write('{"step": 1000, "eval/mine/accuracy": 0.5}\n{"step": 1001}\n{"step": 10')
    parsed = []
    loads = json.loads
    monkeypatch.setattr("markov_cot.evaluation.runs.json.loads", lambda line: parsed.append(line) or loads(line))
    found = read_run(folder)
    assert (found.step, found.best, found.best_step) == (1001, 0.5, 1000)
    assert len(parsed) == 3, "one line has a result, one is torn, one is the last"


def test_a_config_of_before_a_setting_was_renamed_is_read(capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_run("former", [{"step": 3}], [])
    former = {"steps": 5, "data": {"dataset": "mine.jsonl"}, "reward": {"answerer": "actor"}, "prompt": {}}
    (folder / "config.yaml").write_text(write_yaml(former))
    assert json.loads(cli(capsys, "runs", "--json"))[0]["state"] == "interrupted"
    config = RunFolder("former").config
    assert (config.reward.reader, config.prompt.preset) == ("actor", "paper")


def test_no_runs(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli(capsys, "runs", "--json").strip() == "[]"
    with pytest.raises(SystemExit):
        main(["runs"])
    assert "no runs in runs/; markov-cot train starts one" in capsys.readouterr().err
