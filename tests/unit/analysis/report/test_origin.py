"""What was run, what it cost, and how to do it again."""

from __future__ import annotations

import hashlib
import shlex
from pathlib import Path
from typing import Any

import pytest

from markov_cot.analysis.report import origin
from markov_cot.analysis.report.sources import Source, open_source
from markov_cot.config.loading import build_config, dump_config, read_assignments, read_recipe
from markov_cot.config.schema import Config
from markov_cot.training.options import resolve_config
from tests.report_runs import healthy_rows, write_run

STARTS = [{"time": "2026-01-01T00:00:00Z", "device": "cpu", "device_name": "x86", "threads": 1}, {"device": "cuda"}]


def of_recipe(folder: Path, recipe: str, settings: dict[str, Any], named: str | None = None) -> Source:
    """A run of a recipe with other settings; `named` is what its environment.json says."""
    source = write_run(folder, healthy_rows(), documents={"environment.json": {"recipe": named, "starts": STARTS}})
    config, _ = resolve_config(recipe, settings | {"checkpoint.runs_dir": str(folder.parent)})
    (folder / "config.yaml").write_text(dump_config(config))
    return source


def changes(source: Source) -> dict[str, Any]:
    found = origin.settings(source, origin.environment(source).get("recipe"))
    assert found is not None
    return found


def test_settings_are_held_against_the_recipe_that_was_named(tmp_path: Path) -> None:
    found = changes(of_recipe(tmp_path / "r", "quickstart", {"optim.lr": 2e-5, "steps": 7}, "quickstart"))
    recipe = build_config(read_recipe("quickstart"), "")
    assert found == {
        "recipe": "quickstart",
        "is_nearest": False,
        "changes": {
            "steps": {"value": "7", "recipe": str(recipe.steps)},
            "optim.lr": {"value": "2.0e-05", "recipe": f"{recipe.optim.lr}"},
        },
    }


def test_where_folders_are_is_no_difference(tmp_path: Path) -> None:
    assert changes(of_recipe(tmp_path / "r", "gsm8k", {}, "gsm8k"))["changes"] == {}


@pytest.mark.parametrize("named", [None, "my.yaml", ["gsm8k"]])
def test_without_a_recipe_it_is_the_nearest(tmp_path: Path, named: Any) -> None:
    found = changes(of_recipe(tmp_path / "r", "mmlu", {"optim.lr": 2e-5}, named))
    assert (found["recipe"], found["is_nearest"], list(found["changes"])) == ("mmlu", True, ["optim.lr"])


def test_a_setting_that_one_side_lacks_is_null(tmp_path: Path) -> None:
    source = of_recipe(tmp_path / "r", "gsm8k", {}, "gsm8k")
    text = (tmp_path / "r" / "config.yaml").read_text()
    (tmp_path / "r" / "config.yaml").write_text(text.replace("seed:", "of_another_version:"))
    found = changes(open_source(str(tmp_path / "r"), tmp_path))["changes"]
    assert found["seed"]["value"] is None and found["seed"]["recipe"] == str(build_config({}, "").seed)
    assert found["of_another_version"]["recipe"] is None
    assert changes(source)["recipe"] == "gsm8k"


