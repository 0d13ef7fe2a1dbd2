"""Tiny random models of many families against float64, whole sequences, one at a time; and which path was taken."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.models.llama.modeling_llama import LlamaModel
from transformers.models.mamba2.modeling_mamba2 import Mamba2Model

from markov_cot.config.schema import Lora
from markov_cot.models.batching import pad_left
from markov_cot.models.compat import UNLIMITED, cache_argument, context_length
from markov_cot.models.lora import AdaptedLinear
from markov_cot.models.paths import CHECKPOINTED, EVEN_CACHE, FUSED, OWN_CACHE, PADDED, SHARED_CACHE, STATIC, WHOLE
from markov_cot.models.policy import Policy
from markov_cot.rollouts import cuda_graphs as static_decoding
from markov_cot.rollouts import decode as decoding
from markov_cot.rollouts.decode import DECODERS, decoder_in_use
from tests.small_runs import config_of, lines, script, start

families = script("families")
LOGP, GRADIENT = 2e-5, 1e-5
APART = "not shared"
DECODED = {
    "Llama": (FUSED,),
    "Qwen 2": (FUSED,),
    "Qwen 3": (FUSED,),
    "MiniMax": (EVEN_CACHE, APART),
    "Zamba 2": (WHOLE, APART),
    "Nemotron-H": (WHOLE, APART),
    "Mamba 2": (OWN_CACHE, APART),
    "Mamba": (EVEN_CACHE, APART),
    "Bamba": (OWN_CACHE, APART),
    "LFM 2": (OWN_CACHE, APART),
    "Llama 4": (OWN_CACHE, APART),
    "RWKV": (WHOLE, "not padded", APART),
    "Llama, dynamic NTK": (WHOLE, "not padded"),
    "Phi-3, longrope": (WHOLE, "not padded"),
}
"""What is expected; other families share prompts and the cache that grows from them."""


@pytest.fixture(autouse=True)
def quiet() -> None:
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()


def right(row: Any) -> bool:
    """Whether all that was computed is what the reference computes."""
    logps = (row.sampled, row.scored, row.critic)
    return max(logps) <= LOGP and row.gradient <= GRADIENT


@pytest.mark.parametrize("family", families.FAMILIES)
@pytest.mark.filterwarnings("ignore")  # PEFT's, about experts
def test_a_family_computes_what_its_reference_computes(family: str, tokenizer: Any) -> None:
    base = families.build(families.FAMILIES[family]())
    row = families.compare(families.policy_of(base, tokenizer), base)
    assert right(row), row
    assert row.paths == DECODED.get(family, (SHARED_CACHE,))


@pytest.mark.parametrize("family", ["Gemma 2", "Llama", "GPT-NeoX"])
def test_in_float64_a_family_is_exact(family: str, tokenizer: Any) -> None:
    base = families.build(families.FAMILIES[family](), dtype=torch.float64)
    row = families.compare(families.policy_of(base, tokenizer), base)
    assert right(row), row  # Gemma 2's padding gave NaN
    # Whether it does depends on the version of transformers; no other family loses the path.
    assert family == "Gemma 2" or PADDED not in " ".join(row.paths)


@pytest.mark.parametrize("family", ["Llama", "GPT-2", "Gemma 2", "MiniMax"])
@pytest.mark.filterwarnings("ignore")
def test_an_adapter_on_the_output_layer(family: str, tokenizer: Any) -> None:
    base = families.build(families.FAMILIES[family]())
    row = families.compare(families.policy_of(base, tokenizer, lora=Lora(target_modules=["lm_head"])), base)
    assert right(row), row


@pytest.mark.parametrize("reader", ["base", "actor"])
def test_an_adapter_on_the_output_layer_alone_is_trained(tmp_path: Path, reader: str) -> None:
    changes: dict[str, Any] = {"lora": {"target_modules": ["lm_head"]}, "reward": {"reader": reader}}
    if reader == "actor":
        changes["algorithm"] = {"actor_reward_weight": 1.0}
    made = start(config_of(tmp_path, steps=2, **changes))
    before = {name: p.detach().clone() for name, p in made.session.policy.trainable().items()}
    made.run(lambda *_: None)
    after = made.session.policy.trainable()
    assert before and all("lm_head" in name for name in before)
    assert all(not torch.equal(after[name], values) for name, values in before.items() if "lora_B" in name)
    rows = [json.loads(line) for line in lines(tmp_path)]
    first = next(row for row in rows if "ppo/ratio_max" in row)
    assert first["ppo/ratio_max"] == pytest.approx(1, abs=1e-4) and first["optim/grad_norm"] > 0


# --- gradient checkpointing


@pytest.mark.parametrize("family", ["OPT", "Llama", "GPT-2", "GPT-NeoX", "Falcon", "BLOOM"])
def test_gradient_checkpointing_changes_nothing(family: str, tokenizer: Any) -> None:
    config = families.FAMILIES[family]()
    for name in ("dropout", "attention_dropout", "activation_dropout", "layerdrop", "hidden_dropout", "resid_pdrop"):
        if isinstance(getattr(config, name, None), float):
            setattr(config, name, 0.5)
    base = families.build(config)
    policy = families.policy_of(base, tokenizer, checkpointing=True)
    row = families.compare(policy, base)
    assert right(row), row
    assert policy.paths.allow(CHECKPOINTED)
    calls: list[int] = []
    layer = next(
        m for m in policy.model.modules() if isinstance(m, transformers.modeling_layers.GradientCheckpointingLayer)
    )
    inner = next(m for m in layer.modules() if isinstance(m, nn.LayerNorm) or "Norm" in type(m).__name__)
    inner.register_forward_hook(lambda *_: calls.append(1))
    policy.hidden(pad_left([[1, 5, 6], [1, 7]], 0, policy.device)).sum().backward()
    assert len(calls) == 2, "it is computed again in the backward"
    assert not any(m.training for m in policy.model.modules())


# --- the cache's name


NAMES = ("cache", "past_key_values", "cache_params")


def swallowing(own: str, parent: type[Any], *, swallows: tuple[str, ...]) -> type[Any]:
    """A decoder whose cache is called `own`, and which loses other names in its `**kwargs`."""
    installed = next(name for name in NAMES if name in inspect.signature(parent.forward).parameters)
    known = ["self", "input_ids", "attention_mask", "position_ids", *[own] * bool(own), "use_cache"]

    class Decoder(parent):  # type: ignore[misc]
        def forward(self, *args: Any, **kwargs: Any) -> Any:
            given = {name: value for name, value in kwargs.items() if name == own or name not in swallows}
            if own in given:
                given[installed] = given.pop(own)
            return parent.forward(self, *args, **given)

    parameters = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None) for name in known]
    rest = inspect.Parameter("kwargs", inspect.Parameter.VAR_KEYWORD)
    Decoder.forward.__signature__ = inspect.Signature([*parameters, rest])  # type: ignore[attr-defined]
    return Decoder


@pytest.mark.parametrize("own", NAMES)
def test_a_llama_of_any_release_uses_its_cache(own: str, tokenizer: Any) -> None:
    base = families.build(families.FAMILIES["Llama"]())
    reference = base.model
    others = tuple(name for name in NAMES if name != own)

    def change(policy_base: Any) -> None:
        policy_base.model.__class__ = swallowing(own, LlamaModel, swallows=others)

    changed = families.build(families.FAMILIES["Llama"](), change=change)
    assert cache_argument(changed.model) == own and reference is not changed.model
    policy = families.policy_of(changed, tokenizer)
    policy.paths.ruled_out.add(FUSED)
    row = families.compare(policy, base)
    assert right(row), row
    assert row.paths == (SHARED_CACHE,)


def test_a_decoder_that_swallows_every_cache_is_read_whole(tokenizer: Any) -> None:
    base = families.build(families.FAMILIES["Llama"]())

    def change(policy_base: Any) -> None:
        policy_base.model.__class__ = swallowing("", LlamaModel, swallows=NAMES)

    policy = families.policy_of(families.build(families.FAMILIES["Llama"](), change=change), tokenizer)
    row = families.compare(policy, base)
    assert right(row), row
    assert row.paths == (WHOLE, APART)
    assert any("reading its whole sequence again" in line for line in row.lines)


def test_a_mamba_of_an_earlier_release(tokenizer: Any) -> None:
    base = families.build(families.FAMILIES["Mamba 2"]())

    def change(policy_base: Any) -> None:
        policy_base.backbone.__class__ = swallowing("cache_params", Mamba2Model, swallows=("cache", "past_key_values"))

    changed = families.build(families.FAMILIES["Mamba 2"](), change=change)
    row = families.compare(families.policy_of(changed, tokenizer), base)
    assert right(row), row
    assert row.paths == (OWN_CACHE, APART)


# --- linear layers with a forward of their own


class Ternary(nn.Linear):
    """Rounds its weights and its input, as BitNet's layers do."""

    def forward(self, input: Tensor) -> Tensor:
        scale = self.weight.abs().mean()
        return F.linear((input * 16).round() / 16, (self.weight / scale).round().clamp(-1, 1) * scale, self.bias)


