from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from markov_cot.config.loading import (
    apply,
    build_config,
    by_key,
    dump_config,
    flatten,
    read_assignments,
    read_recipe,
    recipe_names,
)
from markov_cot.config.schema import Config
from markov_cot.config.yaml_files import _Loader, read_yaml, write_value, write_yaml
from markov_cot.evaluation.suites import read_suite
from markov_cot.utils.errors import UserError

KEYS = [*flatten(Config().model_dump()), *Config.model_fields]
PUBLISHED_LENGTHS = {
    "gsm8k": 100,
    "arithmetic": 150,
    "mmlu": 150,
    "svamp": 50,
    "arc": 50,
    "aqua": 50,
    "mathqa": 150,
    "wiki": 50,
}
PAPER = [f"{name}-paper" for name in PUBLISHED_LENGTHS]
ACTOR = {"reward.reader": "actor"}
VARIANTS: dict[str, dict[str, Any]] = {
    "actor": ACTOR | {"algorithm.actor_reward_weight": 1.0},
    "actor-ramp": ACTOR | {"algorithm.actor_reward_weight": 1.0, "algorithm.actor_reward_ramp": 40},
    "adaptive-kl": {"algorithm.kl_target": 0.02},
    "cosine": {"optim.schedule": "cosine"},
    "dynamic": {"algorithm.resample_dead": 2},
    "ema": {"algorithm.advantage": "ema"},
    "entropy": {"algorithm.entropy_weight": 0.01},
    "expert": {"algorithm.advantage": "expert"},
    "kl-k1": {"algorithm.kl": "k1"},
    "kl-k3": {"algorithm.kl": "k3"},
    "linear": {"optim.schedule": "linear"},
    "no-actor-reward": ACTOR,
    "non-markovian": {"prompt.markovian": False},
    "policy-gradient": {"algorithm.advantage": "normalized"},
    "ppo": {"algorithm.loss": "ppo", "algorithm.inner_epochs": 2, "algorithm.minibatches": 2},
    "raw": {"algorithm.advantage": "raw"},
}

scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.sampled_from(["actor", "full", "k1"])
)
names = st.one_of(st.sampled_from([part for key in KEYS for part in key.split(".")]), st.text(max_size=6))
nested = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(names | scalars.filter(lambda s: s == s), inner, max_size=4)
    ),
    max_leaves=10,
)


def fault(values: dict[Any, Any]) -> str:
    """The one line `build_config` finds fault with."""
    with pytest.raises(UserError) as error:
        build_config(values, "file.yaml")
    assert "\n" not in str(error.value) and str(error.value).startswith("file.yaml: ")
    return str(error.value).removeprefix("file.yaml: ")


# --- what is wrong is named


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"optim": {"lrr": 1}}, "unknown key optim.lrr; did you mean optim.lr?"),
        ({"rolout": {}}, "unknown key rolout; did you mean rollout?"),
        ({"lr": 1}, "unknown key lr; did you mean optim.lr?"),
        ({"optim": {"temperature": 1}}, "unknown key optim.temperature; did you mean rollout.temperature?"),
        ({"lora": {"zzz": 1}}, "unknown key lora.zzz; there are rank, alpha, target_modules, init, reference, critic"),
    ],
)
def test_unknown_keys_name_the_nearest(values: dict[str, Any], message: str) -> None:
    assert fault(values) == message


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"steps": True}, "steps: expected a number, got true"),
        ({"optim": {"lr": False}}, "optim.lr: expected a number, got false"),
        ({"data": {"terms": [True, 4]}}, "data.terms: expected a number, got [true, 4]"),
        ({"steps": "many"}, "steps: input should be a valid integer"),
        ({"steps": 1.5}, "steps: input should be a valid integer"),
        ({"steps": 0}, "steps: input should be greater than 0, got 0"),
        ({"seed": 2**64}, "seed: input should be less than"),
        ({"optim": {"lr": "fast"}}, "optim.lr: input should be a valid number"),
        ({"optim": {"lr": float("nan")}}, "optim.lr: input should be a finite number"),
        ({"optim": [1]}, "optim: input should be a valid dictionary"),
        ({"data": None}, "data: input should be a valid dictionary"),
        ({"model": {"name": 3}}, "model.name: input should be a valid string, got 3"),
        ({"lora": {"target_modules": 3}}, "lora.target_modules: input should be a valid string, got 3"),
        ({"reward": {"answerer": "judge"}}, "reward.answerer: is the former name of reward.reader and was critic or"),
        ({"data": {1: 2}}, "data: keys should be strings, got 1"),
        ({"data": {"terms": [4, 2]}}, "data.terms: the fewest come first"),
        ({"rollout": {"samples": 1}}, "rollout.samples: a group advantage needs at least 2"),
        ({"algorithm": {"actor_reward_weight": 1}}, "algorithm.actor_reward_weight: only with reward.reader=actor"),
    ],
)
def test_wrong_values(values: dict[Any, Any], message: str) -> None:
    assert fault(values).startswith(message)


