from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor
from transformers.pytorch_utils import Conv1D

from markov_cot.algorithms.losses import entropy, full_kl
from markov_cot.config.schema import Lora, Model
from markov_cot.data.prompts import AnswerContext
from markov_cot.models.batching import Batch, pad_left
from markov_cot.models.loading import (
    add_adapter,
    base_from_config,
    fingerprint,
    load_base,
    load_tokenizer,
)
from markov_cot.models.logprobs import score_answers
from markov_cot.models.policy import Policy
from markov_cot.rollouts.sampling import ANSWER_TOKENS, decode, greedy_answers, sample_cots, uniforms
from markov_cot.utils.errors import UserError
from tests.families import CONTEXTS, FAMILIES, LENGTH
from tests.helpers import last_logits, score
from tests.known_warnings import no_warning_but

CPU = torch.device("cpu")


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest, sizes: dict[str, Any]) -> Any:
    return FAMILIES[request.param](sizes)


@pytest.fixture(scope="module")
def policy(family: Any, make_policy: Callable[..., Policy]) -> Policy:
    return make_policy(family, temperature=0.7)


@pytest.fixture(scope="module")
def llama(make_policy: Callable[..., Policy]) -> Policy:
    return make_policy()


@pytest.fixture
def saved(make_policy: Callable[..., Policy], tokenizer: Any, tmp_path: Path) -> Path:
    make_policy(adapter="fresh").model.get_base_model().config.save_pretrained(tmp_path)
    base = transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.from_pretrained(tmp_path))
    base.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    return tmp_path


def b_matrices(policy: Policy) -> dict[str, torch.nn.Parameter]:
    return {name: p for name, p in policy.trainable().items() if "lora_B" in name}


# --- every family


def test_the_adapter_is_on_every_linear_layer_but_the_head(policy: Policy) -> None:
    base = policy.model.get_base_model()
    head = base.get_output_embeddings()
    linear = [m for m in base.modules() if isinstance(m, torch.nn.Linear | Conv1D) and m is not head]
    plain = [m for m in linear if not {m.weight.shape[0], m.weight.shape[1]} & {8}]  # less the adapter's own, of rank 8
    assert len(b_matrices(policy)) == len(plain) > 0
    assert all(p.dtype == torch.float32 and "lora_" in name for name, p in policy.trainable().items())


def test_a_fresh_adapter_is_the_critic_exactly(family: Any, make_policy: Callable[..., Policy]) -> None:
    policy = make_policy(family, adapter="fresh")
    batch = pad_left(CONTEXTS, policy.pad_id, CPU)
    with torch.no_grad():
        with policy.acting_as("actor"):
            actor = last_logits(policy, batch, 3)
        with policy.acting_as("critic"):
            critic = last_logits(policy, batch, 3)
    assert torch.equal(actor, critic)


def test_actor_and_critic_differ_once_trained(policy: Policy) -> None:
    batch = pad_left(CONTEXTS, policy.pad_id, CPU)
    with torch.no_grad():
        with policy.acting_as("actor"):
            before = last_logits(policy, batch, 1)
        with policy.acting_as("critic"):
            critic = last_logits(policy, batch, 1)
        with policy.acting_as("actor"):
            after = last_logits(policy, batch, 1)
    assert (before - critic).abs().max() > 1e-3
    assert torch.equal(before, after)