class Scaled(nn.Linear):
    """Multiplies its output by a scale that is kept beside the weight, as quantised layers do."""

    def forward(self, input: Tensor) -> Tensor:
        return 3 * F.linear(input, self.weight, self.bias)


class Deciding(nn.Linear):
    """Returns choices beside scores, as routers do."""

    def forward(self, input: Tensor) -> tuple[Tensor, Tensor]:
        scores = F.linear(input, self.weight, self.bias)
        return scores, scores.argmax(-1)


@pytest.mark.parametrize("kind", [Ternary, Scaled])
def test_layers_keep_a_forward_of_their_own(kind: type[nn.Linear], tokenizer: Any) -> None:
    def change(base: nn.Module) -> None:
        for name, module in base.named_modules():
            if type(module) is nn.Linear and "lm_head" not in name:
                module.__class__ = kind

    base = families.build(families.FAMILIES["Llama"](), change=change)
    ids = torch.tensor([[1, 5, 6, 7]])
    with torch.no_grad():
        before = base(input_ids=ids).logits
    policy = families.policy_of(base, tokenizer)
    assert not any(isinstance(module, AdaptedLinear) for module in policy.model.modules())
    with torch.no_grad(), policy.acting_as("critic"):
        after = policy.logits(policy.hidden(pad_left(ids.tolist(), 0, policy.device)))
    torch.testing.assert_close(after, before, rtol=0, atol=1e-6)
    for parameter in policy.trainable().values():
        parameter.data.fill_(0.01)
    # A rounded input turns rounding errors into steps, so what is compared is not float64.
    row = families.compare(policy, base) if kind is Scaled else None
    assert row is None or right(row), row


