"""`eval` and `sample` on folders that other tools leave, from the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.command_fixtures import Cli

PICKLE = b"cos\nsystem\n(S'touch owned'\ntR."
ASKED = ("--set", "rollout.length=4")


@pytest.fixture
def adapter(workplace: Path) -> Path:
    """What PEFT's save_pretrained leaves: the adapter of a run, without a manifest."""
    folder = workplace / "elsewhere" / "checkpoint-4"
    folder.mkdir(parents=True)
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copy(workplace / "checkpoints/r/adapter_4" / name, folder)
    values = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(values | {"base_model_name_or_path": "nano"}))
    return folder


def sampled(cli: Cli, *arguments: str) -> Any:
    code, out, err = cli("sample", "2+3=", *ASKED, "--json", *arguments)
    assert code == 0, err
    return json.loads(out)


def test_a_trainers_checkpoint_is_read_and_its_pickles_are_not(
    adapter: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = sampled(cli, "--checkpoint", str(adapter))
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin", "global_step4/state.pkl"):
        (adapter / name).parent.mkdir(exist_ok=True)
        (adapter / name).write_bytes(PICKLE)
    (adapter / "trainer_state.json").write_text("{}")
    opened = _watch(monkeypatch)
    assert sampled(cli, "--checkpoint", str(adapter)) == plain
    assert any(name.endswith("adapter_config.json") for name in opened)
    assert not [name for name in opened if name.endswith((".pt", ".pth", ".bin", ".pkl"))]
    code, out, err = cli(
        "eval", "--checkpoint", str(adapter), "--dataset", "arithmetic", "--limit", "2", *ASKED, "--json"
    )
    assert code == 0 and json.loads(out)["results"], err
    assert not Path("owned").exists()


def _watch(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that Python opens from now on."""
    import io

    opened: list[str] = []
    original = io.open

    def watched(file: Any, *arguments: Any, **options: Any) -> Any:
        opened.append(str(file))
        return original(file, *arguments, **options)

    monkeypatch.setattr("io.open", watched)
    monkeypatch.setattr("builtins.open", watched)
    return opened


def test_an_adapter_with_added_tokens_and_a_tokenizer_of_its_own(adapter: Path, cli: Cli) -> None:
    """As after tokenizer.add_tokens, model.resize_token_embeddings and training with PEFT."""
    import torch
    from peft import LoraConfig, get_peft_model

    from markov_cot.config.schema import Model
    from markov_cot.models.loading import load_base, load_tokenizer

    tokenizer, base = load_tokenizer(Model()), load_base(Model(), torch.device("cpu"))
    tokenizer.add_special_tokens({"extra_special_tokens": ["<|user|>", "<|assistant|>"]})
    tokenizer.chat_template = "{{ bos_token }}{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}"
    base.resize_token_embeddings(len(tokenizer))
    shutil.rmtree(adapter)
    config = LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM", init_lora_weights=False)
    get_peft_model(base, config).save_pretrained(adapter)
    tokenizer.save_pretrained(adapter)
    shown = sampled(cli, "--checkpoint", str(adapter), "--model", "nano")
    assert [each["writer"] for each in shown[0]["written"]] == ["base", "checkpoint-4"]
    for path in adapter.glob("*token*"):
        path.unlink()
    without = sampled(cli, "--checkpoint", str(adapter), "--model", "nano")
    assert shown[0]["written"] != without[0]["written"], "the template it was trained with is not used"


def test_evaluations_of_the_base_under_two_tokenizers_are_kept_apart(adapter: Path, cli: Cli) -> None:
    """The folder of an evaluation has the adapter's name, and the base's part is cached in it."""
    from markov_cot.config.schema import Model
    from markov_cot.models.loading import load_tokenizer

    command = ("eval", "--checkpoint", str(adapter), "--dataset", "arithmetic", "--limit", "2", *ASKED)
    assert cli(*command)[0] == 0
    cached = set(Path("runs/checkpoint-4/eval/cache").iterdir())
    tokenizer = load_tokenizer(Model())
    tokenizer.chat_template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    tokenizer.save_pretrained(adapter)
    assert cli(*command)[0] == 0
    assert len(set(Path("runs/checkpoint-4/eval/cache").iterdir()) - cached) == 2 == len(cached)


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"init_lora_weights": "pissa"}, 'init_lora_weights="pissa"'),
        ({"base_model_name_or_path": "./gone"}, "model ./gone: there is no such folder"),
        ({"base_model_name_or_path": None}, "does not name its base model; pass --model"),
    ],
)
@pytest.mark.parametrize("command", [("eval", "--limit", "2"), ("sample", "2+3=")])
def test_one_line_and_exit_code_2(
    command: tuple[str, ...], changed: dict[str, Any], expected: str, adapter: Path, cli: Cli
) -> None:
    values = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps(values | changed))
    code, out, err = cli(*command, "--checkpoint", str(adapter))
    assert code == 2 and not out
    assert expected in err and err.count("\n") <= 2


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{ raise_exception('never') }}", "alone fails (never)"),
        ("{{ messages[0].content }}<|new|>{{ messages[1].content }}", "'<|new|>' has the id"),
    ],
)
def test_train_names_the_fault_of_a_template_and_its_way_out_works(
    template: str, expected: str, workplace: Path, cli: Cli
) -> None:
    from markov_cot.config.schema import Model
    from markov_cot.models.loading import load_tokenizer
    from markov_cot.models.source import resolve_source

    shutil.copytree(resolve_source("nano"), "model", ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    tokenizer = load_tokenizer(Model())
    tokenizer.add_special_tokens({"extra_special_tokens": ["<|new|>"]})
    tokenizer.chat_template = template
    tokenizer.save_pretrained("model")
    command = ["train", "--model", "./model", "--steps", "1", "--run", "t"]
    sizes = ("rollout.samples=2", "rollout.length=4", "validation.every=0", "validation.final_problems=2")
    for setting in sizes:
        command += ["--set", setting]
    code, _, err = cli(*command)
    assert code == 2 and expected in err and "--set prompt.chat=false" in err
    assert not Path("runs/t").exists()
    assert cli(*command, "--set", "prompt.chat=false")[0] == 0
