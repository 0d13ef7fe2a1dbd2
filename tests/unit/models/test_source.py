"""Names that lead to no model, folders that hold something else, and bases whose files are damaged."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from markov_cot.config.schema import Model
from markov_cot.models import loading
from markov_cot.models.loading import load_base, load_tokenizer
from markov_cot.models.source import NANO, check_source, resolve_source
from markov_cot.utils.errors import UserError

CPU = torch.device("cpu")
WEIGHTS = "model.safetensors"
NORM = "model.norm.weight"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(resolve_source(NANO), tmp_path / "model", ignore=shutil.ignore_patterns("__pycache__", "*.py"))
    return tmp_path / "model"


def change(folder: Path, file: str, **values: object) -> None:
    found = json.loads((folder / file).read_text()) | values
    (folder / file).write_text(json.dumps({key: value for key, value in found.items() if value is not None}))


def refusal(name: str | Path) -> str:
    with pytest.raises(UserError) as error:
        load_tokenizer(Model(name=str(name)))
        load_base(Model(name=str(name)), CPU)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    "name",
    [
        *("./nothere", "../nothere", "/nothere", "~/nothere", "a/b/c", "nothere/", "owner/name/", "~nobody-here/x"),
        *("C:\\data\\model", "C:/data/model", ".\\model", "\\\\host\\share", "https://huggingface.co/gpt2", "", " "),
        *("owner/two words", "./"),
    ],
)
def test_a_path_that_is_not_there(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    message = refusal(name)
    if name in ("", "./"):  # the folder one is in, which is there
        assert "no config.json in it" in message
    else:
        assert message.startswith(f"model {name}: there is no such folder") and "hub id (owner/name)" in message


@pytest.mark.parametrize("name", ["gpt2", "owner/name", "HuggingFaceTB/SmolLM2-135M-Instruct", "01-ai/Yi-1.5_6B"])
def test_hub_ids_are_left_to_the_hub(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert check_source(name) == name


def test_a_folder_under_the_home_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder.parent))
    assert load_tokenizer(Model(name="~/model")).is_fast
    assert load_base(Model(name="~/model"), CPU).config.model_type == "llama"


def test_a_file(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    assert "is a file; give the folder" in refusal(tmp_path / "model.gguf")


@pytest.mark.parametrize("beside_a_model", [False, True])
def test_an_adapter_is_no_model(folder: Path, beside_a_model: bool) -> None:
    """transformers would load the base that it names and the adapter on it, as the critic."""
    if not beside_a_model:
        shutil.rmtree(folder)
        folder.mkdir()
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA", "base_model_name_or_path": "some/base"}')
    message = refusal(folder)
    assert f"{folder}: is an adapter, not a model" in message and f"eval --checkpoint {folder}`" in message
    assert message.endswith("--model is for its base (some/base)")


@pytest.mark.parametrize("text", ["{oops", "[1]", "", "null"])
def test_a_config_that_is_no_json(folder: Path, text: str) -> None:
    (folder / "config.json").write_text(text)
    assert "its config.json is not the JSON of a model's settings" in refusal(folder)


def test_a_folder_without_tokenizer(folder: Path) -> None:
    for file in folder.glob("tokenizer*"):
        file.unlink()
    assert refusal(folder).endswith("no tokenizer in it; save its tokenizer there with save_pretrained")


@pytest.mark.parametrize("content", ["{oops", "[1]", "{}"])
@pytest.mark.parametrize("file", ["tokenizer.json", "tokenizer_config.json"])
def test_a_damaged_tokenizer(folder: Path, file: str, content: str) -> None:
    (folder / file).write_text(content)
    if (file, content) == ("tokenizer_config.json", "{}"):
        assert load_tokenizer(Model(name=str(folder))).is_fast, "tokenizer.json alone is enough"
    else:
        assert f"model {folder}: its tokenizer cannot be loaded (" in refusal(folder)


def test_a_setting_of_another_type(folder: Path) -> None:
    change(folder, "config.json", num_attention_heads="four")
    assert "expected int, got str" in refusal(folder) or "cannot be loaded" in refusal(folder)


def test_code_that_comes_with_a_model_is_not_run(folder: Path) -> None:
    change(folder, "config.json", model_type="x", auto_map={"AutoConfig": "x.X", "AutoModelForCausalLM": "x.Y"})
    (folder / "x.py").write_text("raise SystemExit('run')")
    assert "pass --set model.trust_remote_code=true" in refusal(folder)


@pytest.mark.parametrize("setting", [{"hidden_size": 256}, {"vocab_size": 100}, {"intermediate_size": 8}])
def test_weights_of_another_shape_are_named(folder: Path, setting: dict[str, int]) -> None:
    change(folder, "config.json", **setting)
    message = refusal(folder)
    assert "where its config.json says" in message and f"{next(iter(setting.values()))}" in message


@pytest.mark.parametrize("cut", [1000, 10**9])
def test_truncated_weights(folder: Path, cut: int) -> None:
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[:-cut])
    assert "cannot be loaded (Error while deserializing header" in refusal(folder)


def test_weights_named_in_an_index_and_not_there(folder: Path) -> None:
    names = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    index = {"metadata": {}, "weight_map": dict.fromkeys(names, "model-00001-of-00002.safetensors")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "model-00001-of-00002.safetensors" in refusal(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize(
    "place",
    [
        lambda tensors: (NORM, tensors[NORM][-1:]),
        lambda tensors: ("model.embed_tokens.weight", tensors["model.embed_tokens.weight"].view(-1)[77:79]),
        lambda tensors: (
            "model.layers.1.mlp.down_proj.weight",
            tensors["model.layers.1.mlp.down_proj.weight"].view(-1)[5:6],
        ),
    ],
    ids=["norm", "embeddings", "layer"],
)
def test_weights_that_are_not_finite_are_named(
    folder: Path, value: float, place: Callable[[dict[str, torch.Tensor]], tuple[str, torch.Tensor]]
) -> None:
    tensors = load_file(folder / WEIGHTS)
    name, values = place(tensors)
    values[:] = value
    save_file(tensors, folder / WEIGHTS, {"format": "pt"})
    count = len(values)
    assert f"model {folder}: {name} holds {count} values that are NaN or infinite" in refusal(folder)


def test_finite_weights_of_any_size_are_let_pass(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    largest = torch.finfo(tensors[NORM].dtype).max
    tensors[NORM][:2] = torch.tensor([largest, -largest])
    save_file(tensors, folder / WEIGHTS, {"format": "pt"})
    assert load_base(Model(name=str(folder)), CPU) is not None


@pytest.mark.parametrize(("has_bfloat16", "lines"), [(True, 0), (False, 1)])
def test_a_processor_without_bfloat16_is_said_to_be_slow(
    has_bfloat16: bool, lines: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(loading, "HAS_ONEDNN", True)
    monkeypatch.setattr(loading, "HAS_BFLOAT16", has_bfloat16)
    load_base(Model(dtype="bfloat16"), CPU)
    assert sum("model.dtype=float32 is several times faster" in message for message in caplog.messages) == lines
    load_base(Model(dtype="float32"), CPU)
    assert len(caplog.messages) == lines
