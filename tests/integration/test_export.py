"""`markov-cot export`: the folder's model is base and adapter, up to one rounding of each weight."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

from markov_cot.checkpoints import export
from markov_cot.checkpoints.export import TEXTS, export_merged
from markov_cot.checkpoints.manifest import WEIGHTS
from markov_cot.config.schema import Model
from markov_cot.utils.errors import UserError
from tests.command_fixtures import Cli
from tests.warm_starts import IDS, peft_logits, write_adapter

SHAPES: dict[str, dict[str, Any]] = {
    "plain": {"target_modules": "all-linear"},
    "rank-stabilised, with patterns": {
        "use_rslora": True,
        "rank_pattern": {"q_proj": 2},
        "alpha_pattern": {"v_proj": 3},
        "target_modules": ["q_proj", "v_proj"],
    },
    "modules of its own": {"target_modules": ["q_proj"], "modules_to_save": ["lm_head", "norm"]},
    "embeddings of its own": {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]},
    "on the head": {"target_modules": ["o_proj", "lm_head"]},
    "on the embeddings": {"target_modules": ["embed_tokens", "q_proj"]},
    "DoRA": {"target_modules": ["q_proj"], "use_dora": True},
    "tokens of its own": {"target_modules": ["q_proj"], "trainable_token_indices": [40, 41]},
    "on parameters": {"target_parameters": ["q_proj.weight"], "target_modules": []},
}
APART = ("embeddings of its own", "on the embeddings", "on the head", "modules of its own")
"""Those that change one of two tied matrices."""
Base = Callable[..., Path]


@pytest.fixture(scope="module")
def make_base(sizes: dict[str, Any], tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Base:
    """Folders of random Llamas, with a head of their own or tied to the embeddings."""
    made: dict[Any, Path] = {}

    def make(*, tied: bool = False, dtype: torch.dtype = torch.float32) -> Path:
        if (tied, dtype) not in made:
            with torch.random.fork_rng():
                torch.manual_seed(0)
                base = AutoModelForCausalLM.from_config(LlamaConfig(**sizes, tie_word_embeddings=tied))
                for parameter in base.parameters():
                    parameter.data += 0.1 * torch.randn_like(parameter)
            folder = tmp_path_factory.mktemp("base")
            base.generation_config.max_length = 99
            base.to(dtype).save_pretrained(folder)
            tokenizer.save_pretrained(folder)
            made[tied, dtype] = folder
        return made[tied, dtype]

    return make


def load(folder: Path, dtype: Any = torch.float64) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)


def adapter(base: Path, folder: Path, **settings: Any) -> Path:
    return write_adapter(folder, load(base, torch.float32), 0.1, r=4, **settings)


@torch.no_grad()
def logits(model: Any, ids: list[int] = IDS) -> Tensor:
    found: Tensor = model(input_ids=torch.tensor([ids])).logits[0]
    return found


@pytest.mark.usefixtures("exact_norms")
@pytest.mark.parametrize(
    ("shape", "tied"),
    [*((shape, False) for shape in SHAPES), *((shape, True) for shape in ("tokens of its own", *APART[1:3]))],
)
def test_it_computes_what_pefts_model_computes(shape: str, tied: bool, make_base: Base, tmp_path: Path) -> None:
    base = make_base(tied=tied)
    folder = adapter(base, tmp_path / "adapter", **SHAPES[shape])
    found = export_merged(folder, None, Model(name=str(base)), tmp_path / "out")
    exact = peft_logits(folder, base=load(base))
    merged = load(tmp_path / "out")
    assert found.dtype == "float32" and found.max_logit_difference < 1e-5 < found.max_logit_change
    assert (logits(merged) - exact).abs().max() < 1e-5
    assert (exact - logits(load(base))).abs().max() > 0.01
    assert {path.suffix for path in (tmp_path / "out").iterdir()} <= {".json", ".safetensors", ".jinja"}
    assert merged.config.tie_word_embeddings is (tied and shape not in APART)


@pytest.mark.usefixtures("exact_norms")
def test_each_weight_is_rounded_once(make_base: Base, tmp_path: Path) -> None:
    """In float32 a sum is off by at most 2^-24 of itself, so a logit by at most the sum of |dz/dW| |W| 2^-24."""
    base = make_base()
    folder = adapter(base, tmp_path / "adapter", target_modules="all-linear")
    export_merged(folder, None, Model(name=str(base)), tmp_path / "out")
    exact, merged = peft_logits(folder, base=load(base)), load(tmp_path / "out")
    difference = (logits(merged) - exact).abs()
    row, token = divmod(int(difference.argmax()), difference.shape[1])
    merged(input_ids=torch.tensor([IDS])).logits[0, row, token].backward()
    bound = sum(float((p.grad * p.detach()).abs().sum()) for p in merged.parameters() if p.grad is not None) * 2.0**-24
    assert 0 < difference.max() <= 1.01 * bound
    stored, wide = load(tmp_path / "out", torch.float32).state_dict(), load(base).state_dict()
    for name, expected in _merged_by_hand(folder, wide).items():
        assert torch.equal(stored[name], expected.float()), name


def _merged_by_hand(folder: Path, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """W + (alpha / r) B A in float64."""
    tensors = {key.removeprefix("base_model.model."): value for key, value in load_file(folder / WEIGHTS).items()}
    names = {key.removesuffix(".lora_A.weight") for key in tensors if key.endswith(".lora_A.weight")}
    scaling = 8 / 4  # PEFT's own alpha by the rank
    return {
        f"{name}.weight": weights[f"{name}.weight"]
        + scaling * tensors[f"{name}.lora_B.weight"].double() @ tensors[f"{name}.lora_A.weight"].double()
        for name in names
    }


def test_it_is_in_the_bases_own_dtype_rounded_from_float32(make_base: Base, tmp_path: Path) -> None:
    base = make_base(dtype=torch.bfloat16)
    folder = adapter(base, tmp_path / "adapter", target_modules="all-linear")
    found = export_merged(folder, None, Model(name=str(base)), tmp_path / "out")
    out = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert found.dtype == "bfloat16" and out.dtype == torch.bfloat16 and out.generation_config.max_length == 99
    stored, wide = out.state_dict(), load(base).state_dict()
    for name, expected in _merged_by_hand(folder, wide).items():
        # One rounding to 8 bits, after sums in float32 of numbers below 1.
        assert ((stored[name].double() - expected).abs() <= 2.0**-8 * expected.abs() + 2.0**-24).all(), name
    assert torch.equal(stored["lm_head.weight"].double(), wide["lm_head.weight"]), "and none of what is not adapted"
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    contexts = [tokenizer(text).input_ids for text in TEXTS]
    merged = load(tmp_path / "out", torch.float32)
    differences = [
        (logits(merged, ids) - peft_logits(folder, ids, load(base, torch.float32))).abs().max() for ids in contexts
    ]
    assert found.max_logit_difference == pytest.approx(float(max(differences)), abs=1e-4)


def test_what_fails_leaves_nothing(make_base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = make_base()
    folder = adapter(base, tmp_path / "adapter", **SHAPES["plain"])
    out = tmp_path / "new" / "out"

    def fail(*_: Any, **__: Any) -> Any:
        raise OSError(28, "No space left on device")

    for place in ("save_pretrained", "load_base"):
        with monkeypatch.context() as patch:
            if place == "save_pretrained":
                patch.setattr(type(load(base)), place, fail)
            else:
                real = export.models.load_base
                patch.setattr(
                    export.models,
                    place,
                    lambda c, *a: fail() if c.name != str(base) else real(c, *a),  # noqa: B023
                )
            with pytest.raises(OSError, match="No space"):
                export_merged(folder, None, Model(name=str(base)), out)
        assert not list(out.parent.iterdir())


def test_a_quantised_base_is_refused(make_base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = make_base()
    folder = adapter(base, tmp_path / "adapter", **SHAPES["plain"])
    monkeypatch.setattr(type(load(base)), "is_quantized", True, raising=False)
    with pytest.raises(UserError, match="its weights are quantised, and what is merged into them could not be rounded"):
        export_merged(folder, None, Model(name=str(base)), tmp_path / "out")


def test_a_base_that_was_read_in_4_bits_is_read_whole(make_base: Base, tmp_path: Path) -> None:
    base = make_base()
    folder = adapter(base, tmp_path / "adapter", **SHAPES["plain"])
    export_merged(folder, None, Model(name=str(base), four_bit=True), tmp_path / "out")
    assert (tmp_path / "out" / "model.safetensors").is_file()


# --- the command


def test_a_runs_checkpoint(workplace: Path, cli: Cli) -> None:
    code, out, err = cli("export", "--run", "r", "--checkpoint", "adapter_4", "--merge", "out/merged", "--json")
    assert code == 0, err
    document = json.loads(out)
    assert document.keys() == {"out", "checkpoint", "base", "dtype", "max_logit_difference", "max_logit_change"}
    assert document["max_logit_difference"] < 1e-5 and document["dtype"] == "float32"
    expected = peft_logits(workplace / "checkpoints/r/adapter_4")
    assert (logits(load(Path("out/merged"), torch.float32)) - expected).abs().max() < 1e-4
    assert [path.name for path in Path("out").iterdir()] == ["merged"]
    code, out, err = cli(
        "eval", "--checkpoint", "base", "--model", "./out/merged", "--dataset", "arithmetic", "--limit=2"
    )
    assert code == 0, err


def test_it_says_what_it_has_written(workplace: Path, cli: Cli) -> None:
    Path("empty").mkdir()
    code, out, err = cli("export", "--merge", "empty")
    assert code == 0 and "r/adapter_" in out and "largest difference of a logit from base + adapter: " in out, err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--merge", "checkpoints"], "--merge checkpoints: is there already, and nothing is overwritten"),
        (["--merge", "choices.jsonl"], "--merge choices.jsonl: is there already"),
        (["--merge", "out", "--checkpoint", "base"], "--checkpoint base: is the base itself"),
        (["--merge", "out", "--checkpoint", "adapter_9"], "--checkpoint adapter_9: not found in any run"),
        (["--merge", "out", "--run", "none"], "run none: has no checkpoints"),
        (["--merge", "out", "--checkpoint", "runs"], "has no adapter_config.json"),
        (["--merge", "out", "--model", "./other"], "was trained on the base nano, whose weights differ"),
        ([], "Missing option '--merge'"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], expected: str, workplace: Path, cli: Cli, make_base: Base) -> None:
    shutil.copytree(make_base(), "other")
    code, out, err = cli("export", *arguments)
    assert code == 2 and not out and expected in err and err.count("\n") == 1, err
    assert not Path("out").exists() and not list(Path().glob(".*out"))