def test_every_ratio_is_one_at_the_first_update(policy: Policy) -> None:
    rollouts = sample_cots(policy, CONTEXTS, uniforms(0, 0, 6, LENGTH))
    contexts = [CONTEXTS[i // 2] for i in range(6)]
    scores = score(policy, contexts, rollouts.cot_BL)
    ratio_BL = (scores.logp_BL - rollouts.behaviour_logp_BL).exp()
    torch.testing.assert_close(ratio_BL, torch.ones(6, LENGTH), rtol=0, atol=1e-5)


def test_padding_changes_no_log_probability(policy: Policy) -> None:
    cot_BL = sample_cots(policy, CONTEXTS, uniforms(0, 0, 3, LENGTH)).cot_BL
    answers = [AnswerContext((*c, 60), tuple(range(70, 72 + i))) for i, c in enumerate(CONTEXTS)]
    with torch.no_grad():
        together = score(policy, CONTEXTS, cot_BL)
        rewards = score_answers(policy, answers, "actor", "mean")
        for i in range(3):
            alone = score(policy, CONTEXTS[i : i + 1], cot_BL[i : i + 1])
            torch.testing.assert_close(alone.logp_BL[0], together.logp_BL[i], rtol=0, atol=1e-5)
            torch.testing.assert_close(alone.reference_logp_BL[0], together.reference_logp_BL[i], rtol=0, atol=1e-5)
            torch.testing.assert_close(alone.kl_BL[0], together.kl_BL[i], rtol=0, atol=1e-5)
            reward = score_answers(policy, answers[i : i + 1], "actor", "mean")
            torch.testing.assert_close(reward[0], rewards[i], rtol=0, atol=1e-5)


@torch.no_grad()
def test_decoding_with_a_cache_agrees_with_full_forwards(policy: Policy) -> None:
    logits: list[Tensor] = []

    def pick(hidden_Bd: Tensor, position: int) -> Tensor:
        logits.append(policy.logits(hidden_Bd))
        return logits[-1].argmax(-1)

    tokens_BL = decode(policy, CONTEXTS, LENGTH, pick)
    for i, context in enumerate(CONTEXTS):
        ids = torch.tensor([[*context, *tokens_BL[i].tolist()]])
        full = policy.model(input_ids=ids, use_cache=False).logits[0, len(context) - 1 : -1]
        torch.testing.assert_close(torch.stack(logits)[:, i], full, rtol=1e-5, atol=1e-4)


def test_the_gradient_reaches_every_adapter(family: Any, make_policy: Callable[..., Policy]) -> None:
    policy = make_policy(family, adapter="fresh")
    cot_BL = torch.arange(40, 40 + LENGTH).expand(3, -1)
    score(policy, CONTEXTS, cot_BL).logp_BL.mean().backward()
    gradients = {name: p.grad for name, p in b_matrices(policy).items()}
    assert all(g is not None and g.isfinite().all() and g.any() for g in gradients.values())
    frozen = [p for p in policy.model.parameters() if not p.requires_grad]
    assert frozen and all(p.grad is None for p in frozen)


@torch.no_grad()
def test_greedy_answers_are_those_of_full_forwards(policy: Policy) -> None:
    for context, answer in zip(CONTEXTS, greedy_answers(policy, CONTEXTS, "actor"), strict=True):
        ids = list(context)
        while len(ids) < len(context) + ANSWER_TOKENS["numeric"] and not policy.ends_answer_V[ids[-1]]:
            ids.append(int(policy.model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
        assert answer == policy.tokenizer.decode(ids[len(context) :]).split("\n")[0].split("</s>")[0].strip()


def test_nothing_warns(family: Any, make_policy: Callable[..., Policy]) -> None:
    with no_warning_but():
        policy = make_policy(family)
        cot_BL = sample_cots(policy, CONTEXTS, uniforms(0, 0, 3, 2)).cot_BL
        score(policy, CONTEXTS, cot_BL).logp_BL.mean().backward()
        greedy_answers(policy, CONTEXTS, "actor")


# --- tokenizers with and without a pad token, and ids that must not be drawn


@pytest.fixture(params=["none", "without an embedding"])
def padless(request: pytest.FixtureRequest, tokenizer: Any) -> Any:
    """A tokenizer without a pad token, or with one that was added to it and not to the model."""
    changed = copy.deepcopy(tokenizer)
    changed.pad_token = None
    if request.param != "none":
        changed.add_special_tokens({"pad_token": "[PAD]"})
        assert changed.pad_token_id == len(tokenizer)
    return changed


def test_without_a_pad_token_nothing_changes(
    policy: Policy, family: Any, make_policy: Callable[..., Policy], padless: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = copy.deepcopy(family)
    config.pad_token_id = None
    without = make_policy(config, tokenizer=padless, temperature=policy.temperature)
    assert without.pad_id == 0
    monkeypatch.setattr(policy, "pad_id", 77)
    cot_BL = torch.full((3, LENGTH), 45)
    with torch.no_grad():
        found, expected = (score(each, CONTEXTS, cot_BL).logp_BL for each in (without, policy))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert greedy_answers(without, CONTEXTS, "actor") == greedy_answers(policy, CONTEXTS, "actor")


def test_banned_are_specials_every_eos_and_ids_beyond_the_tokenizer(
    make_policy: Callable[..., Policy], tokenizer: Any, sizes: dict[str, Any]
) -> None:
    policy = make_policy(transformers.LlamaConfig(**sizes | {"vocab_size": len(tokenizer) + 5}))
    policy.model.generation_config.eos_token_id = [2, 300]
    beyond = set(range(len(tokenizer), len(tokenizer) + 5))
    assert set(policy.banned_V.nonzero().flatten().tolist()) == {0, 1, 2, 300} | beyond
    assert set(policy.eos_ids) == {2, 300}
    cots = sample_cots(policy, CONTEXTS, uniforms(0, 0, 30, 20)).cot_BL
    assert not policy.banned_V[cots].any()


def test_every_token_with_a_newline_and_eos_ends_an_answer(llama: Policy) -> None:
    texts = [llama.tokenizer.decode([i]) for i in range(llama.vocabulary)]
    expected = {i for i, text in enumerate(texts) if "\n" in text} | {llama.tokenizer.eos_token_id}
    assert set(llama.ends_answer_V.nonzero().flatten().tolist()) == expected


# --- the distributions


@pytest.fixture
def bare(llama: Policy, monkeypatch: pytest.MonkeyPatch) -> Policy:
    """Takes hidden states for logits, so that distributions can be made by hand."""

    def at_least_float32(hidden: Tensor) -> Tensor:
        return hidden.to(torch.promote_types(hidden.dtype, torch.float32), copy=True)

    monkeypatch.setattr(llama, "logits", at_least_float32)
    return llama


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_banned_tokens_have_no_probability_and_make_no_nan(bare: Policy, dtype: torch.dtype) -> None:
    raw = (10 * torch.randn(2, 3, bare.vocabulary, generator=torch.Generator().manual_seed(0))).to(dtype)
    raw.requires_grad_()
    logp = bare.cot_logp(raw)
    assert logp.dtype == torch.float32 and logp.isfinite().all()
    assert not logp.exp()[..., bare.banned_V].any()
    torch.testing.assert_close(logp.exp().sum(-1), torch.ones(2, 3))
    reference = bare.cot_logp(torch.zeros_like(raw)).detach()
    value = full_kl(logp, reference).sum() + entropy(logp).sum() + logp[..., ~bare.banned_V].sum()
    value.backward()
    assert value.isfinite() and raw.grad is not None and raw.grad.isfinite().all()
    assert not raw.grad[..., bare.banned_V].any()


def test_temperature_by_hand(bare: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bare, "temperature", 0.5)
    logits = torch.full((bare.vocabulary,), -1e4, dtype=torch.float64)
    logits[40], logits[41] = 1.0, 0.0
    # exp(1 / 0.5) / (exp(2) + 1) when tempered, e / (e + 1) in answers
    assert bare.cot_logp(logits)[40].exp().item() == pytest.approx(0.8807970779778823)
    assert bare.answer_logp(logits)[40].exp().item() == pytest.approx(0.7310585786300049)


def test_answers_may_use_any_token(bare: Policy) -> None:
    assert bare.answer_logp(torch.zeros(512)).tolist() == pytest.approx([-math.log(512)] * 512)


# --- batches and adapters


def test_pad_left_by_hand() -> None:
    batch = pad_left([[5, 6, 7], [8]], 0, CPU)
    assert batch.ids_BT.tolist() == [[5, 6, 7], [0, 0, 8]]
    assert batch.mask_BT.tolist() == [[1, 1, 1], [0, 0, 1]]
    assert batch.positions_BT.tolist() == [[0, 1, 2], [0, 0, 0]]
    assert isinstance(batch, Batch)


def test_an_adapter_depends_on_its_seed_alone(sizes: dict[str, Any]) -> None:
    def adapter(seed: int) -> Tensor:
        base = base_from_config(transformers.LlamaConfig(**sizes))
        state = torch.random.get_rng_state()
        model = add_adapter(base, Lora(), seed)
        assert torch.equal(torch.random.get_rng_state(), state)
        return torch.cat([p.flatten() for p in model.parameters() if p.requires_grad])

    assert torch.equal(adapter(1), adapter(1))
    assert not torch.equal(adapter(1), adapter(2))


def test_a_float64_base_has_a_float64_adapter(make_policy: Callable[..., Policy]) -> None:
    policy = make_policy(dtype=torch.float64)
    assert {p.dtype for p in policy.trainable().values()} == {torch.float64}


def test_a_bfloat16_base_has_a_float32_adapter_and_trains(make_policy: Callable[..., Policy]) -> None:
    policy = make_policy(dtype=torch.bfloat16)
    assert {p.dtype for p in policy.trainable().values()} == {torch.float32}
    scores = score(policy, CONTEXTS, torch.full((3, 2), 40))
    assert scores.logp_BL.dtype == torch.float32
    scores.logp_BL.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in b_matrices(policy).values())


def test_target_modules_that_do_not_exist_are_the_users_error(make_policy: Callable[..., Policy]) -> None:
    with pytest.raises(UserError, match=r"lora\.target_modules"):
        make_policy(lora=Lora(target_modules=("no_such_layer",)))
    assert len(b_matrices(make_policy(lora=Lora(target_modules=("q_proj",))))) == 2


def test_fingerprints(make_policy: Callable[..., Policy], saved: Path) -> None:
    base = load_base(Model(name=str(saved)), CPU)
    plain = fingerprint(base)
    assert fingerprint(load_base(Model(name=str(saved), dtype="bfloat16"), CPU)) == plain
    model = add_adapter(base, Lora(), 0)
    assert fingerprint(model) == plain
    next(iter(base.get_input_embeddings().parameters())).data += 1
    assert fingerprint(model) != plain


# --- loading


def test_loading(saved: Path) -> None:
    base = load_base(Model(name=str(saved)), CPU)
    assert base.dtype == torch.float32 and not any(p.requires_grad for p in base.parameters())
    assert load_tokenizer(Model(name=str(saved))).is_fast


@pytest.mark.parametrize(
    ("missing", "message"), [("config.json", "no config.json in it"), ("model.safetensors", "no weights")]
)
def test_incomplete_folders(saved: Path, missing: str, message: str) -> None:
    (saved / missing).unlink()
    with pytest.raises(UserError, match=message) as error:
        load_base(Model(name=str(saved)), CPU)
    assert "\n" not in str(error.value)


def test_broken_weights(saved: Path) -> None:
    (saved / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(UserError, match="cannot be loaded") as error:
        load_base(Model(name=str(saved)), CPU)
    assert "\n" not in str(error.value)


def test_four_bits_need_a_gpu(saved: Path) -> None:
    with pytest.raises(UserError, match=r"model\.four_bit"):
        load_base(Model(name=str(saved), four_bit=True), CPU)


@pytest.mark.parametrize("name", ["llama", "gpt2", "phi3"])
def test_gradient_checkpointing_recomputes_and_changes_nothing(
    name: str, tokenizer: Any, sizes: dict[str, Any], tmp_path: Path
) -> None:
    config = FAMILIES[name](sizes)
    with torch.random.fork_rng():
        torch.manual_seed(0)  # weights that do not depend on which tests came before
        transformers.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    gradients, recomputed = [], []
    for checkpointing in (False, True):
        base = load_base(Model(name=str(tmp_path), gradient_checkpointing=checkpointing), CPU)
        policy = Policy(add_adapter(base, Lora(), 0), tokenizer)
        calls: list[int] = []
        norm = next(m for n, m in base.named_modules() if "layernorm" in n or "ln_1" in n)
        norm.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        cot_BL = sample_cots(policy, CONTEXTS, uniforms(0, 0, 3, 4)).cot_BL
        with policy.folded():  # what is computed again must be computed with the same weights
            loss = score(policy, CONTEXTS, cot_BL).logp_BL.sum()
            calls.clear()
            loss.backward()
        recomputed.append(len(calls))
        gradients.append(torch.cat([p.grad.flatten() for p in b_matrices(policy).values() if p.grad is not None]))
        assert not policy.model.training
    assert recomputed == [0, 1]
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-5, atol=1e-6)