def test_a_config_is_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Config().steps = 3  # type: ignore[misc]


# --- YAML


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3e-5", 3e-5),
        ("1E4", 1e4),
        ("-2.5e+3", -2500.0),
        (".5e1", 5.0),
        ("1.", 1.0),
        ("3", 3),
        ("e5", "e5"),
        ("'3e-5'", "3e-5"),
    ],
)
def test_numbers_with_exponents_are_floats(text: str, value: object) -> None:
    read = read_yaml(text, "here")
    assert read == value and type(read) is type(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: [", "here line 2: expected the node content"),
        ("when: 2025-13-45", "here: month must be in 1..12; correct the YAML, or put the value in quotes"),
        ("0x_", "here: invalid literal for int"),
        ("!!timestamp x", "here: "),
        ("!!bool x", "here: "),
        ("\x00", "here: not valid YAML"),
        ("!!python/object/apply:os.getcwd []", "here line 1: could not determine a constructor"),
        ("[" * 3000, "here: is nested too deeply"),
    ],
)
def test_broken_yaml(text: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        read_yaml(text, "here")
    assert str(error.value).startswith(message) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "line", "key", "first"),
    [
        ("steps: 1\nsteps: 2\n", 2, "steps", 1),
        ("seed: 1\ndata:\n  dataset: words\n  high: 9\n  'dataset': choices\n", 5, "dataset", 3),
        ("tasks:\n  - {dataset: words,\n     limit: 1, limit: 2}", 3, "limit", 3),
        ("a: &a {b: 1}\nc: {<<: *a, d: 1, d: 2}", 2, "d", 2),
        ("yes: 1\ntrue: 2", 2, "true", 1),
    ],
)
def test_a_key_given_twice_is_refused(text: str, line: int, key: str, first: int) -> None:
    with pytest.raises(UserError) as error:
        read_yaml(text, "here")
    assert str(error.value) == (
        f"here line {line}: the key {key!r} is there twice, the first time in line {first}; correct the YAML"
    )


def test_a_key_given_twice_is_refused_wherever_settings_are_read(tmp_path: Path) -> None:
    path = tmp_path / "twice.yaml"
    path.write_text("optim: {lr: 1e-4, lr: 1e-5}\ntasks: []\n")
    for read in (read_recipe, read_suite):
        with pytest.raises(UserError, match=r"twice\.yaml line 1: the key 'lr' is there twice"):
            read(str(path))
    with pytest.raises(UserError, match=r"--set optim=.* line 1: the key 'lr' is there twice"):
        apply({}, read_assignments(["optim={lr: 1, lr: 2}"]))


def test_merged_keys_may_be_overridden() -> None:
    read = read_yaml("a: &a {x: 1, y: 1}\nb: {c: &c {<<: *a, x: 2}}\nd: {<<: *c, z: 3}\n", "here")
    assert read["b"] == {"c": {"x": 2, "y": 1}} and read["d"]["z"] == 3


