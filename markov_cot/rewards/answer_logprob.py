"""The reward: how probable the readers find the true answer after each CoT, and the baseline it is compared with.

Shapes: P problems, G samples per problem, B = P*G sequences (problem-major). Units: nats.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from markov_cot.config.reward import Reward as Settings
from markov_cot.data.copying import copied
from markov_cot.data.problem import Problem
from markov_cot.data.prompts import AnswerContext
from markov_cot.data.templates import question_text
from markov_cot.distributed.process_group import ALONE, Processes
from markov_cot.models.logprobs import AnswerScores, slices_within
from markov_cot.models.memory import FixedBudget
from markov_cot.models.policy import Policy
from markov_cot.models.roles import CRITIC
from markov_cot.rewards.forms import FORMS, GAIN, LOGPROB
from markov_cot.rewards.hooks import RewardBatch, RewardFunction, call_reward
from markov_cot.rewards.readers import Readers, Reading
from markov_cot.rewards.registry import ANSWER_LOGPROB, REWARDS
from markov_cot.rollouts.sampling import greedy_cots
from markov_cot.utils.profiling import profile_span


@dataclass(frozen=True, slots=True)
class Rewards:
    """Of B CoTs."""

    logprob_B: Tensor
    """The readers' log-prob of each true answer, nats."""
    reward_B: Tensor
    """The reward in use: the same, unless the config names another form or function."""
    penalty_B: Tensor
    """What `reward_B` is less than it would be without `copy_penalty`."""
    by_reader: Mapping[str, Tensor] = field(default_factory=dict)
    """The reward of each of several readers, by name."""

    def gathered(self, processes: Processes) -> Rewards:
        """Return those of all processes."""
        by_reader = {name: processes.gather(each_B) for name, each_B in self.by_reader.items()}
        return Rewards(
            processes.gather(self.logprob_B),
            processes.gather(self.reward_B),
            processes.gather(self.penalty_B),
            by_reader,
        )

    def put(self, rows: Tensor, others: Rewards) -> None:
        """Write others' values in the place of some CoTs' own."""
        self.logprob_B[rows] = others.logprob_B
        self.reward_B[rows] = others.reward_B
        self.penalty_B[rows] = others.penalty_B
        for name, each_B in self.by_reader.items():
            each_B[rows] = others.by_reader[name]


