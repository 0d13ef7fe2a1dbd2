"""Runs that start from an adapter: they begin as what it is, keep it, resume to the same bytes, and refuse others."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from markov_cot.checkpoints.initial_adapter import INIT
from markov_cot.checkpoints.manifest import WEIGHTS, checksum, read_manifest
from markov_cot.config.loading import dump_config
from markov_cot.config.schema import Model
from markov_cot.evaluation.loaded_model import LoadedModel, Overrides, read_source
from markov_cot.evaluation.locate import locate
from markov_cot.models import loading as models
from markov_cot.models.batching import pad_left
from markov_cot.models.loading import load_tokenizer
from markov_cot.models.policy import Policy
from markov_cot.models.source import resolve_source
from markov_cot.rollouts.path_check import check_paths
from markov_cot.training import trainer
from markov_cot.training.options import resolve_config
from markov_cot.training.trainer import Trainer
from markov_cot.utils.errors import UserError
from tests.command_fixtures import SMALL, Cli
from tests.helpers import last_logits
from tests.small_runs import config_of, differences, lines, outcome, run, start, warm
from tests.warm_starts import IDS, SHAPES, nano, peft_logits, write_adapter

CONFIG = "adapter_config.json"
CLOSE: dict[str, float] = {"rtol": 0, "atol": 3e-5}
"""Of logits up to 20."""


@pytest.fixture(scope="module", autouse=True)
def _warm() -> Iterator[None]:
    with warm():
        yield


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("adapters")
    return {name: write_adapter(folder / name, **settings) for name, settings in SHAPES.items()}


@pytest.fixture
def plain(adapters: dict[str, Path], tmp_path: Path) -> Path:
    """One that a test may change."""
    return Path(shutil.copytree(adapters["plain"], tmp_path / "mine"))


def config(folder: Path, adapter: Path, **overrides: Any) -> Any:
    """The small run's config, from an adapter."""
    lora = {"init": str(adapter)} | overrides.pop("lora", {})
    return resolve_lora(config_of(folder, **overrides), lora)


def resolve_lora(made: Any, lora: dict[str, Any]) -> Any:
    """Settings of `lora` alone, so that those of the adapter count."""
    return made.model_copy(update={"lora": type(made.lora).model_validate(lora)})


def logits(policy: Policy, role: str) -> torch.Tensor:
    with torch.no_grad(), policy.acting_as(role):
        return last_logits(policy, pad_left([IDS], 0, policy.device), len(IDS))[0]


def first_step(made: Trainer) -> dict[str, Any]:
    made.run(lambda *_: None, lambda: made.state.progress.step == 1)
    return next(row for row in map(json.loads, lines(made.session.folders.run.parents[1])) if row["step"] == 1)


# --- what it begins as


@pytest.mark.parametrize("shape", SHAPES)
def test_it_begins_as_peft_has_it_and_its_checkpoints_load_everywhere(
    shape: str, adapters: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "check_paths", check_paths)
    folder = adapters[shape]
    made = start(config(tmp_path, folder, steps=2))
    policy, expected = made.session.policy, peft_logits(folder)
    base = nano()(input_ids=torch.tensor([IDS])).logits[0].detach()
    torch.testing.assert_close(logits(policy, "actor"), expected, **CLOSE)
    torch.testing.assert_close(logits(policy, "reference"), expected, **CLOSE)
    torch.testing.assert_close(logits(policy, "critic"), base, **CLOSE)
    assert (expected - base).abs().max() > 0.01
    assert {parameter.dtype for parameter in policy.trainable().values()} == {torch.float32}
    assert not made.method.updater.optimizer.state, "AdamW starts from zero moments"
    row = first_step(made)
    assert row["ppo/ratio_max"] == pytest.approx(1, abs=1e-5) and row["rollout/logprob_gap"] < 1e-5
    assert row["policy/kl"] == pytest.approx(0, abs=1e-6)
    assert row["policy/reference_ratio"] == pytest.approx(1, abs=1e-5)
    before, after = (load_file(tmp_path / "checkpoints" / "r" / f"adapter_{i}" / WEIGHTS) for i in (0, 1))
    saved = load_file(folder / WEIGHTS)
    assert before.keys() == after.keys() == saved.keys()
    assert all(torch.equal(before[key], saved[key]) for key in saved), "what adapter_0 holds is what was given"
    # Tokens that do not occur get no gradient.
    assert all("token" in key or not torch.equal(before[key], after[key]) for key in saved), "and all of it is trained"
    trained = logits(policy, "actor")
    torch.testing.assert_close(logits(policy, "reference"), expected, **CLOSE)
    checkpoint = tmp_path / "checkpoints" / "r" / "adapter_1"
    torch.testing.assert_close(peft_logits(checkpoint), trained, **CLOSE)
    source = read_source(locate(str(checkpoint), None, tmp_path), Overrides())
    loaded = LoadedModel(source, source.config(source.default_task()))
    torch.testing.assert_close(logits(loaded.policy, "actor"), trained, **CLOSE)
    torch.testing.assert_close(logits(loaded.policy, "critic"), base, **CLOSE)


