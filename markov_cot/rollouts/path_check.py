"""Whether all that a run is about to compute is what transformers and PEFT compute, tried on the run's own contexts.

The reference is as plain as can be: one sequence at a time, whole, without padding, cache or mask, through the modules
as their authors wrote them. It is compared with what sampling, scoring and updates do, on left-padded prompts of the
run's longest and shortest problems, each with a CoT of full length, so that windows and positions that depend on the
length are seen. The adapter gets random values for it, since a fresh one changes nothing.

What differs by more than rounding is not used. How much is rounding, the model says itself: the reference is computed
once more with its embeddings rounded differently.

Shapes: B sequences, L CoT tokens, N <= L of them that are compared, V vocabulary. Units: nats.
"""

from __future__ import annotations

import contextlib
import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from markov_cot.algorithms.types import Rollouts
from markov_cot.data.problem import Problem
from markov_cot.data.prompts import AnswerContext, Prompts
from markov_cot.data.templates import question_text
from markov_cot.models.agreement import ROUNDINGS, fault_of, rounded_embeddings
from markov_cot.models.compat import accepted_arguments
from markov_cot.models.logprobs import answer_hidden, cot_hidden, cot_logp
from markov_cot.models.memory import ran_out_of_memory
from markov_cot.models.paths import EVEN_CACHE, FUSED, OWN_CACHE, PADDED, SHARED_CACHE, STATIC, WAYS
from markov_cot.models.policy import Policy
from markov_cot.models.roles import ACTOR, CRITIC, REFERENCE, WRITERS, Role
from markov_cot.rollouts.decode import hidden_of, release, settle_decoder
from markov_cot.rollouts.sampler import Engine
from markov_cot.rollouts.sampling import ANSWER_TOKENS
from markov_cot.utils.errors import UserError

COMPARED = 16
"""Most tokens of a CoT whose distributions are compared; the first, the last, and some between."""
CANDIDATES = 16
"""Problems whose texts are longest, or shortest, of which tokens are counted."""
GENERATED = 1000
"""Generated problems that are looked at."""
ADAPTER_SCALE = 0.02
UNSTABLE = 0.01
"""Nats by which rounding in float32 changes no log-prob: something else changes from one forward to the next."""
LEAST_LOGP, LEAST_GRADIENT = 2e-6, 1e-4
"""Differences, nats and relative, that are rounding in any case."""
WITH_CACHE = (FUSED, STATIC, SHARED_CACHE, OWN_CACHE, EVEN_CACHE)


@dataclass(frozen=True, slots=True)
class Trial:
    """What a run's sequences are like."""

    contexts: list[list[int]]
    """Prompts of the shortest problem, twice, and of the longest."""
    length: int
    """L."""
    fewest: int
    """Tokens of the shortest forward..."""
    most: int
    """...and of the longest."""
    trains: bool
    """Whether there are updates."""


def trial_of(
    prompts: Prompts,
    sources: Sequence[Sequence[Problem]],
    length: int,
    fits: Callable[[Problem], bool],
    *,
    trains: bool,
) -> Trial | None:
    """Return the trial for a run over some problems; None if none of them fits into the model's context."""
    problems = [problem for source in sources for problem in _some(source)]
    by_text = [(len(question_text(p)), i) for i, p in enumerate(problems)]
    candidates = [*heapq.nsmallest(CANDIDATES, by_text), *heapq.nlargest(CANDIDATES, by_text)]
    fitting = [problem for problem in (problems[i] for _, i in candidates) if fits(problem)]
    if not fitting:
        return None
    contexts = sorted(map(prompts.question_context, fitting), key=len)
    answers = [prompts.answer_context(problem, [0] * length) for problem in fitting]
    ends = [
        len(answer.ids) + max(len(answer.answer_ids), ANSWER_TOKENS[problem.kind])
        for problem, answer in zip(fitting, answers, strict=True)
    ]
    return Trial(
        contexts=[contexts[0], contexts[0], contexts[-1]],
        length=length,
        fewest=min(len(contexts[0]), *(answer.prompt_length for answer in answers)),
        most=max(len(contexts[-1]) + length, *ends),
        trains=trains,
    )