def test_a_router_gets_no_adapter(tokenizer: Any, caplog: pytest.LogCaptureFixture) -> None:
    class Chosen(nn.Module):
        def __init__(self, router: nn.Linear) -> None:
            super().__init__()
            self.router = router

        def forward(self, x: Tensor) -> Tensor:
            scores, _ = self.router(x)
            return scores

    def change(base: Any) -> None:
        for layer in base.model.layers:
            layer.mlp.gate_proj.__class__ = Deciding
            layer.mlp.gate_proj = Chosen(layer.mlp.gate_proj)

    base = families.build(families.FAMILIES["Llama"](), change=change)
    policy = families.policy_of(base, tokenizer)
    assert "no adapter on 2 layers that none can be put on (model.layers.0.mlp.gate_proj.router)" in caplog.text
    assert not any("router" in name for name in policy.trainable())
    row = families.compare(policy, base)
    assert right(row), row


def test_a_layer_whose_forward_was_replaced_is_left_to_peft(tokenizer: Any) -> None:
    def change(base: Any) -> None:
        layer = base.model.layers[0].self_attn.q_proj
        layer.forward = lambda x, layer=layer: 2 * F.linear(x, layer.weight)

    base = families.build(families.FAMILIES["Llama"](), change=change)
    ids = torch.tensor([[1, 5, 6, 7]])
    with torch.no_grad():
        before = base(input_ids=ids).logits
    policy = Policy(families.add_adapter(base, Lora(), 0), tokenizer)
    with torch.no_grad(), policy.acting_as("critic"):
        after = policy.logits(policy.hidden(pad_left(ids.tolist(), 0, policy.device)))
    torch.testing.assert_close(after, before, rtol=0, atol=1e-5)


