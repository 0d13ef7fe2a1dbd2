"""From a step's CoTs and advantages to new parameters: inner epochs, minibatches, micro-batches, optimizer.

Shapes: B sequences of the step, L CoT tokens. Units: nats.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from markov_cot.algorithms.losses import Counts, LossTerms, Weights, importance_weight, loss_terms, policy_loss_of
from markov_cot.algorithms.types import CotScores
from markov_cot.config.schema import Config
from markov_cot.distributed.process_group import ALONE, Processes
from markov_cot.distributed.sharding import Sharding
from markov_cot.models.logprobs import (
    answer_hidden,
    cot_hidden,
    cot_logp,
    cot_widths,
    score_answer_tokens,
    score_cots,
    slices_within,
)
from markov_cot.models.memory import UPDATE, TokenBudgets
from markov_cot.models.policy import Policy
from markov_cot.models.roles import ACTOR
from markov_cot.rewards.forms import rewards_of
from markov_cot.tracking.metrics import MAXIMA, policy_metrics, sampler_metrics, summarise
from markov_cot.training.collector import Experience
from markov_cot.training.gradients import (
    adamw,
    apply_gradient,
    backward_from,
    few_logits,
    leaves_of,
    set_learning_rate,
)
from markov_cot.utils.profiling import profile_span
from markov_cot.utils.rng import Stream, generator

LOSSES = ("loss/total", "loss/policy", "loss/kl", "loss/actor_reward", "loss/entropy")


class OldLogps:
    """log u_old of a step's CoT tokens: by the parameters the step began with, through the update's own forward.

    In bfloat16 that is not what the decoder that drew them had: rounding alone moves a token by some 0.05 nats.
    """

    def __init__(self, like_BL: Tensor) -> None:
        self.logp_BL = torch.empty_like(like_BL)
        """Of a process's own sequences."""
        self.moved = False
        """Whether the parameters are others by now."""

    def of(self, index_B: Tensor, logp_BL: Tensor) -> Tensor:
        """Those of some sequences, [B, L]. `logp_BL`, the forward in hand, is their source until parameters move."""
        if not self.moved:
            self.logp_BL[index_B] = logp_BL.detach()
        return self.logp_BL[index_B]