def _some(problems: Sequence[Problem]) -> Sequence[Problem]:
    """All of a list; as many as suffice of those that are made when asked for."""
    return problems if isinstance(problems, list) else problems[:: -(-len(problems) // GENERATED) or 1]


def check_paths(policy: Policy, trial: Trial) -> None:
    """Rules out the policy's paths that compute something else than the reference.

    Raises `UserError` where none of them computes it. Leaves parameters and random numbers as they were.
    """
    if policy.paths.checked:
        return
    try:
        with random_adapter(policy):
            _Check(policy, trial).run()
    except (RuntimeError, MemoryError) as error:
        if not ran_out_of_memory(error):
            raise
        raise UserError(
            f"out of memory in a forward of one sequence of {trial.most} tokens; use a shorter rollout.length or a "
            "smaller model"
        ) from None
    finally:
        release(policy)
    policy.paths.checked = True


def check_engine(engine: Engine, policy: Policy, trial: Trial) -> None:
    """Raises `UserError` where an engine does not draw from what the actor, with the adapter it was handed, computes.

    Its rounding is its own, so that its log-probs are only asked to be nearer to the actor's than to the critic's.
    """
    uniform_PGL = np.random.default_rng(0).random((len(trial.contexts), 1, trial.length))
    with random_adapter(policy):
        written = engine.write(policy, trial.contexts, uniform_PGL)
        gap = {role: _gap(policy, written, role) for role in WRITERS}
    if not gap[ACTOR] < gap[CRITIC]:
        raise UserError(
            f"rollout.decoder: its log-probs differ from the actor's by {gap[ACTOR]:.2g} nats a token, from the base's "
            f"by {gap[CRITIC]:.2g}: it leaves out the adapter, or has another base; set rollout.decoder=auto"
        )


@torch.no_grad()
def _gap(policy: Policy, written: Rollouts, role: Role) -> float:
    """Mean absolute difference (nats) between the log-probs that CoTs were drawn with and those of a role."""
    hidden_BLd = cot_hidden(policy, written.contexts, written.cot_BL, role)
    logp_BL = cot_logp(policy, hidden_BLd, written.cot_BL, role)
    return (logp_BL - written.behaviour_logp_BL).abs().mean().item()


@dataclass(frozen=True, slots=True)
class _Computed:
    """What is compared: log-probs [B, N, V] by role, and the gradient of some of the actor's."""

    logp: dict[Role, Tensor]
    gradient: Tensor | None


class _Check:
    def __init__(self, policy: Policy, trial: Trial) -> None:
        self._policy, self._trial = policy, trial
        generator = torch.Generator().manual_seed(0)
        allowed = (~policy.banned_V).nonzero().flatten().cpu()
        shape = (len(trial.contexts), trial.length)
        cot_BL = allowed[torch.randint(len(allowed), shape, generator=generator)]
        self._cot_BL = cot_BL.to(policy.device)
        self._rows = [[*c, *cot] for c, cot in zip(trial.contexts, cot_BL.tolist(), strict=True)]
        self._compared = torch.linspace(0, trial.length - 1, min(COMPARED, trial.length)).long()
        self._parameters = list(policy.trainable().values())

    def run(self) -> None:
        reference = self._reference()
        with rounded_embeddings(self._policy.embeddings):
            rounded = self._reference(with_gradient=reference.gradient is not None)
        dtype = self._policy.embeddings.weight.dtype
        roundings, noise = ROUNDINGS[dtype], _distance(rounded.logp[ACTOR], reference.logp[ACTOR])
        self._logp_limit = max(LEAST_LOGP, roundings * noise)
        self._gradient_limit = LEAST_GRADIENT
        if reference.gradient is not None and rounded.gradient is not None:
            noise_of_gradient = _relative(rounded.gradient, reference.gradient)
            self._gradient_limit = max(LEAST_GRADIENT, roundings * noise_of_gradient)
        if not all(logp.isfinite().all() for logp in reference.logp.values()):
            raise UserError(
                f"model {self._policy.model_name}: gives log-probabilities that are not numbers, for {self._trial.most}"
                " tokens of this data; use another model, or another model.dtype"
            )
        if noise > UNSTABLE and torch.finfo(dtype).eps <= torch.finfo(torch.float32).eps:
            raise UserError(
                f"model {self._policy.model_name}: its log-probabilities change by {noise:.2g} nats from one forward "
                "to the next; take what is random out of it, or use another model"
            )
        if self._depends_on_length():
            self._policy.rule_out(
                PADDED, *WITH_CACHE, reason=f"what {self._policy.name} makes of a token depends on how many follow"
            )
        self._settle_reading(reference)
        self._settle_decoding(reference)

    # --- the reference

    def _reference(self, *, with_gradient: bool = True) -> _Computed:
        wants_gradient = with_gradient and self._trial.trains and bool(self._parameters)
        actor, gradient = self._plain(ACTOR, wants_gradient)
        frozen = {role: self._plain(role, False)[0] for role in self._policy.adapter.frozen_roles}
        return _Computed({ACTOR: actor, **frozen}, gradient)

    def _plain(self, role: Role, with_gradient: bool) -> tuple[Tensor, Tensor | None]:
        parts: list[Tensor] = []
        gradient: Tensor | None = None
        for row, cot_L in zip(self._rows, self._cot_BL, strict=True):
            with self._policy.by_plain_modules(role) as base, torch.set_grad_enabled(with_gradient):
                # As they are computed later: an answer's last token, unlike a CoT's, is not read.
                whole, unread = (row[:-1], 0) if role == CRITIC else (row, 1)
                logits_LV = _logits(base, whole, self._trial.length + unread, self._policy.device)[0]
                logp_NV = self._log_softmax(logits_LV[: self._trial.length])
                if with_gradient:
                    own = self._gradient_of(logp_NV[None], cot_L[None])
                    gradient = own if gradient is None else gradient + own
            parts.append(logp_NV.detach())
        return torch.stack(parts), gradient

    def _log_softmax(self, logits_LV: Tensor) -> Tensor:
        wide = torch.promote_types(logits_LV.dtype, torch.float32)
        return logits_LV[self._compared].to(wide).log_softmax(-1)

    def _gradient_of(self, logp_BNV: Tensor, cot_BL: Tensor) -> Tensor:
        """Of the mean log-prob of the compared tokens, [number of parameters]."""
        token_BN = cot_BL[:, self._compared]
        value = logp_BNV.gather(-1, token_BN[..., None]).sum() / self._cot_BL[:, self._compared].numel()
        gradients = torch.autograd.grad(value, self._parameters, allow_unused=True)
        pairs = zip(self._parameters, gradients, strict=True)
        return torch.cat([torch.zeros_like(p).flatten() if g is None else g.flatten() for p, g in pairs])

    @torch.no_grad()
    def _depends_on_length(self) -> bool:
        """Whether a token's distribution is another one once the run's longest sequence has been written after it."""
        device = self._policy.device
        longest = self._rows[-1] + self._rows[-1][: max(0, self._trial.most - len(self._rows[-1]))]
        with self._policy.by_plain_modules(CRITIC) as base:
            alone = _logits(base, longest[: self._trial.fewest], 1, device)
            among = _logits(base, longest, len(longest) - self._trial.fewest + 1, device)[:, :1]
        return _distance(alone.float().log_softmax(-1), among.float().log_softmax(-1)) > self._logp_limit

    # --- what the run computes

    def _settle_reading(self, reference: _Computed) -> None:
        """Finds the ways of reading that are to blame for a difference, adding one after the other to the plain one."""
        policy = self._policy
        if not (fault := fault_of(lambda: self._reads_rightly(reference))):
            return
        tentative = [way for way in WAYS if policy.paths.allow(way)]
        with policy.without(tentative):
            if fault_of_plain := fault_of(lambda: self._reads_rightly(reference)):
                raise UserError(
                    f"model {policy.model_name}: {policy.name} {fault_of_plain} in a batch than alone; use a model of "
                    "another family"
                )
        while tentative:
            way = tentative.pop(0)
            with policy.without(tentative):
                fault = fault_of(lambda: self._reads_rightly(reference))
            if fault:
                policy.rule_out(way, reason=f"{policy.name} {fault}")

    def _reads_rightly(self, reference: _Computed) -> bool:
        found = self._read(with_gradient=reference.gradient is not None)
        right = all(_distance(logp, reference.logp[role]) <= self._logp_limit for role, logp in found.logp.items())
        if found.gradient is None or reference.gradient is None:
            return right
        return right and _relative(found.gradient, reference.gradient) <= self._gradient_limit

    def _read(self, *, with_gradient: bool) -> _Computed:
        """As updates read the actor's CoTs, rewards what the critic answers from, and the KL the reference's CoTs."""
        policy, trial = self._policy, self._trial
        with policy.folded(), torch.set_grad_enabled(with_gradient):
            actor_BNV = self._logp(ACTOR, cot_hidden(policy, trial.contexts, self._cot_BL, ACTOR))
            gradient = self._gradient_of(actor_BNV, self._cot_BL) if with_gradient else None
        answers = [
            # Cut at different places, so that what follows the prompts is padded.
            AnswerContext(tuple(context), tuple(cot), max(0, len(context) - 1 - i))
            for i, (context, cot) in enumerate(zip(trial.contexts, self._cot_BL.tolist(), strict=True))
        ]
        logp: dict[Role, Tensor] = {ACTOR: actor_BNV.detach()}
        with torch.no_grad():
            for role in policy.adapter.frozen_roles:
                hidden_BLd = (
                    cot_hidden(policy, trial.contexts, self._cot_BL, role)
                    if role == REFERENCE
                    else answer_hidden(policy, answers, role)
                )
                logp[role] = self._logp(role, hidden_BLd)
        return _Computed(logp, gradient)

    def _logp(self, role: Role, hidden_BLd: Tensor) -> Tensor:
        with self._policy.acting_as(role):
            return self._policy.answer_logp(hidden_BLd[:, self._compared])

    @torch.no_grad()
    def _settle_decoding(self, reference: _Computed) -> None:
        def right(decoder: str) -> bool:
            for role in WRITERS:
                with self._policy.acting_as(role):
                    states_BLd = hidden_of(decoder, self._policy, self._trial.contexts, self._cot_BL)
                    logp_BNV = self._policy.answer_logp(states_BLd[:, self._compared])
                if _distance(logp_BNV, reference.logp[role]) > self._logp_limit:
                    return False
            return True

        settle_decoder(self._policy, len(self._rows[-1]), right)


def _logits(base: Any, row: Sequence[int], last: int, device: torch.device) -> Tensor:
    """Logits [1, last, V] of a row's last tokens, by transformers' own model."""
    # Without a cache, which RWKV writes to in place, behind the gradient.
    options = {"logits_to_keep": last, "use_cache": False}
    known = {key: value for key, value in options.items() if key in accepted_arguments(base)}
    logits: Tensor = base(input_ids=torch.tensor([row], device=device), **known).logits
    return logits[:, -last:]


def _distance(a_BNV: Tensor, b_BNV: Tensor) -> float:
    """Largest difference of distributions, each the root of the mean square over the vocabulary; NaN counts as huge."""
    difference = (a_BNV - b_BNV).square().mean(-1).sqrt().max()
    return torch.nan_to_num(difference, nan=torch.inf).item()


def _relative(a: Tensor, b: Tensor) -> float:
    return torch.nan_to_num((a - b).norm() / b.norm(), nan=torch.inf).item()


@contextlib.contextmanager
def random_adapter(policy: Policy) -> Iterator[None]:
    """Within it, the adapter's B is random. A fresh one is zero, and would hide what is done with it."""
    generator = torch.Generator().manual_seed(1)
    kept = {p: p.data for name, p in policy.trainable().items() if "lora_B" in name or "lora_embedding_B" in name}
    for parameter, values in kept.items():
        random = ADAPTER_SCALE * torch.randn(values.shape, generator=generator)
        parameter.data = random.to(values)
    try:
        yield
    finally:
        for parameter, values in kept.items():
            parameter.data = values