@pytest.mark.parametrize(("dtype", "expected"), [("bfloat16", torch.float32), ("float64", torch.float64)])
def test_what_is_trained_is_in_float32_or_as_wide_as_the_base(
    dtype: str, expected: torch.dtype, plain: Path, tmp_path: Path
) -> None:
    made = start(config(tmp_path, plain, model={"dtype": dtype}))
    assert {parameter.dtype for parameter in made.session.policy.trainable().values()} == {expected}
    assert first_step(made)["policy/kl"] == pytest.approx(0, abs=1e-3 if dtype == "bfloat16" else 1e-6)


# --- which of the two is the reference, and which the critic


def test_the_kl_may_be_to_the_base(plain: Path, tmp_path: Path) -> None:
    made = start(config(tmp_path, plain, lora={"reference": "base"}))
    assert torch.equal(logits(made.session.policy, "reference"), logits(made.session.policy, "critic"))
    assert first_step(made)["policy/kl"] > 1e-4


def test_the_critic_may_be_the_start_itself(plain: Path, tmp_path: Path) -> None:
    """It scores, answers and writes the baseline; an evaluation finds it in the run's own copy."""
    made = start(config(tmp_path, plain, lora={"critic": "init"}, steps=2))
    expected = peft_logits(plain)
    torch.testing.assert_close(logits(made.session.policy, "critic"), expected, **CLOSE)
    made.run(lambda *_: None)
    torch.testing.assert_close(logits(made.session.policy, "critic"), expected, **CLOSE)
    shutil.rmtree(plain)
    checkpoint = tmp_path / "checkpoints" / "r" / "adapter_2"
    source = read_source(locate(str(checkpoint), None, tmp_path), Overrides())
    loaded = LoadedModel(source, source.config(source.default_task()))
    torch.testing.assert_close(logits(loaded.policy, "critic"), expected, **CLOSE)
    torch.testing.assert_close(logits(loaded.policy, "actor"), logits(made.session.policy, "actor"), **CLOSE)
    assert loaded.critic == source.init["fingerprint"]
    shutil.rmtree(checkpoint.parent / INIT)
    with pytest.raises(UserError, match="is not the adapter that the run started from"):
        LoadedModel(source, source.config(source.default_task()))


# --- resuming


def test_stopped_and_resumed_runs_leave_the_same_bytes_without_the_original(
    adapters: dict[str, Path], tmp_path: Path
) -> None:
    mine = Path(shutil.copytree(adapters["modules of its own"], tmp_path / "mine"))
    run(config(tmp_path / "whole", mine, steps=3))
    expected = outcome(tmp_path / "whole")
    parts = config(tmp_path / "parts", mine, steps=3)
    assert run(parts, stop=lambda made: made.state.progress.step == 1).interrupted
    shutil.rmtree(mine)
    run(saved_config(tmp_path / "parts"), resume=True)
    assert differences(tmp_path / "parts", expected) == []


def saved_config(folder: Path, **settings: Any) -> Any:
    """As `--resume` reads it."""
    return resolve_config(None, settings, folder / "runs" / "r" / "config.yaml")[0]


