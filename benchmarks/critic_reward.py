"""This project's reward, written for TRL: a reward function that needs nothing but PEFT's model."""

from __future__ import annotations

from typing import Any

import torch
from measure import fail
from torch import Tensor


class CriticReward:
    """Mean log-prob of the true answer after each completion, under the base, without the question in sight."""

    __name__ = "critic"

    def __init__(self, length: int) -> None:
        self._length = length
        self.model: Any = None
        """The trainer's model; set once there is one."""
        self.deviations: list[float] = []
        """Standard deviation of each batch's rewards, nats."""

    @torch.no_grad()
    def __call__(self, completion_ids: list[list[int]], **columns: list[Any]) -> list[float]:
        if any(len(ids) != self._length for ids in completion_ids):
            fail(f"a completion has not exactly {self._length} tokens, so the sides would not do the same work")
        parts = zip(columns["redacted_ids"], completion_ids, columns["suffix_ids"], strict=True)
        contexts = [[*redacted, *cot, *suffix] for redacted, cot, suffix in parts]
        rewards = self._score(contexts, columns["answer_ids"])
        self.deviations.append(float(rewards.std()))
        return rewards.tolist()

    def _score(self, contexts: list[list[int]], answers: list[list[int]]) -> Tensor:
        """Mean log-prob [B] of each answer, in one forward padded on the left."""
        rows = [[*context, *answer] for context, answer in zip(contexts, answers, strict=True)]
        width, longest = max(map(len, rows)), max(map(len, answers))
        ids = torch.zeros(len(rows), width, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for i, row in enumerate(rows):
            ids[i, width - len(row) :] = torch.tensor(row)
            mask[i, width - len(row) :] = 1
        ids, mask = ids.to(self.model.device), mask.to(self.model.device)
        with self.model.disable_adapter():
            logits = self.model(input_ids=ids, attention_mask=mask, logits_to_keep=longest + 1, use_cache=False).logits
        logp = logits[:, :-1].float().log_softmax(-1).gather(-1, ids[:, -longest:, None]).squeeze(-1)
        count = torch.tensor([len(answer) for answer in answers], device=ids.device)
        inside = torch.arange(longest, device=ids.device) >= longest - count[:, None]
        return (logp * inside).sum(1) / count