class Reward:
    """The reward of a step's CoTs: the readers' log-prob of the true answer, or the user's own function of it."""

    def __init__(
        self,
        readers: Readers,
        config: Settings,
        processes: Processes = ALONE,
        function: RewardFunction | None = None,
    ) -> None:
        """`function` is used instead of what `config.function` names."""
        self._readers, self._config, self._processes = readers, config, processes
        self._name = config.function
        if function is None and config.function != ANSWER_LOGPROB:
            function = REWARDS.resolve(config.function)
        self._function = function
        if config.form not in (LOGPROB, GAIN):
            FORMS.resolve(config.form)

    @property
    def is_logprob(self) -> bool:
        """Whether it is in the answer's own nats, so that it can be compared with the baseline's."""
        return self._function is None and self._config.form == LOGPROB

    def logprobs(self, problems: Sequence[Problem], cots: Sequence[Sequence[int]]) -> Tensor:
        """Return the readers' log-prob [B] of the true answer after each CoT; problem i owns CoTs i*G to (i+1)*G."""
        return self._read(problems, cots).logprob_B

    def __call__(
        self, problems: Sequence[Problem], cots: Sequence[Sequence[int]], step: int
    ) -> tuple[list[AnswerContext], Rewards]:
        """Return the first reader's contexts of this process's CoTs, and their rewards. `step` counts from 1.

        Raises `HookError` in all processes when the user's own function fails in one.
        """
        reading = self._read(problems, cots)
        by_reader = reading.by_reader if len(reading.by_reader) > 1 else {}
        penalty_B = reading.logprob_B.new_tensor(self._penalties(problems, cots))
        if self._function is None:
            return reading.contexts, Rewards(reading.logprob_B, reading.reward_B - penalty_B, penalty_B, by_reader)
        batch = self._batch(problems, reading.scores, cots, step)
        values: list[float] = []
        with self._processes.together():
            values = call_reward(self._function, self._name, batch, self._config.args)
        reward_B = reading.logprob_B.new_tensor(values) - penalty_B
        return reading.contexts, Rewards(reading.logprob_B, reward_B, penalty_B, by_reader)

    def _read(self, problems: Sequence[Problem], cots: Sequence[Sequence[int]]) -> Reading:
        with profile_span("reward"):
            return self._readers.read(_owners(problems, cots), cots)

    def _penalties(self, problems: Sequence[Problem], cots: Sequence[Sequence[int]]) -> list[float]:
        """What copying costs each CoT."""
        if not self._config.copy_penalty:
            return [0.0] * len(cots)
        texts = zip(self._readers.prompts.decode(cots), _owners(problems, cots), strict=True)
        return [self._config.copy_penalty * copied(cot, problem) for cot, problem in texts]

    def _batch(
        self, problems: Sequence[Problem], scores: AnswerScores, cots: Sequence[Sequence[int]], step: int
    ) -> RewardBatch:
        owners = _owners(problems, cots)
        return RewardBatch(
            questions=[question_text(problem) for problem in owners],
            answers=[problem.answer for problem in owners],
            cots=self._readers.prompts.decode(cots),
            cot_ids=[list(cot) for cot in cots],
            answer_logprobs=[logp_A.tolist() for logp_A in scores.logps],
            step=step,
        )


def _owners(problems: Sequence[Problem], cots: Sequence[Sequence[int]]) -> list[Problem]:
    """The problem of each CoT."""
    samples = len(cots) // max(1, len(problems))
    return [problem for problem in problems for _ in range(samples)]


class Baseline:
    """b: the readers' log-prob of the answer after the frozen base's own greedy CoT.

    The base answers itself where the actor would. Deterministic for a problem, so each is computed once and kept.
    """

    def __init__(self, policy: Policy, readers: Readers, length: int) -> None:
        self._policy, self._readers, self._length = policy, readers.for_base(), length
        self.known: dict[str, float] = {}
        """b by the problem's key: part of a run's state, since in a batch of other composition it would come out
        different by rounding."""

    def __call__(self, problems: Sequence[Problem], token_budget: int) -> Tensor:
        """b of each problem, [P] in float64, on the CPU."""
        keys = [_key(problem) for problem in problems]
        new = {key: problem for key, problem in zip(keys, problems, strict=True) if key not in self.known}
        if new:
            self.known |= dict(zip(new, self._compute(list(new.values()), token_budget), strict=True))
        return torch.tensor([self.known[key] for key in keys], dtype=torch.float64)

    def remember(self, problems: Sequence[Problem], values: Sequence[float]) -> None:
        """Takes in the b that other processes computed."""
        self.known |= zip(map(_key, problems), values, strict=True)

    def _compute(self, problems: list[Problem], token_budget: int) -> list[float]:
        contexts = [self._readers.prompts.question_context(p) for p in problems]
        cots: list[list[int]] = []
        for part in slices_within([len(context) + self._length for context in contexts], token_budget):
            cots += greedy_cots(self._policy, contexts[part], self._length, CRITIC).tolist()
        values: list[float] = self._readers.within(FixedBudget(token_budget)).read(problems, cots).logprob_B.tolist()
        return values


def _key(problem: Problem) -> str:
    """Short, and the same in every process, for all that the baseline of a problem depends on."""
    seen = json.dumps([problem.passage, problem.question, problem.choices, *problem.accepted, problem.kind])
    return hashlib.sha256(seen.encode()).hexdigest()[:16]
