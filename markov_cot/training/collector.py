"""A step's experience: CoTs, their rewards and advantages.

Shapes: P problems, G samples per problem, B = P*G sequences (problem-major), L CoT tokens. Units: nats.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from markov_cot.algorithms.advantages import AdvantageBatch, History, advantages_of
from markov_cot.algorithms.types import Advantages, Rollouts
from markov_cot.config.schema import Config
from markov_cot.data.problem import Problem
from markov_cot.data.prompts import AnswerContext
from markov_cot.distributed.process_group import ALONE, Processes
from markov_cot.models.memory import SCORE, TokenBudgets
from markov_cot.models.policy import Policy
from markov_cot.models.roles import REFERENCE
from markov_cot.models.scorer import Scorer
from markov_cot.rewards.answer_logprob import Baseline, Reward, Rewards
from markov_cot.rewards.hooks import RewardFunction
from markov_cot.rewards.readers import Readers
from markov_cot.rollouts.sampler import Engine, Sampler
from markov_cot.rollouts.sampling import uniforms
from markov_cot.tracking.metrics import cot_metrics, reward_metrics
from markov_cot.utils.profiling import profile_span, seconds_since

LEAD_SHARE = 8
"""`leak/answer_logprob_cut` keeps the first L / LEAD_SHARE tokens of a CoT."""


@dataclass(frozen=True, slots=True)
class Experience:
    """All that an update is computed from: the whole step's, but for what only the process that scores a CoT needs."""

    rollouts: Rollouts
    answers: list[AnswerContext]
    """Of this process's own sequences."""
    rewards: Rewards
    """Of all sequences."""
    advantages: Advantages
    reference_BLd: Tensor
    """The reference's hidden states that predict each CoT token of the process's own sequences; its log-probs are made
    from them where needed."""
    first: int = 0
    """Number of the first of its own sequences."""

    @property
    def contexts(self) -> list[list[int]]:
        """Question context of each of the B sequences."""
        return [self.rollouts.contexts[i // self.rollouts.samples] for i in range(len(self.rewards.reward_B))]

    @property
    def own(self) -> range:
        """Numbers of the process's own sequences."""
        return range(self.first, self.first + len(self.answers))

    def owned(self, chosen: Sequence[int]) -> list[int]:
        """Those of the chosen sequences that are the process's own."""
        return [i for i in chosen if i in self.own]


class Collector:
    """Samples and scores a step's CoTs."""

    def __init__(
        self,
        policy: Policy,
        readers: Readers,
        config: Config,
        budgets: TokenBudgets,
        processes: Processes = ALONE,
        reward: RewardFunction | None = None,
        engine: Engine | None = None,
    ) -> None:
        """`reward` is used instead of what `config.reward.function` names; an `engine` writes the CoTs."""
        self._policy, self._prompts, self._config, self._budgets = policy, readers.prompts, config, budgets
        self._processes = processes
        self._sampler, self._scorer = Sampler(policy, budgets, engine), Scorer(policy, budgets)
        self._readers = readers.within(budgets)
        self._reward = Reward(self._readers, config.reward, processes, reward)
        self._advantages = advantages_of(config.algorithm)
        self.baseline = Baseline(policy, readers, config.rollout.length)

    def collect(
        self, problems: Sequence[Problem], step: int, history: History
    ) -> tuple[Experience, History, dict[str, float]]:
        """One step's experience, the history of rewards with it, and its metrics.

        Every process samples and scores a share of the groups. Groups without variance are sampled again, with fresh
        random numbers, up to `resample_dead` times.
        """
        algorithm, samples, together = self._config.algorithm, self._config.rollout.samples, self._processes
        own = together.share(len(problems))
        own_problems = together.part(problems)
        started = time.perf_counter()
        contexts = [self._prompts.question_context(p) for p in problems]
        rollouts = self._sample(contexts, own, step, 0)
        seconds = together.largest(seconds_since(started, self._policy.device))
        answers, own_rewards = self._score(own_problems, rollouts.cot_BL, step)
        resampled = 0
        for attempt in range(1, algorithm.resample_dead + 1):
            dead = together.agree(self._dead_groups(together.gather(own_rewards.reward_B)))
            if not dead:
                break
            resampled += len(dead)
            mine = [g for g in dead if g in own]
            self._resample(problems, contexts, mine, step, attempt, rollouts, answers, own_rewards)
        rewards = own_rewards.gathered(together)
        metrics = {f"reward/reader/{name}": each_B.mean().item() for name, each_B in rewards.by_reader.items()}
        metrics |= reward_metrics(rewards.logprob_B, rewards.reward_B, samples, algorithm.sigma_floor)
        metrics["reward/resampled_groups"] = float(resampled)
        metrics["perf/rollout_tokens_per_second"] = len(rewards.reward_B) * self._config.rollout.length / seconds
        normalized_B = self._normalize(problems, rewards, step, metrics)
        advantages = self._advantages(AdvantageBatch(rewards.reward_B, normalized_B, samples, algorithm, history), step)
        if self._needs_baseline:
            history = history.extended(normalized_B, algorithm.ema_decay)
        reference_BLd = self._refer(rollouts)
        cot_BL, behaviour_logp_BL = together.gather(rollouts.cot_BL), together.gather(rollouts.behaviour_logp_BL)
        whole = Rollouts(contexts, cot_BL, behaviour_logp_BL, samples)
        experience = Experience(whole, answers, rewards, advantages, reference_BLd, own.start * samples)
        return experience, history, metrics

    def describe_cots(self, problems: Sequence[Problem], data: Experience, step: int) -> dict[str, float]:
        """Repetition in the CoTs, what of them does not reach a reader of another tokenizer, and how far their texts
        and, at times, their beginnings give the answer away."""
        cots, own = data.rollouts.cot_BL.tolist(), self._processes.part(problems)
        own_cots = [cots[i] for i in data.own]
        described = cot_metrics(own_cots, self._readers.prompts.decode(own_cots), own)
        if (lost := self._readers.lost_characters(own_cots)) is not None:
            described["reader/lost_characters"] = lost
        metrics = self._processes.mean(described)
        if step % self._config.reward.baseline_every == 0:
            beginnings = [cot[: len(cot) // LEAD_SHARE] for cot in own_cots]
            logprob_B = self._reward.logprobs(own, beginnings)
            metrics["leak/answer_logprob_cut"] = self._processes.gather(logprob_B).mean().item()
        return metrics

    def _resample(
        self,
        problems: Sequence[Problem],
        contexts: list[list[int]],
        groups: list[int],
        step: int,
        attempt: int,
        rollouts: Rollouts,
        answers: list[AnswerContext],
        rewards: Rewards,
    ) -> None:
        """Puts new CoTs and rewards of some of the process's groups, or of none, in the place of theirs."""
        samples, first = self._config.rollout.samples, self._processes.share(len(problems)).start
        again = self._sample(contexts, groups, step, attempt)
        new_answers, new = self._score([problems[g] for g in groups], again.cot_BL, step)
        rows = [(g - first) * samples + i for g in groups for i in range(samples)]
        if rows:
            index = torch.tensor(rows, device=self._policy.device)
            rollouts.cot_BL[index] = again.cot_BL
            rollouts.behaviour_logp_BL[index] = again.behaviour_logp_BL
            rewards.put(index, new)
            for row, answer in zip(rows, new_answers, strict=True):
                answers[row] = answer

    def _sample(self, contexts: list[list[int]], groups: Sequence[int], step: int, attempt: int) -> Rollouts:
        """CoTs of some of the step's groups; each has random numbers of its own. `contexts` are those of all."""
        rollout = self._config.rollout
        shape = (self._config.rollout.problems, rollout.samples, rollout.length)
        uniform = uniforms(self._config.seed, step, shape[0] * shape[1], shape[2], attempt).reshape(shape)
        return self._sampler.cots([contexts[g] for g in groups], uniform[list(groups)])

    def _score(self, problems: Sequence[Problem], cot_BL: Tensor, step: int) -> tuple[list[AnswerContext], Rewards]:
        return self._reward(problems, cot_BL.tolist(), step + 1)

    def _refer(self, rollouts: Rollouts) -> Tensor:
        with profile_span("reference"):
            return self._scorer.cots(rollouts.contexts, rollouts.samples, rollouts.cot_BL, REFERENCE)

    @property
    def _needs_baseline(self) -> bool:
        """Whether the advantage depends on the baseline, which is then scored at every step."""
        return self._advantages.needs_baseline

    def _dead_groups(self, reward_B: Tensor) -> list[int]:
        sigma_P = reward_B.view(-1, self._config.rollout.samples).std(1, correction=0)
        dead: list[int] = (sigma_P < self._config.algorithm.sigma_floor).nonzero().flatten().tolist()
        return dead

    def _normalize(self, problems: Sequence[Problem], rewards: Rewards, step: int, metrics: dict[str, float]) -> Tensor:
        """Return R = r - b [B] where the baseline b is due, with its metrics; r itself where it is not needed.

        b is in nats, so a reward of another kind is left as it is, and its log-prob alone is compared with b.
        """
        config, reward_B = self._config, rewards.reward_B
        if not self._needs_baseline and step % config.reward.baseline_every:
            return reward_B
        own = self._processes.part(problems)
        size = sum(len(self._prompts.question_context(p)) + config.rollout.length for p in own)
        baseline_P = self._budgets.within(SCORE, size, lambda tokens: self.baseline(own, tokens))
        baseline_P = self._processes.gather(baseline_P)
        self.baseline.remember(problems, baseline_P.tolist())
        baseline_P = baseline_P.to(reward_B.dtype).to(reward_B.device)
        normalized_B = rewards.logprob_B - baseline_P.repeat_interleave(config.rollout.samples)
        metrics["reward/baseline_logprob"] = baseline_P.mean().item()
        metrics["reward/normalized"] = normalized_B.mean().item()
        return normalized_B if self._reward.is_logprob else reward_B
