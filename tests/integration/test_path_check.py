"""The check before the first step: what it rules out, what it refuses, and what it leaves as it was."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn
from transformers.models.llama.modeling_llama import LlamaModel

from markov_cot.data.problem import Problem
from markov_cot.data.prompts import Prompts
from markov_cot.data.synthetic import Generated, arithmetic
from markov_cot.evaluation.records import Item
from markov_cot.evaluation.runner import GenerationConfig, Runner
from markov_cot.models import plain_layers
from markov_cot.models.joined_linear import JoinedLinear
from markov_cot.models.lora import AdaptedLinear
from markov_cot.models.memory import FixedBudget
from markov_cot.models.paths import ADAPTED, BY_HAND, CHECKPOINTED, FOLDED, FUSED, PADDED, SHARED, SHARED_CACHE, WHOLE
from markov_cot.models.policy import Policy
from markov_cot.rewards.reader_models import make_readers
from markov_cot.rollouts import decode as decoding
from markov_cot.rollouts import fused_cpu as fused_decoding
from markov_cot.rollouts import path_check
from markov_cot.rollouts.decode import decoder_in_use
from markov_cot.rollouts.path_check import Trial, check_paths, trial_of
from markov_cot.rollouts.sampling import sample_cots, uniforms
from markov_cot.utils.errors import UserError
from tests.helpers import score
from tests.small_runs import config_of, script, start

families = script("families")
LENGTH = 8
CONTEXTS = [[1, 40, 41], [1, *range(60, 80)]]
TRIAL = Trial([CONTEXTS[0], *CONTEXTS], LENGTH, 3, 21 + LENGTH, trains=True)


def expected(policy: Policy, contexts: list[list[int]], cot_BL: Tensor) -> Tensor:
    """Log-prob [B, L] of each token, each sequence for itself, through transformers' and PEFT's own modules."""
    rows = []
    for context, cot in zip(contexts, cot_BL, strict=True):
        with policy.by_plain_modules() as base, torch.no_grad():
            logits = base(input_ids=torch.tensor([[*context, *cot.tolist()]])).logits[0, len(context) - 1 : -1]
        banned = logits.masked_fill(policy.banned_V, torch.finfo(logits.dtype).min)
        rows.append(banned.log_softmax(-1).gather(1, cot[:, None]).squeeze(1))
    return torch.stack(rows)


def assert_right(policy: Policy) -> None:
    """What is sampled and scored is what the plain modules compute."""
    rollouts = sample_cots(policy, CONTEXTS, uniforms(0, 0, 2, LENGTH))
    wanted = expected(policy, CONTEXTS, rollouts.cot_BL)
    torch.testing.assert_close(rollouts.behaviour_logp_BL, wanted, rtol=0, atol=2e-5)
    with torch.no_grad():
        torch.testing.assert_close(score(policy, CONTEXTS, rollouts.cot_BL).logp_BL, wanted, rtol=0, atol=2e-5)


# --- what is wrong, and only that, is ruled out


def test_a_llama_keeps_all_its_paths(make_policy: Callable[..., Policy], caplog: pytest.LogCaptureFixture) -> None:
    policy = make_policy()
    check_paths(policy, TRIAL)
    assert not policy.paths.ruled_out and not caplog.messages
    with torch.no_grad(), policy.acting_as("actor"):
        assert decoder_in_use(policy, 30) == FUSED
    assert_right(policy)


def folded_wrongly(monkeypatch: pytest.MonkeyPatch) -> None:
    fold = JoinedLinear.fold

    def wrong(self: JoinedLinear) -> None:
        fold(self)
        for layer in self.layers:
            assert isinstance(layer, AdaptedLinear) and layer.folded is not None
            layer.folded.mul_(1.01)

    monkeypatch.setattr(JoinedLinear, "fold", wrong)


def added_wrongly(monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = AdaptedLinear.adapter
    monkeypatch.setattr(AdaptedLinear, "adapter", lambda self: (*adapter(self)[:2], 1.1 * adapter(self)[2]))


def padded_wrongly(monkeypatch: pytest.MonkeyPatch) -> None:
    forward = LlamaModel.forward

    def wrong(self: Any, input_ids: Tensor, attention_mask: Any = None, **kwargs: Any) -> Any:
        everything = None if attention_mask is None else torch.ones_like(attention_mask)
        return forward(self, input_ids=input_ids, attention_mask=everything, **kwargs)

    wrong.__signature__ = inspect.signature(forward)  # type: ignore[attr-defined]
    monkeypatch.setattr(LlamaModel, "forward", wrong)


def shared_wrongly(monkeypatch: pytest.MonkeyPatch) -> None:
    extend = Policy.extend
    monkeypatch.setattr(Policy, "extend", lambda *args: 1.01 * extend(*args))


def fused_wrongly(monkeypatch: pytest.MonkeyPatch) -> None:
    # Right for a few tokens, as where a window or a bound is longer than those.
    attend = fused_decoding.SharedPrompts.attend

    def wrong(self: Any, *args: Any) -> Tensor:
        return attend(self, *args) * (1.01 if self._length > 5 else 1)

    monkeypatch.setattr(fused_decoding.SharedPrompts, "attend", wrong)


def by_hand_wrongly(monkeypatch: pytest.MonkeyPatch) -> None:
    # In the backward alone, which the trials on a few tokens do not see.
    gradients = plain_layers.attend_gradients

    def wrong(*args: Any) -> tuple[Tensor, ...]:
        of_query, *rest = gradients(*args)
        return 1.1 * of_query, *rest

    monkeypatch.setattr(plain_layers, "attend_gradients", wrong)


@pytest.mark.parametrize(
    ("break_it", "guilty"),
    [
        (folded_wrongly, {FOLDED}),
        (added_wrongly, {ADAPTED}),
        (padded_wrongly, {PADDED}),
        (shared_wrongly, {SHARED}),
        (fused_wrongly, {FUSED}),
        (by_hand_wrongly, {BY_HAND}),
    ],
    ids=["folded", "adapted", "padded", "shared", "fused", "by hand"],
)
def test_the_guilty_path_is_found(
    break_it: Callable[[pytest.MonkeyPatch], None],
    guilty: set[str],
    make_policy: Callable[..., Policy],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    break_it(monkeypatch)
    policy = make_policy()
    check_paths(policy, TRIAL)
    reading = {ADAPTED, FOLDED, PADDED, SHARED, BY_HAND, CHECKPOINTED, FUSED}
    assert policy.paths.ruled_out & reading == guilty
    # One line for each thing that a run does without; a wrong cache may come with wrong padding.
    assert sum("which is slower" in message for message in caplog.messages) <= 2
    assert caplog.messages and all("LlamaForCausalLM" in message for message in caplog.messages)
    assert_right(policy)


def test_positions_that_depend_on_the_length_are_seen_only_where_a_run_crosses_it(tokenizer: Any) -> None:
    config = families.FAMILIES["Phi-3, longrope"]
    for contexts, straddles in (([[1, 40], [1, 50, 51]], False), (CONTEXTS, True)):
        policy = families.policy_of(families.build(config()), tokenizer)
        length = 4 if not straddles else LENGTH
        ends = [len(context) for context in contexts]
        check_paths(policy, Trial(contexts, length, min(ends), max(ends) + length, trains=True))
        with torch.no_grad(), policy.acting_as("actor"):
            assert (decoder_in_use(policy, max(ends) + length) == WHOLE) == straddles
        assert policy.paths.allow(PADDED) != straddles


# --- what cannot be trusted is refused


def test_what_is_not_a_number_is_refused(make_policy: Callable[..., Policy]) -> None:
    policy = make_policy()
    # Only beyond the few tokens that are tried when a policy is made.
    decoder = policy.decoder
    handle = decoder.register_forward_hook(
        lambda _, __, out: (
            out.__setitem__("last_hidden_state", out["last_hidden_state"] * torch.nan)
            if out["last_hidden_state"].shape[1] > 12
            else None
        )
    )
    with pytest.raises(UserError, match=r"log-probabilities that are not numbers") as error:
        check_paths(policy, TRIAL)
    assert "\n" not in str(error.value)
    handle.remove()


def test_a_model_that_mixes_its_sequences_is_refused(make_policy: Callable[..., Policy]) -> None:
    policy = make_policy()
    # Of sequences of one length, each sees something of another.
    handle = policy.decoder.layers[0].register_forward_pre_hook(lambda _, args: (args[0] + 0.1 * args[0].flip(0),))
    with pytest.raises(UserError, match="LlamaForCausalLM computes something else in a batch") as error:
        check_paths(policy, TRIAL)
    assert "\n" not in str(error.value)
    handle.remove()


def test_a_model_that_is_random_is_refused(make_policy: Callable[..., Policy]) -> None:
    policy = make_policy()
    handle = policy.decoder.layers[0].register_forward_pre_hook(lambda _, args: (args[0] + torch.rand(()),))
    with pytest.raises(UserError, match="nats from one forward to the next") as error:
        check_paths(policy, TRIAL)
    assert "\n" not in str(error.value)
    handle.remove()


# --- what it leaves as it was


@pytest.mark.parametrize("adapter", ["fresh", "random"])
def test_parameters_and_random_numbers_are_left_as_they_were(make_policy: Callable[..., Policy], adapter: str) -> None:
    policy = make_policy(adapter=adapter)
    before = {name: (p.data_ptr(), p.clone()) for name, p in policy.model.named_parameters()}
    state = torch.random.get_rng_state()
    check_paths(policy, TRIAL)
    assert torch.equal(torch.random.get_rng_state(), state)
    for name, parameter in policy.model.named_parameters():
        pointer, values = before[name]
        assert parameter.data_ptr() == pointer and torch.equal(parameter, values) and parameter.grad is None
    assert not policy.embeddings._forward_hooks


def test_a_fresh_adapter_is_checked_as_if_it_were_trained(
    make_policy: Callable[..., Policy], monkeypatch: pytest.MonkeyPatch
) -> None:
    added_wrongly(monkeypatch)  # with B = 0, the scale does not matter
    policy = make_policy(adapter="fresh")
    check_paths(policy, TRIAL)
    assert policy.paths.ruled_out == {ADAPTED}


def test_in_bfloat16_rounding_is_no_fault(sizes: dict[str, Any], make_policy: Callable[..., Policy]) -> None:
    for config in (transformers.LlamaConfig(**sizes | {"num_hidden_layers": 6}), transformers.Phi3Config(**sizes)):
        policy = make_policy(config, dtype=torch.bfloat16)
        check_paths(policy, TRIAL)
        assert not policy.paths.ruled_out


def test_in_bfloat16_a_mistake_is_still_seen(
    make_policy: Callable[..., Policy], monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = make_policy(dtype=torch.bfloat16)
    extend = Policy.extend
    monkeypatch.setattr(Policy, "extend", lambda self, prefix, index_B, batch: extend(self, prefix, index_B * 0, batch))
    check_paths(policy, TRIAL)
    assert SHARED in policy.paths.ruled_out


# --- when it is done


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> list[Trial]:
    trials: list[Trial] = []
    check = path_check.check_paths

    def spy(policy: Policy, trial: Trial) -> None:
        if not policy.paths.checked:
            trials.append(trial)
        check(policy, trial)

    for module in ("training.trainer", "evaluation.runner"):
        monkeypatch.setattr(f"markov_cot.{module}.check_paths", spy)
    return trials


def test_a_run_checks_before_its_first_step_and_on_resume(tmp_path: Path, checked: list[Trial]) -> None:
    config = config_of(tmp_path, steps=2, checkpoint={"every": 1})
    made = start(config)
    made.run(lambda *_: None, lambda: made.state.progress.step == 1)
    assert len(checked) == 1 and checked[0].trains and checked[0].length == config.rollout.length
    again = start(config, resume=True)
    again.run(lambda *_: None)
    assert len(checked) == 2


def test_an_evaluation_checks_once(make_policy: Callable[..., Policy], checked: list[Trial]) -> None:
    policy = make_policy()
    prompts, config = Prompts(policy.tokenizer), config_of(Path("unused"))
    items = [Item(i, Problem("", f"What is 1+{i}?", str(1 + i), "numeric")) for i in range(3)]
    for _ in range(2):
        readers = make_readers(config.reward, policy, prompts, FixedBudget(1000))
        Runner(policy, readers, GenerationConfig(4, 2, 1.0)).records(items)
    assert len(checked) == 1 and not checked[0].trains


def test_a_trial_has_the_shortest_and_the_longest_that_fit(tokenizer: Any) -> None:
    prompts = Prompts(tokenizer)
    problems = [Problem("", "What is 1" + "+1" * n + "?", str(n + 1), "numeric") for n in (5, 1, 40, 20)]
    trial = trial_of(prompts, (problems,), 7, lambda p: p.answer != "41", trains=False)
    assert trial is not None
    shortest, longest = (prompts.question_context(problems[i]) for i in (1, 3))
    assert trial.contexts == [shortest, shortest, longest]
    redacted = prompts.answer_context(problems[0], [0] * 7)
    assert trial.fewest == min(redacted.prompt_length, len(shortest))
    assert trial.most >= len(longest) + 7
    assert trial_of(prompts, (problems,), 7, lambda _: False, trains=False) is None


def test_a_trial_does_not_make_all_generated_problems(tokenizer: Any) -> None:
    made: list[int] = []

    class Counting(Generated):
        def __getitem__(self, index: Any) -> Any:
            made.extend([index] if isinstance(index, int) else [])
            return super().__getitem__(index)

    trial = trial_of(Prompts(tokenizer), (Counting(arithmetic, "train", 10**9),), 7, lambda _: True, trains=False)
    assert trial is not None and len(made) <= 1.1 * path_check.GENERATED


def test_static_buffers_made_for_the_check_are_freed(
    make_policy: Callable[..., Policy], monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = make_policy()
    monkeypatch.setattr(policy, "decodes_statically", lambda _: policy.shares_prompts)
    monkeypatch.setattr(decoding, "decodes_fused", lambda _: False)
    check_paths(policy, TRIAL)
    assert not decoding.static_decoder(policy)._known


def test_the_embeddings_module_may_be_adapted_too(make_policy: Callable[..., Policy]) -> None:
    from markov_cot.config.schema import Lora

    policy = make_policy(lora=Lora(target_modules=["embed_tokens", "q_proj"]))
    check_paths(policy, TRIAL)
    assert isinstance(policy.embeddings, nn.Module)
    assert SHARED_CACHE not in policy.paths.ruled_out
    assert_right(policy)