def trained_again(command: str) -> Config:
    """What the command would train."""
    program, verb, *words = shlex.split(command)
    assert program == "markov-cot" and verb in ("train", "sft")
    if verb == "sft":
        assert words.pop(0) == "--config"
    recipe, *options = words
    assert options[::2] == ["--set"] * (len(options) // 2)
    method = {"method": "sft"} if verb == "sft" else {}
    config, _ = resolve_config(recipe, method | read_assignments(options[1::2]))
    return config


AWKWARD = "Say \"it\": {question}\n\n- 'no' # comment\t$HOME `x` \\n"


@pytest.mark.parametrize(
    ("recipe", "settings"),
    [
        ("quickstart", {}),
        ("quickstart", {"data.terms": [4, 4], "seed": 3, "optim.lr": 3e-5, "validation.patience": 4}),
        ("gsm8k", {"prompt.question": AWKWARD, "model.name": "folder with 'quotes'/model", "model.revision": "3e-5"}),
        ("gsm8k", {"prompt.system": "null", "prompt.cot_prefix": '"quoted"'}),
        ("gsm8k", {"prompt.question": {"numeric": "How many? {question}", "text": "What? {question}"}}),
        ("gsm8k", {"prompt.examples": [{"cot": "two: 1 + 1", "answer": "2"}]}),
        ("gsm8k", {"method": "sft", "sft.steps": 5, "sft.lr": 1e-4}),
        ("mmlu", {"prompt.markovian": False, "rollout.temperature": 1, "lora.init": None}),
        ("gsm8k", {"lora.init": "adapter", "lora.rank": 4}),
        ("gsm8k", {"algorithm.advantage": "own:advantage", "algorithm.advantage_args": {"a": 1, "b": {"c": "x: y"}}}),
    ],
)
def test_the_command_trains_the_same_config_again(tmp_path: Path, recipe: str, settings: dict[str, Any]) -> None:
    source = of_recipe(tmp_path / "r", recipe, settings, recipe)
    about = origin.environment(source)
    command = origin.reproduction(source, changes(source), about)["command"]
    again, wanted = trained_again(command).model_dump(), build_config(source_settings(tmp_path / "r"), "").model_dump()
    again["checkpoint"] |= {key: wanted["checkpoint"][key] for key in ("runs_dir", "checkpoints_dir")}
    assert again == wanted


def source_settings(folder: Path) -> dict[str, Any]:
    return read_recipe(str(folder / "config.yaml"))


def test_what_it_cost(tmp_path: Path) -> None:
    source = of_recipe(
        tmp_path / "r", "quickstart", {"rollout.problems": 2, "rollout.samples": 3, "rollout.length": 10}
    )
    source.columns["reward/resampled_groups"] = {3: 1.0, 4: 2.0}
    found = origin.cost(source, origin.environment(source))
    assert found == {
        "steps": 12,
        "step_seconds": 18.0,
        "median_step_seconds": 1.5,
        "sampled_tokens": (12 * 2 + 3) * 3 * 10,
        "peak_memory_bytes": 2**30,
        "device": "cuda",
        "device_name": None,
        "processes": None,
        "starts": 2,
    }


def test_supervised_training_samples_nothing(tmp_path: Path) -> None:
    source = of_recipe(tmp_path / "r", "gsm8k", {"method": "sft"})
    assert origin.cost(source, {})["sampled_tokens"] is None


def test_a_log_that_times_nothing_has_no_cost(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"step": 1, "policy/kl": 0.1}\n')
    source = open_source(str(path), tmp_path)
    assert set(origin.cost(source, origin.environment(source)).values()) == {None}
    found = origin.reproduction(source, None, {})
    assert found["command"] is None and list(found["files"]) == ["x.jsonl"]


@pytest.mark.parametrize("content", ["", "[]", "{", "[" * 100_000, '{"starts": "x"}', '{"starts": [1]}'])
def test_an_environment_that_was_edited_is_passed_over(tmp_path: Path, content: str) -> None:
    source = of_recipe(tmp_path / "r", "quickstart", {})
    (tmp_path / "r" / "environment.json").write_text(content)
    about = origin.environment(source)
    assert about.get("starts", []) == [] and origin.cost(source, about)["device"] is None


def test_files_are_named_with_their_checksums(tmp_path: Path) -> None:
    source = of_recipe(tmp_path / "r", "quickstart", {})
    files = origin.reproduction(source, None, {})["files"]
    assert list(files) == ["config.yaml", "environment.json", "log.jsonl"]
    content = (tmp_path / "r" / "log.jsonl").read_bytes()
    assert files["log.jsonl"] == hashlib.sha256(content).hexdigest()
