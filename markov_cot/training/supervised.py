"""Supervised fine-tuning, one step: worked questions -> loss on their written CoTs -> parameters.

The loss is the mean over the step's learnt tokens of -log p(token | all before it) under the actor, untempered and with
nothing banned, as usual for language models.

Shapes: B examples of the step, A learnt tokens of the longest, d hidden size. Units: nats.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from markov_cot.algorithms.schedules import learning_rate
from markov_cot.data.prompts import AnswerContext
from markov_cot.evaluation.validation import Score, validate
from markov_cot.models.logprobs import (
    answer_hidden,
    score_answer_tokens,
    score_answer_tokens_in_batches,
    slices_within,
)
from markov_cot.models.memory import SCORE, UPDATE, TokenBudgets
from markov_cot.models.roles import ACTOR, CRITIC, Role
from markov_cot.tracking.multi import MultiTracker
from markov_cot.training.example_order import ExampleOrder
from markov_cot.training.gradients import (
    adamw,
    apply_gradient,
    backward_from,
    few_logits,
    leaves_of,
    set_learning_rate,
)
from markov_cot.training.method import Merit, Report
from markov_cot.training.progress import Progress
from markov_cot.training.reporting import SAMPLES_SHOWN
from markov_cot.training.setup import Session
from markov_cot.training.worked import Example, hard_count
from markov_cot.utils.profiling import profile_span, seconds_since

LOSS, FAILURE = "loss", "failure"
"""Prefixes of what is remembered of an example, before its number."""


@dataclass
class Difficulties:
    """How hard each example is for the base, computed once."""

    known: dict[str, float] = field(default_factory=dict)


class Supervised:
    """Has the actor learn written CoTs token by token."""

    def __init__(self, session: Session, budgets: TokenBudgets) -> None:
        assert session.worked
        self._session, self._budgets, self._worked = session, budgets, session.worked
        self._config, self._policy, self._processes = session.config, session.policy, session.processes
        self._targets = [example.target(session.config.sft.loss_on) for example in self._worked.examples]
        self.parameters = list(session.policy.trainable().values())
        self.optimizer = adamw(self.parameters, session.config.optim)
        self.remembered = Difficulties()
        self._order: ExampleOrder | None = None

    def learn(self, progress: Progress) -> tuple[dict[str, float], Report]:
        """Take one step. Returns its metrics, and how to report it."""
        config, step = self._config, progress.step
        order = self._order = self._order or self._make_order()
        chosen = order.batch(step, config.sft.batch)
        lr = learning_rate(config, step) * progress.lr_scale
        set_learning_rate(self.optimizer, lr)
        started = time.perf_counter()
        metrics = self._update(chosen)
        seconds = self._processes.largest(seconds_since(started, self._policy.device))
        examples = [self._worked.examples[i] for i in chosen]
        metrics |= {
            "optim/lr": lr,
            "sft/epoch": (step + 1) * config.sft.batch / len(order),
            "sft/cut": sum(example.is_cut for example in examples) / len(examples),
            "perf/sft_tokens_per_second": metrics["sft/tokens"] / seconds,
        }
        return metrics, partial(self._report, examples)

    def held_out(self, score: Score) -> tuple[dict[str, float], Merit]:
        """Return the loss on held-out CoTs, where there are any, and what the best checkpoint is best by.

        Before a warm start works, scores are often equal; then the loss decides, or the answers' log-prob.
        """
        targets = [example.target(self._config.sft.loss_on) for example in self._worked.held_out]
        if not targets:
            return {}, (score.value, score.answer_logprob)
        losses, tokens = self._losses(targets, ACTOR), [len(target.answer_ids) for target in targets]
        loss = sum(each * count for each, count in zip(losses, tokens, strict=True)) / sum(tokens)
        return {f"eval/{self._session.splits.name}/loss": loss}, (-loss if self._by_loss else score.value, -loss)

    def best_by(self, score: Score) -> str:
        """Return "loss", or the score's measure."""
        return LOSS if self._by_loss else score.measure

    @property
    def _by_loss(self) -> bool:
        return self._config.sft.best == LOSS

    # --- one update

    def _update(self, chosen: Sequence[int]) -> dict[str, float]:
        """Learn some examples, of which every process takes a share. Returns the loss and the gradient's metrics."""
        total = sum(len(self._targets[i].answer_ids) for i in chosen)
        own = sorted(self._processes.part(chosen), key=self._width)
        size = sum(map(self._width, own))
        found = self._budgets.within(UPDATE, size, lambda tokens: self._gradient(own, total, tokens))
        cot, answer, counted = self._processes.sum(found)
        norm, finite = apply_gradient(self.optimizer, self.parameters, self._config.optim.grad_clip, self._processes)
        metrics = {"loss/total": (cot + answer) / total, "sft/tokens": float(total)}
        if counted:
            metrics["sft/cot_loss"] = cot / counted
        if total > counted:
            metrics["sft/answer_loss"] = answer / (total - counted)
        return metrics | {"optim/grad_norm": norm, "optim/skipped": float(not finite)}

    def _gradient(self, own: Sequence[int], total: int, token_budget: int) -> tuple[float, float, float]:
        """Set the parameters' gradient to that of the own examples' share of the loss.

        `total` counts the learnt tokens of all processes. Returns the sums of -log p over the tokens of CoTs (and of
        questions, where those are learnt) and over those of stated answers, and how many the former are.
        """
        self.optimizer.zero_grad(set_to_none=True)
        sums = [0.0, 0.0, 0.0]
        with self._policy.folded():
            for part in slices_within([self._width(i) for i in own], token_budget):
                contexts = [self._targets[i] for i in own[part]]
                with profile_span("forward"):
                    roots = [answer_hidden(self._policy, contexts, ACTOR)]
                leaves = leaves_of(roots)
                for rows in few_logits(self._policy, *leaves):
                    with profile_span("forward"):
                        scores = score_answer_tokens(self._policy, leaves[0][rows], contexts[rows], ACTOR)
                        loss = -scores.sum_B.sum() / total
                    with profile_span("backward"):
                        loss.backward()  # type: ignore[no-untyped-call]
                    for i, logp_A in zip(own[part][rows], scores.logps, strict=True):
                        self._add(sums, i, logp_A.detach().tolist())
                backward_from(roots, leaves)
        return sums[0], sums[1], sums[2]

    def _add(self, sums: list[float], number: int, logps: Sequence[float]) -> None:
        """Add an example's log-probs to the sums that `_gradient` returns."""
        stated = 0 if self._config.sft.loss_on == "cot" else len(self._worked.examples[number].answer)
        cut = len(logps) - stated
        sums[0] -= sum(logps[:cut])
        sums[1] -= sum(logps[cut:])
        sums[2] += cut

    def _width(self, number: int) -> int:
        """Tokens that the forward of an example reads."""
        return len(self._targets[number].ids) + len(self._targets[number].answer_ids)

    # --- how hard examples are

    def _make_order(self) -> ExampleOrder:
        sft, count = self._config.sft, len(self._targets)
        needs_loss = sft.curriculum or (sft.hard_repeats > 1 and sft.hard_by == LOSS)
        losses = self._known(LOSS, lambda: self._losses(self._targets, CRITIC)) if needs_loss else None
        hard: list[int] = []
        if sft.hard_repeats > 1 and sft.hard_by == FAILURE:
            failed = self._known(FAILURE, self._failures)
            hard = [i for i in range(count) if failed[i]]
        elif sft.hard_repeats > 1 and losses:
            hardest = sorted(range(count), key=lambda i: -losses[i])
            hard = hardest[: hard_count(self._config, count) // (sft.hard_repeats - 1)]
        return ExampleOrder(
            count,
            self._config.seed,
            hard=hard,
            repeats=sft.hard_repeats,
            difficulty=losses if sft.curriculum else None,
        )

    def _known(self, what: str, compute: Any) -> list[float]:
        """A number an example, from a checkpoint where it is there."""
        known, keys = self.remembered.known, [f"{what}/{i}" for i in range(len(self._targets))]
        if any(key not in known for key in keys):
            known |= zip(keys, compute(), strict=True)
        return [known[key] for key in keys]

    def _losses(self, targets: Sequence[AnswerContext], role: Role) -> list[float]:
        """Mean -log p (nats per learnt token) of each target; every process scores a share."""
        own = self._processes.part(targets)
        size = sum(len(target.ids) + len(target.answer_ids) for target in own)
        found = self._budgets.within(SCORE, size, lambda tokens: self._scored(own, role, tokens))
        return [loss for part in self._processes.collect(found) for loss in part]

    def _scored(self, targets: Sequence[AnswerContext], role: Role, token_budget: int) -> list[float]:
        scores = score_answer_tokens_in_batches(self._policy, targets, role, token_budget)
        losses: list[float] = (-scores.reduced("mean")).tolist() if targets else []
        return losses

    def _failures(self) -> list[float]:
        """1 for each question that the base answers wrongly from a greedy CoT of its own, else 0."""
        session = self._session
        own = self._processes.part([example.problem for example in self._worked.examples])
        size = len(own) * self._config.rollout.length
        marks = self._budgets.within(
            SCORE, size, lambda tokens: validate(self._policy, session.readers, own, self._config, CRITIC, tokens)
        )
        right = [bool(mark.right) for mark in marks]
        return [float(not each) for part in self._processes.collect(right) for each in part]

    # --- what is shown

    def _report(self, examples: Sequence[Example], step: int, tracker: MultiTracker) -> list[dict[str, Any]]:
        """Return the first examples of the step, as the actor is to write them."""
        decode = self._policy.tokenizer.decode
        return [
            {
                "question": example.problem.question or example.problem.passage,
                "answer": example.problem.answer,
                "cot": decode([*example.cot, *example.answer]),
            }
            for example in examples[:SAMPLES_SHOWN]
        ]
