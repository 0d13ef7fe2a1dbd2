"""A run's own frozen reader, and the problems of its test split, without the run's actor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from markov_cot.config.schema import Config
from markov_cot.data.problem import Problem
from markov_cot.data.prompts import Prompts
from markov_cot.data.registry import load
from markov_cot.evaluation.run import Run
from markov_cot.models import loading
from markov_cot.models.memory import FixedBudget
from markov_cot.models.policy import Policy
from markov_cot.rewards.reader_models import load_reader_models, make_readers
from markov_cot.rewards.readers import Readers

BUDGET = 16384
"""Tokens read at once."""


@dataclass(frozen=True)
class RunReader:
    """What reads a run's CoTs."""

    config: Config
    policy: Policy
    prompts: Prompts
    readers: Readers
    test: Sequence[Problem]
    """In the order of the split, which evaluations number items by."""

    def encode(self, text: str) -> list[int]:
        """Return a text's tokens."""
        ids: list[int] = self.policy.tokenizer(text, add_special_tokens=False).input_ids
        return ids

    def written_answer(self, problem: Problem) -> list[str]:
        """Return the text of each token of a problem's answer, as readers are asked for it."""
        ids = self.prompts.answer_context(problem, []).answer_ids
        return [self.policy.tokenizer.decode([i]) for i in ids]


def open_reader(folder: Path) -> RunReader:
    """Load the base of a run, by the run's folder."""
    config = Run(folder).config
    base = loading.load_base(config.model, torch.device("cpu"))
    policy = Policy(loading.add_adapter(base, config.lora, 0), loading.load_tokenizer(config.model))
    prompts = Prompts(policy.tokenizer, config.prompt, vocabulary=policy.vocabulary)
    models = load_reader_models(config, policy)
    readers = make_readers(config.reward, policy, prompts, FixedBudget(BUDGET), models).for_base()
    return RunReader(config, policy, prompts, readers, load(config.data, policy.tokenizer).test)
