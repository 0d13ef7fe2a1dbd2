"""Reinforcement learning, one step: questions -> CoTs -> rewards -> advantages -> loss -> parameters.

Shapes: P problems, G samples per problem, B = P*G sequences (problem-major), L CoT tokens. Units: nats.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from markov_cot.algorithms.schedules import adapted_entropy_weight, adapted_kl_weight, learning_rate, loss_weights
from markov_cot.data.problem import Problem
from markov_cot.evaluation.validation import Score
from markov_cot.models.memory import TokenBudgets
from markov_cot.rewards.hooks import RewardFunction
from markov_cot.tracking.multi import MultiTracker
from markov_cot.training.collector import Collector, Experience
from markov_cot.training.method import Merit, Report
from markov_cot.training.progress import Progress
from markov_cot.training.reporting import (
    SAMPLES_SHOWN,
    histograms,
    is_due,
    rollout_rows,
    sample_rows,
    shows_samples,
)
from markov_cot.training.setup import Session
from markov_cot.training.updater import Updater


class Reinforcement:
    """Has the actor sample CoTs, and makes those likelier from which the readers find the answer."""

    def __init__(
        self,
        session: Session,
        budgets: TokenBudgets,
        *,
        updater: type[Updater] = Updater,
        reward: RewardFunction | None = None,
    ) -> None:
        """`reward` is used instead of what the config names."""
        config, policy, processes = session.config, session.policy, session.processes
        self._session = session
        self.updater = updater(policy, config, budgets, processes, session.sharding)
        self.collector = Collector(policy, session.readers, config, budgets, processes, reward, session.engine)
        self.optimizer, self.remembered = self.updater.optimizer, self.collector.baseline

    def learn(self, progress: Progress) -> tuple[dict[str, float], Report]:
        """Take one step. Returns its metrics, and how to report it."""
        session, config, step = self._session, self._session.config, progress.step
        problems = session.shuffle.batch(step, config.rollout.problems)
        experience, progress.history, metrics = self.collector.collect(problems, step, progress.history)
        metrics |= self.collector.describe_cots(problems, experience, step)
        weights = loss_weights(config.algorithm, step, progress.kl_weight, progress.entropy_weight)
        lr = learning_rate(config, step) * progress.lr_scale
        metrics |= self.updater.update(experience, weights, lr, step)
        metrics |= {"data/too_long": float(len(session.shuffle.too_long)), "loss/kl_weight": weights.kl}
        metrics["loss/entropy_weight"] = weights.entropy
        if config.algorithm.kl_target:
            progress.kl_weight = adapted_kl_weight(weights.kl, metrics["policy/kl"], config.algorithm.kl_target)
        if target := config.algorithm.entropy_target:
            progress.entropy_weight = adapted_entropy_weight(weights.entropy, metrics["policy/entropy"], target)
        return metrics, partial(self._report, problems, experience)

    def held_out(self, score: Score) -> tuple[dict[str, float], Merit]:
        """Return nothing else to log, and the score's own value."""
        return {}, (score.value, 0.0)

    def best_by(self, score: Score) -> str:
        """Return "accuracy", or "answer_logprob"."""
        return score.measure

    def _report(
        self, problems: Sequence[Problem], experience: Experience, step: int, tracker: MultiTracker
    ) -> list[dict[str, Any]]:
        """Report a step's distributions and full rollouts where they are due. Returns its sample CoTs."""
        settings, decode = self._session.config.tracking, self._session.policy.tokenizer.batch_decode
        cot_BL = experience.rollouts.cot_BL
        if shows_samples(settings, step):
            tracker.histograms(step, histograms(experience))
        if is_due(settings.rollouts, step):
            tracker.rollouts(step, rollout_rows(step, problems, experience, decode(cot_BL.tolist())))
        shown: list[str] = decode(cot_BL[:: experience.rollouts.samples][:SAMPLES_SHOWN].tolist())
        return sample_rows(problems, experience, shown)