# --- overrides


def test_overrides() -> None:
    values: dict[str, Any] = {"optim": {"lr": 1.0}}
    for assignment in (
        "optim.lr=3e-5",
        "steps=7",
        "data.terms=[2, 6]",
        "model.name=a=b",
        "lora.target_modules=[q_proj]",
    ):
        apply(values, read_assignments([assignment]))
    config = build_config(values, "test")
    assert (config.optim.lr, config.steps, config.data.terms, config.model.name) == (3e-5, 7, (2, 6), "a=b")
    assert config.lora.target_modules == ("q_proj",)


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("steps", "--set steps: expected key=value, as in --set optim.lr=3e-5"),
        ("=3", "--set =3: expected key=value"),
        ("steps.x=3", "--set steps.x: steps is a setting, not a group"),
        ("steps=[", "--set steps=[ line 1: "),
    ],
)
def test_wrong_overrides(assignment: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        apply({"steps": 5}, read_assignments([assignment]))
    assert str(error.value).startswith(message)


# --- recipes


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_is_valid(name: str) -> None:
    build_config(read_recipe(name), name)


@pytest.mark.parametrize("name", [*PUBLISHED_LENGTHS, *PAPER])
def test_recipes_have_the_published_hyper_parameters(name: str) -> None:
    config, dataset = build_config(read_recipe(name), name), name.removesuffix("-paper")
    assert config.data.dataset == dataset
    assert config.model.name == "meta-llama/Llama-3.1-8B-Instruct"
    assert (config.lora.rank, config.lora.alpha, config.lora.target_modules) == (8, 16, "all-linear")
    assert (config.optim.lr, config.optim.grad_clip, config.algorithm.kl_weight) == (1e-4, 1.0, 0.1)
    assert config.rollout.length == PUBLISHED_LENGTHS[dataset] and config.rollout.temperature == 1.0
    assert config.rollout.problems * config.rollout.samples == (16 if dataset == "wiki" else 12)
    by_actor = name in PAPER
    assert config.reward.reader == ("actor" if by_actor else "base")
    assert config.prompt.preset == ("paper" if by_actor else "default")
    assert config.algorithm.actor_reward_weight == float(by_actor)


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_is_the_quickstart_with_one_thing_changed(name: str) -> None:
    quickstart, variant = (
        flatten(build_config(read_recipe(recipe), recipe).model_dump(mode="json"))
        for recipe in ("quickstart", f"quickstart-{name}")
    )
    assert {key: value for key, value in variant.items() if value != quickstart[key]} == VARIANTS[name]


def test_every_variant_is_listed_here_and_in_the_readme() -> None:
    assert {name for name in recipe_names() if name.startswith("quickstart-")} == {f"quickstart-{v}" for v in VARIANTS}
    readme = (Path(__file__).parents[3] / "README.md").read_text(encoding="utf-8")
    row = next(line for line in readme.splitlines() if line.startswith("| `quickstart-"))
    assert set(re.findall(r"`(?:quickstart)?-([a-z0-9-]+)`", row)) == set(VARIANTS)


def test_special_settings_of_recipes() -> None:
    arithmetic, wiki = (build_config(read_recipe(name), name).data for name in ("arithmetic", "wiki"))
    assert (arithmetic.terms, arithmetic.high) == ((15, 15), 99)
    assert (wiki.context_tokens, wiki.target_tokens) == (200, 100)
    assert build_config(read_recipe("quickstart"), "quickstart").model.name == "nano"


def test_unknown_recipes_name_the_nearest() -> None:
    with pytest.raises(UserError, match=r"recipe 'gsm9k': not known; did you mean gsm8k\?; there are aqua, "):
        read_recipe("gsm9k")


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    with pytest.raises(UserError, match="does not exist"):
        read_recipe(str(path))
    path.write_text("- 1\n")
    with pytest.raises(UserError, match="expected a mapping of settings, got list"):
        read_recipe(str(path))
    path.write_text("1: 2\n")
    with pytest.raises(UserError, match="unknown key 1; keys are words"):
        read_recipe(str(path))
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="is not UTF-8 text"):
        read_recipe(str(path))
    path.write_text("steps: 3\n")
    assert read_recipe(str(path)) == {"steps": 3}