def test_what_a_run_knows_of_its_start_and_holds_to(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(config(tmp_path, plain, steps=2), stop=lambda made: made.state.progress.step == 1)
    manifest = read_manifest(tmp_path / "checkpoints" / "r" / "adapter_1")
    assert manifest.init["path"] == str(plain) and manifest.init["fingerprint"] == checksum(plain / WEIGHTS)
    lora = manifest.config["lora"]
    assert (lora["rank"], lora["alpha"], lora["init"]) == (4, 12, str(plain))
    assert lora["target_modules"] == ["down_proj", "q_proj", "v_proj"]
    with pytest.raises(UserError, match=r"differs from adapter_1 in lora.reference \(init -> base\)"):
        start(saved_config(tmp_path, **{"lora.reference": "base"}), resume=True)
    with pytest.raises(UserError, match=rf"lora.init best: run r started from {plain}, which stays"):
        saved_config(tmp_path, **{"lora.init": "best"})
    monkeypatch.chdir(plain)
    for same in (str(plain), "../mine"):
        assert saved_config(tmp_path, **{"lora.init": same}) == saved_config(tmp_path)


def test_a_fresh_start_is_not_spoken_of_and_stays(tmp_path: Path) -> None:
    run(config_of(tmp_path, steps=1))
    folder = tmp_path / "checkpoints" / "r" / "adapter_1"
    assert "init" not in json.loads((folder / "manifest.json").read_text()) and read_manifest(folder).init == {}
    with pytest.raises(UserError, match=r"lora\.init best: run r started from a fresh adapter, which stays"):
        saved_config(tmp_path, **{"lora.init": "best"})


def test_a_copy_that_is_not_what_it_was_is_named(plain: Path, tmp_path: Path) -> None:
    run(config(tmp_path, plain, steps=2), stop=lambda made: made.state.progress.step == 1)
    copy = tmp_path / "checkpoints" / "r" / INIT

    def other_weights() -> None:
        save_file({k: v + 1 for k, v in load_file(copy / WEIGHTS).items()}, copy / WEIGHTS)

    def another_alpha() -> None:
        values = json.loads((copy / CONFIG).read_text())
        (copy / CONFIG).write_text(json.dumps(values | {"lora_alpha": 99}))

    for damage in (other_weights, another_alpha, (copy / WEIGHTS).unlink):
        damage()
        with pytest.raises(UserError, match=rf"run r: {copy} is not the adapter that .* put a copy of {plain} there"):
            start(saved_config(tmp_path), resume=True)
        for name in (WEIGHTS, CONFIG):
            shutil.copy(plain / name, copy)
    start(saved_config(tmp_path), resume=True).session.lock.release()


def test_a_start_that_fails_leaves_no_copy(plain: Path, tmp_path: Path, cli: Cli, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_validate", lambda *_: (_ for _ in ()).throw(UserError("no")))
        assert cli("train", "--init", str(plain), "--run", "w", *SMALL)[0] == 2
    assert not Path("checkpoints").exists() and not Path("runs").exists()


# --- whose values count


def test_a_recipes_rank_gives_way_and_ones_own_does_not(plain: Path, tmp_path: Path) -> None:
    lora = resolve_config("quickstart", {"lora.init": str(plain)})[0].lora
    assert not {"rank", "alpha"} & lora.model_fields_set
    for settings, message in (
        ({"lora.rank": 8}, rf"lora.rank 8: the adapter {plain} has 4, which counts; leave the setting out"),
        ({"lora.alpha": 16}, rf"lora.alpha 16.0: the adapter {plain} has 12"),
        ({"lora.target_modules": "all-linear"}, rf"lora.target_modules all-linear: the adapter {plain} has \["),
    ):
        asked = resolve_config("quickstart", {"lora.init": str(plain), **settings} | folders(tmp_path))[0]
        with pytest.raises(UserError, match=message):
            start(asked)
    mine = tmp_path / "mine.yaml"
    mine.write_text(dump_config(resolve_config("quickstart", folders(tmp_path))[0]))
    with pytest.raises(UserError, match=r"lora\.alpha 16\.0: the adapter"):
        start(resolve_config(str(mine), {"lora.init": str(plain)})[0])
    same = {"lora.rank": 4, "lora.alpha": 12, "lora.target_modules": ["v_proj", "q_proj", "down_proj"]}
    start(resolve_config("quickstart", {"lora.init": str(plain), **same} | folders(tmp_path))[0])


def folders(folder: Path) -> dict[str, Any]:
    return {"checkpoint.runs_dir": str(folder / "runs"), "checkpoint.checkpoints_dir": str(folder / "checkpoints")}


def test_dropout_is_left_out_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = SHAPES["plain"] | {"lora_dropout": 0.25}
    made = start(config(tmp_path, write_adapter(tmp_path / "mine", **settings)))
    assert "its lora_dropout of 0.25 is left out" in caplog.text
    assert made.session.policy.model.peft_config["default"].lora_dropout == 0
    assert not [m for m in made.session.policy.model.modules() if isinstance(m, torch.nn.Dropout) and m.p]


# --- the command


def test_a_checkpoint_of_a_run_which_is_resumed_and_evaluated(workplace: Path, cli: Cli) -> None:
    code, _, err = cli("train", "--init", "checkpoints/r/latest", "--run", "w", *SMALL)
    step = workplace / "checkpoints" / "r" / "adapter_4"
    assert code == 0 and f"from the adapter {step} (rank 8, alpha 16); KL to it, critic: the base" in err
    copy = workplace / "checkpoints" / "w" / INIT / WEIGHTS
    assert copy.read_bytes() == (step / WEIGHTS).read_bytes()
    assert cli("train", "--resume", "--run", "w", "--steps", "2")[0] == 0
    code, out, err = cli("eval", "--run", "w", "--limit", "2", "--json")
    assert code == 0 and json.loads(out)["results"], err


def damaged(folder: Path, workplace: Path, how: str) -> str:
    """The argument for a folder that is damaged so."""
    if how == "no adapter":
        (folder / CONFIG).unlink()
    elif how == "a pickle":
        (folder / WEIGHTS).rename(folder / "adapter_model.bin")
    elif how == "another base":
        tensors = load_file(folder / WEIGHTS)
        save_file({k: v.repeat(1, 2) if "lora_A" in k else v for k, v in tensors.items()}, folder / WEIGHTS)
    elif how == "PiSSA":
        values = json.loads((folder / CONFIG).read_text())
        (folder / CONFIG).write_text(json.dumps(values | {"init_lora_weights": "pissa"}))
    return {"no folder": "nowhere/at/all", "the base": "base", "a step": "adapter_9"}.get(how, str(folder))


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("no folder", "lora.init nowhere/at/all: is no folder, and no name of a checkpoint"),
        ("the base", "lora.init base: a fresh adapter starts from the base as well; leave it out"),
        ("a step", "lora.init adapter_9: not found in any run in checkpoints/; r has adapter_0"),
        ("no adapter", "has no adapter_config.json"),
        ("a pickle", "adapter_model.bin is a pickle"),
        ("another base", "does not fit the model"),
        ("PiSSA", "starts by changing the base's weights"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    how: str, expected: str, plain: Path, workplace: Path, cli: Cli
) -> None:
    code, out, err = cli("train", "--init", damaged(plain, workplace, how), "--run", "w", *SMALL)
    assert code == 2 and not out and expected in err and err.count("\n") == 1, err
    assert not (workplace / "runs" / "w").exists() and not (workplace / "checkpoints" / "w").exists()


def test_a_checkpoint_of_another_base_is_refused(workplace: Path, cli: Cli) -> None:
    shutil.copytree(resolve_source("nano"), "other", ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    tensors = load_file("other/model.safetensors")
    save_file({k: v + 0.1 * (v.ndim == 2) for k, v in tensors.items()}, "other/model.safetensors", {"format": "pt"})
    code, _, err = cli("train", "--init", "adapter_4", "--model", "./other", "--run", "w", *SMALL)
    assert code == 2 and "was trained on the base nano, whose weights differ from ./other's" in err


def test_added_tokens_and_narrow_modules_are_refused_by_name(tmp_path: Path) -> None:
    base = nano()
    base.resize_token_embeddings(base.config.vocab_size + 3)
    grown = write_adapter(tmp_path / "grown", base, save_embeddings=True, **SHAPES["plain"])
    with pytest.raises(UserError, match="was trained with tokens added to its base, which a run's checkpoints do not"):
        start(config(tmp_path, grown))
    saved = write_adapter(tmp_path / "saved", **SHAPES["modules of its own"])
    with pytest.raises(UserError, match=r"\(modules_to_save, .* and the base is in bfloat16; set model.dtype=float32"):
        start(config(tmp_path, saved, model={"dtype": "bfloat16"}))


def test_a_tokenizer_of_its_own_is_named(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(models, "load_tokenizer", load_tokenizer)
    own = load_tokenizer(Model())
    own.chat_template = "{% for m in messages %}{{ m.content }}{% endfor %}"
    own.save_pretrained(plain)
    start(config(tmp_path / "a", plain))
    assert "has a chat template of its own, which is not used" in caplog.text
    own.add_tokens(["<more>"])
    own.save_pretrained(plain)
    with pytest.raises(UserError, match="was trained with other tokens than those of nano"):
        start(config(tmp_path / "b", plain))