class Updater:
    """Optimizer of the actor's adapter, and the loss it follows."""

    def __init__(
        self,
        policy: Policy,
        config: Config,
        budgets: TokenBudgets,
        processes: Processes = ALONE,
        sharding: Sharding | None = None,
    ) -> None:
        self.policy, self.config, self._budgets = policy, config, budgets
        self._processes, self._sharding = processes, sharding
        self.parameters = list(policy.trainable().values())
        self.optimizer = adamw(self.parameters, config.optim)
        algorithm = config.algorithm
        self._policy_loss = policy_loss_of(algorithm)

    def update(self, data: Experience, weights: Weights, lr: float, step: int) -> dict[str, float]:
        """All passes over the step's CoTs. Returns the means of their losses and metrics, the same in all processes."""
        set_learning_rate(self.optimizer, lr)
        passes: list[dict[str, float]] = []
        epochs, old = 0, OldLogps(data.rollouts.behaviour_logp_BL)
        for chosen in list(self._minibatches(len(data.rewards.reward_B), step, 0))[1:]:
            self._remember(data, chosen, old)
        while epochs < self.config.algorithm.inner_epochs:
            done = [
                self._minibatch(data, chosen, weights, old)
                for chosen in self._minibatches(len(data.rewards.reward_B), step, epochs)
            ]
            passes += done
            epochs += 1
            stop = self.config.algorithm.inner_kl_stop
            if stop and self._processes.agree(sum(part["ppo/behaviour_kl"] for part in done) / len(done)) > stop:
                break
        metrics = {
            key: max(p[key] for p in passes) if key in MAXIMA else sum(p[key] for p in passes) / len(passes)
            for key in passes[0]
        }
        return metrics | {"ppo/inner_epochs": float(epochs), "optim/lr": lr}

    def _remember(self, data: Experience, chosen: Sequence[int], old: OldLogps) -> None:
        """Notes u_old of CoTs whose own forward comes when the parameters have moved, cut as that one will be."""
        own = sorted(data.owned(chosen))
        widths, cot_BL = self._widths(data, own), data.rollouts.cot_BL

        def forwards(tokens: int) -> None:
            for part in slices_within(widths, tokens):
                index_B, contexts = self._index(own[part]), [data.contexts[i] for i in own[part]]
                hidden_BLd = cot_hidden(self.policy, contexts, cot_BL[index_B], ACTOR, as_trained=True)
                for rows in few_logits(self.policy, hidden_BLd):
                    old.of(index_B[rows], cot_logp(self.policy, hidden_BLd[rows], cot_BL[index_B[rows]]))

        with torch.no_grad(), self.policy.folded(), profile_span("forward"):
            self._budgets.within(UPDATE, sum(widths), forwards)

    def _minibatch(self, data: Experience, chosen: Sequence[int], weights: Weights, old: OldLogps) -> dict[str, float]:
        """One optimizer step, left out if its gradient is not finite. Every process adds what its own CoTs give."""
        size = sum(self._widths(data, data.owned(chosen)))
        losses, parts = self._budgets.within(
            UPDATE, size, lambda tokens: self.gradient(data, weights, token_budget=tokens, chosen=chosen, old=old)
        )
        losses = dict(zip(losses, self._processes.sum(list(losses.values())), strict=True))
        norm, finite = apply_gradient(self.optimizer, self.parameters, self.config.optim.grad_clip, self._processes)
        old.moved = old.moved or finite
        metrics = losses | summarise(parts, self._processes)
        return metrics | {"optim/grad_norm": norm, "optim/skipped": float(not finite)}

    def gradient(
        self,
        data: Experience,
        weights: Weights,
        *,
        token_budget: int,
        chosen: Sequence[int] | None = None,
        old: OldLogps | None = None,
    ) -> tuple[dict[str, float], list[dict[str, Tensor]]]:
        """Sets the parameters' gradient to this process's share of that of the `chosen` sequences (all by default).

        Returns its share of the losses, and metrics of its sequences. Denominators are counts of all chosen sequences,
        so the sum over processes depends neither on them nor on the micro-batches. Without `old` the parameters count
        as those the step began with.
        """
        old = old or OldLogps(data.rollouts.behaviour_logp_BL)
        self.optimizer.zero_grad(set_to_none=True)
        chosen = list(range(len(data.rewards.reward_B))) if chosen is None else sorted(chosen)  # groups stay together
        live = int(data.advantages.live_B[torch.as_tensor(chosen, device=self.policy.device)].sum())
        counts = Counts(live=live, total=len(chosen))
        losses = dict.fromkeys(LOSSES, 0.0)
        parts: list[dict[str, Tensor]] = []
        own = data.owned(chosen)
        with self.policy.folded():
            slices = list(slices_within(self._widths(data, own), token_budget))
            more = int(self._processes.largest(len(slices))) - len(slices) if self._sharding else 0
            for part in slices:
                self._micro_batch(data, own[part], weights, counts, old, losses, parts)
            for _ in range(more):
                self._keep_in_step(data, weights)
        return losses, parts

    def _keep_in_step(self, data: Experience, weights: Weights) -> None:
        """A micro-batch of no weight, where another process has one more: a sharded backward needs all of them."""
        roots = [root for root in self._roots(data, data.own[:1], weights) if root.requires_grad]
        torch.autograd.backward(roots, [torch.zeros_like(root) for root in roots])

    def _micro_batch(
        self,
        data: Experience,
        chosen: list[int],
        weights: Weights,
        counts: Counts,
        old: OldLogps,
        losses: dict[str, float],
        parts: list[dict[str, Tensor]],
    ) -> None:
        """Adds the gradient, losses and metrics of some sequences.

        The loss is differentiated with respect to the hidden states first, a few sequences at a time, so that logits
        exist only for those, and then the hidden states with respect to the parameters, all at once.
        """
        index_B = self._index(chosen)
        with profile_span("forward"):
            roots = self._roots(data, chosen, weights)
        leaves = leaves_of(roots)
        for rows in few_logits(self.policy, *leaves):
            with profile_span("forward"):
                terms, metrics = self._terms(data, index_B[rows], [leaf[rows] for leaf in leaves], weights, counts, old)
                loss = terms.total(weights)
            with profile_span("backward"):
                torch.autograd.backward(loss)
            values = (loss, terms.policy, terms.kl, terms.actor_reward, terms.entropy)
            for key, value in zip(LOSSES, values, strict=True):
                losses[key] += value.item()
            parts.append(metrics)
        backward_from(roots, leaves)

    def _index(self, chosen: Sequence[int]) -> Tensor:
        return torch.tensor(chosen, device=self.policy.device)

    def _roots(self, data: Experience, chosen: Sequence[int], weights: Weights) -> list[Tensor]:
        """What the loss of some sequences is made from: hidden states of CoTs and, with an actor reward, of answers."""
        contexts, cot_BL = data.contexts, data.rollouts.cot_BL[self._index(chosen)]
        roots = [cot_hidden(self.policy, [contexts[i] for i in chosen], cot_BL, ACTOR)]
        if weights.actor_reward:
            roots.append(answer_hidden(self.policy, [data.answers[i - data.first] for i in chosen], ACTOR))
        return roots

    def _terms(
        self,
        data: Experience,
        index_B: Tensor,
        leaves: list[Tensor],
        weights: Weights,
        counts: Counts,
        old: OldLogps,
    ) -> tuple[LossTerms, dict[str, Tensor]]:
        """Loss terms and metrics of some sequences, from their part of the roots."""
        hidden_BLd, *answers_BAd = leaves
        scores = self._scores(data, index_B, hidden_BLd, weights)
        actor_reward_B = self._actor_reward(data, index_B, answers_BAd[0]) if answers_BAd else None
        advantages, cap = data.advantages.take(index_B), self.config.algorithm.importance_cap
        old_logp_BL, sampler_logp_BL = old.of(index_B, scores.logp_BL), data.rollouts.behaviour_logp_BL[index_B]
        weight_BL = importance_weight(old_logp_BL, sampler_logp_BL, cap) if cap else None
        terms = loss_terms(
            self._policy_loss, scores, old_logp_BL, advantages, actor_reward_B, counts, weight_BL=weight_BL
        )
        metrics = policy_metrics(scores, old_logp_BL, self.config.algorithm.clip)
        return terms, metrics | sampler_metrics(old_logp_BL, sampler_logp_BL, weight_BL, cap)

    def _scores(self, data: Experience, index_B: Tensor, hidden_BLd: Tensor, weights: Weights) -> CotScores:
        return score_cots(
            self.policy,
            hidden_BLd,
            data.reference_BLd[index_B - data.first],
            data.rollouts.cot_BL[index_B],
            self.config.algorithm.kl,
            entropy_grad=weights.entropy > 0,
        )

    def _actor_reward(self, data: Experience, index_B: Tensor, hidden_BAd: Tensor) -> Tensor:
        answers = [data.answers[i - data.first] for i in index_B.tolist()]
        return rewards_of(score_answer_tokens(self.policy, hidden_BAd, answers, ACTOR), self.config.reward)

    def _widths(self, data: Experience, chosen: Sequence[int]) -> list[int]:
        """Tokens that the update of each sequence keeps."""
        contexts, length = data.contexts, data.rollouts.cot_BL.shape[1]
        widths = cot_widths(self.policy, [contexts[i] for i in chosen], length)
        if not self.config.algorithm.actor_reward_weight:
            return widths
        answers = [data.answers[i - data.first] for i in chosen]
        return [width + len(a.ids) + len(a.answer_ids) for width, a in zip(widths, answers, strict=True)]

    def _minibatches(self, sequences: int, step: int, epoch: int) -> Iterator[list[int]]:
        """The sequences in a seeded random order, in `minibatches` parts of equal size (up to one)."""
        count = min(self.config.algorithm.minibatches, sequences)
        if count == 1:
            yield list(range(sequences))
            return
        order = generator(self.config.seed, Stream.MINIBATCHES, step, epoch).permutation(sequences).tolist()
        bounds = [i * sequences // count for i in range(count + 1)]
        yield from (order[a:b] for a, b in itertools.pairwise(bounds))