# --- round trip and robustness


@given(st.text(max_size=12), st.floats(1e-12, 1e3), st.integers(0, 2**63 - 1))
def test_a_dumped_config_reads_back(name: str, lr: float, seed: int) -> None:
    config = build_config({"model": {"name": name}, "optim": {"lr": lr}, "seed": seed}, "test")
    assert build_config(read_yaml(dump_config(config), "dumped"), "dumped") == config


@pytest.mark.parametrize("name", ["3e-5", "1E4", "yes", "null", "~", "0x1f", "2025-01-01", "a: b", "- x", "", " ", "é"])
def test_text_that_looks_like_something_else_stays_text(name: str) -> None:
    config = build_config({"model": {"name": name}}, "test")
    assert build_config(read_yaml(dump_config(config), "dumped"), "dumped") == config


@given(st.dictionaries(names, nested, max_size=4))
def test_any_mapping_builds_or_is_the_users_error(values: dict[str, Any]) -> None:
    with contextlib.suppress(UserError):
        build_config(values, "test")


@given(st.sampled_from(KEYS), nested)
def test_any_value_of_a_known_key_builds_or_is_the_users_error(key: str, value: Any) -> None:
    values: dict[str, Any] = {}
    with contextlib.suppress(UserError):
        apply(values, read_assignments([f"{key}={yaml.safe_dump(value)}"]))
        build_config(values, "test")


@given(st.text(max_size=30) | st.builds("{}={}".format, st.sampled_from(KEYS), st.text(max_size=12)))
def test_any_override_is_applied_or_is_the_users_error(assignment: str) -> None:
    values: dict[str, Any] = {"optim": {"lr": 1e-4}, "steps": 3}
    with contextlib.suppress(UserError):
        apply(values, read_assignments([assignment]))
        build_config(values, "test")


def test_flatten() -> None:
    assert flatten({"a": 1, "b": {"c": 2, "d": {"e": 3}}}) == {"a": 1, "b.c": 2, "b.d.e": 3}


def test_settings_given_nested_or_by_key_or_both() -> None:
    nested = {"rollout": {"length": 8}, "optim.lr": 1e-3, "alarms": {"kl": {"pace": 2.0}}, "steps": 3}
    assert by_key(nested) == {"rollout.length": 8, "optim.lr": 1e-3, "alarms.kl.pace": 2.0, "steps": 3}
    assert by_key({"reward": {"args": {"price": 1}}}) == {"reward.args": {"price": 1}}, "a mapping that is a value"
    assert by_key({"reward.args": {"price": 1}, "rolout": {"length": 8}}) == {
        "reward.args": {"price": 1},
        "rolout": {"length": 8},
    }


YAML_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8) | st.just("3e-5"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(YAML_VALUES)
def test_libyaml_reads_what_the_careful_loader_reads(value: object) -> None:
    text = write_yaml(value)
    assert repr(read_yaml(text, "here")) == repr(yaml.load(text, _Loader)) == repr(value)  # noqa: S506


@given(YAML_VALUES)
@example([{"cot": "two\n\nlines"}])
@example({"form\x0cfeed": "next\x85line"})
def test_a_value_on_one_line_reads_back(value: object) -> None:
    text = write_value(value)
    assert len(text.splitlines()) <= 1
    assert read_yaml(text, "here") == value


def test_every_recipe_is_read_by_libyaml_as_by_the_careful_loader(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = {name: read_recipe(name) for name in recipe_names()}
    monkeypatch.setattr("markov_cot.config.yaml_files._QuickLoader", _Loader)
    assert {name: read_recipe(name) for name in recipe_names()} == quick
