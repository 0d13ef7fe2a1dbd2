"""Checkpoints: whole or refused, named files, no pickle."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load, load_file, save_file
from transformers import LlamaConfig

from markov_cot.checkpoints import checkpoint as checkpoints
from markov_cot.checkpoints import contents
from markov_cot.checkpoints.manifest import FILES, OPTIMIZER, WEIGHTS, Manifest, read_manifest
from markov_cot.config.schema import Lora, Model
from markov_cot.models.loading import add_adapter, fingerprint, load_base
from markov_cot.models.source import resolve_source
from markov_cot.utils.errors import UserError

CPU = torch.device("cpu")


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    model = add_adapter(load_base(Model(), CPU), Lora(), seed=0)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-2)
    for p in parameters:
        p.grad = torch.ones_like(p)
    optimizer.step()
    folder = tmp_path / "adapter_7"
    base = {"name": "nano", "fingerprint": fingerprint(model)}
    about = Manifest(7, {"seed": 0}, base, {}, {}, {})
    checkpoints.write(folder, contents.render(model, optimizer, {"step": 7}, about))
    return folder


def test_files_and_manifest(saved: Path) -> None:
    files = {str(f.relative_to(saved)) for f in saved.rglob("*") if f.is_file()}
    assert files == {
        "adapter_model.safetensors",
        "adapter_config.json",
        "trainer/optimizer.safetensors",
        "trainer/state.json",
        "manifest.json",
    }
    manifest = read_manifest(saved)
    assert (manifest.step, manifest.config, manifest.base["name"]) == (7, {"seed": 0}, "nano")
    assert not list(saved.parent.glob(".*")), "nothing half-written is left behind"


def test_adapter_and_optimizer_come_back_bit_for_bit(saved: Path) -> None:
    model = add_adapter(load_base(Model(), CPU), Lora(), seed=1)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    contents.load_adapter(saved, model)
    assert contents.load_trainer_state(saved, model, optimizer) == {"step": 7}
    again = saved.with_name("adapter_8")
    about = Manifest(8, {"seed": 0}, {}, {}, {}, {})
    checkpoints.write(again, contents.render(model, optimizer, {"step": 7}, about))
    for name in (WEIGHTS, OPTIMIZER):
        assert (again / name).read_bytes() == (saved / name).read_bytes(), name


def test_modules_that_share_a_matrix_are_both_written(make_policy: Any, sizes: dict[str, Any]) -> None:
    """As PEFT's ensure_weight_tying has them."""
    base = make_policy(LlamaConfig(**sizes, tie_word_embeddings=True)).model.unload()
    tying = {"modules_to_save": ["embed_tokens"], "ensure_weight_tying": True}
    model = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"], **tying))
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad])
    files = contents.render(model, optimizer, {}, Manifest(0, {}, {}, {}, {}, {}))
    tensors = load(files[WEIGHTS])
    [embeddings], [head] = ([v for k, v in tensors.items() if name in k] for name in ("embed_tokens", "lm_head"))
    assert torch.equal(embeddings, head)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["flip", "truncate", "delete"])
def test_a_damaged_file_is_named(saved: Path, name: str, damage: str) -> None:
    file = saved / name
    content = bytearray(file.read_bytes())
    if damage == "delete":
        file.unlink()
    else:
        content[len(content) // 2] ^= 1
        file.write_bytes(content if damage == "flip" else content[:-1])
    with pytest.raises(UserError, match=name.replace(".", r"\.")):
        read_manifest(saved)


def test_a_damaged_manifest_is_named(saved: Path) -> None:
    for content in ("", "{", "[]", json.dumps({"step": 1}), json.dumps({"format": 2}), "[" * 100_000):
        (saved / "manifest.json").write_text(content)
        with pytest.raises(UserError, match=r"manifest\.json"):
            read_manifest(saved)


def test_another_base_is_refused(saved: Path) -> None:
    manifest = read_manifest(saved)
    with pytest.raises(UserError, match="trained on the base nano"):
        checkpoints.check_base(saved, manifest.base, "other", "0" * 64)


def test_an_adapter_of_another_rank_is_refused(saved: Path) -> None:
    model = add_adapter(load_base(Model(), CPU), Lora(rank=4), seed=0)
    with pytest.raises(UserError, match="does not fit"):
        contents.load_adapter(saved, model)


def test_weights_that_lack_a_tensor_are_refused(tmp_path: Path) -> None:
    shutil.copytree(resolve_source("nano"), tmp_path / "model")
    file = tmp_path / "model" / "model.safetensors"
    tensors = load_file(file)
    del tensors["model.layers.0.mlp.up_proj.weight"]
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(UserError, match="lack 1 tensors"):
        load_base(Model(name=str(tmp_path / "model")), CPU)


def test_fingerprint_ignores_adapter_and_dtype_but_not_weights() -> None:
    base = load_base(Model(), CPU)
    plain = fingerprint(base)
    assert fingerprint(load_base(Model(dtype="bfloat16"), CPU)) == plain
    assert fingerprint(add_adapter(load_base(Model(), CPU), Lora(), seed=0)) == plain
    with torch.no_grad():
        next(iter(base.parameters())).mul_(1.5)
    assert fingerprint(base) != plain


def test_pruning_keeps_the_newest_and_the_best(tmp_path: Path) -> None:
    for step in (1, 2, 3, 10):
        (tmp_path / f"adapter_{step}").mkdir()
    (tmp_path / "adapter_2_notes").mkdir()
    checkpoints.point(tmp_path / "best", tmp_path / "adapter_1")
    checkpoints.point(tmp_path / "latest", tmp_path / "adapter_10")
    checkpoints.prune(tmp_path, keep=2)
    assert sorted(f.name for f in tmp_path.iterdir()) == [
        "adapter_1",
        "adapter_10",
        "adapter_2_notes",
        "adapter_3",
        "best",
        "latest",
    ]