# --- the longest context


@pytest.mark.parametrize(
    ("family", "expected"),
    [("BLOOM", UNLIMITED), ("Mamba 2", UNLIMITED), ("MPT", 256), ("RWKV", 256), ("GPT-2", 256), ("Llama", 256)],
)
def test_the_longest_context_has_many_names(family: str, expected: int) -> None:
    assert context_length(families.FAMILIES[family]()) == expected


# --- decoding at fixed addresses, which a GPU makes a graph of


@pytest.fixture
def static(monkeypatch: pytest.MonkeyPatch) -> Callable[[Policy], Policy]:
    monkeypatch.setattr(decoding, "decodes_fused", lambda _: False)

    def make(policy: Policy) -> Policy:
        monkeypatch.setattr(policy, "decodes_statically", lambda _: policy.shares_prompts)
        return policy

    return make


@pytest.mark.parametrize(
    ("family", "expected"),
    [
        ("Llama", STATIC),
        ("DeepSeek-V3 (MLA)", STATIC),  # heads of values smaller than those of keys
        ("Falcon, ALiBi", STATIC),
        ("GPT-Neo", SHARED_CACHE),  # windows that count from the end
        ("Mistral, window", SHARED_CACHE),
        ("Llama, dynamic NTK", WHOLE),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_static_decoding_is_tried(
    family: str, expected: str, tokenizer: Any, static: Callable[[Policy], Policy]
) -> None:
    base = families.build(families.FAMILIES[family]())
    row = families.compare(static(families.policy_of(base, tokenizer)), base)
    assert right(row), row
    assert row.paths[0] == expected


def test_a_forward_that_cannot_be_captured_is_computed(
    tokenizer: Any, static: Callable[[Policy], Policy], monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts: list[int] = []

    def capture(forward: Callable[[], None]) -> Any:
        attempts.append(1)
        raise RuntimeError("operation not permitted when stream is capturing\nCUDA kernel errors might be ...")

    monkeypatch.setattr(static_decoding, "capture", capture)
    base = families.build(families.FAMILIES["Llama"]())
    policy = static(families.policy_of(base, tokenizer))
    policy.paths.captures = True
    row = families.compare(policy, base)
    assert right(row), row
    assert attempts == [1], "it is not tried again"
    assert sum("cannot be captured (operation not permitted" in line for line in row.lines) == 1


def test_what_a_capture_has_no_memory_for_is_no_way_back(
    tokenizer: Any, static: Callable[[Policy], Policy], monkeypatch: pytest.MonkeyPatch
) -> None:
    def capture(forward: Callable[[], None]) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    base = families.build(families.FAMILIES["Llama"]())
    policy = static(families.policy_of(base, tokenizer))
    with torch.no_grad():
        assert decoder_in_use(policy, 20) == STATIC
    monkeypatch.setattr(static_decoding, "capture", capture)
    policy.paths.captures = True
    with pytest.raises(torch.OutOfMemoryError):
        families.sample_cots(policy, families.CONTEXTS, families.uniforms(0, 0, 3, 5))
    assert policy.paths.captures


def test_graphs_are_not_for_weights_in_parts(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = families.policy_of(families.build(families.FAMILIES["Llama"](), dtype=torch.bfloat16), tokenizer)
    monkeypatch.setattr(policy, "device", torch.device("cuda"))
    with torch.no_grad():
        assert policy.decodes_statically(100)
        monkeypatch.setattr(policy, "_sharded", True)
        assert not policy.decodes_statically(100)


def test_every_decoder_has_its_turn() -> None:
    assert set(DECODERS) == set(decoding.REGISTRY)
