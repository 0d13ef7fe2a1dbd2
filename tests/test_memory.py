from __future__ import annotations

import pytest
import torch

from markov_cot.errors import UserError
from markov_cot.memory import SMALLEST, UPDATE, TokenBudgets, ran_out_of_memory

FAILURES = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    MemoryError(),
    RuntimeError("[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: can't allocate memory: you tried to ..."),
]


@pytest.mark.parametrize("failure", FAILURES, ids=["cuda", "python", "cpu"])
def test_what_does_not_fit_is_done_again_in_halves_and_remembered(failure: Exception) -> None:
    budgets, tried = TokenBudgets(10_000), list[int]()

    def work(tokens: int) -> str:
        tried.append(tokens)
        if min(tokens, 4000) > 600:
            raise failure
        return "done"

    # There are 4,000 tokens in all, so half of those comes next, not half of the limit.
    assert budgets.within(UPDATE, 4000, work) == "done"
    assert tried == [10_000, 2000, 1000, 500]
    assert budgets.within(UPDATE, 4000, work) == "done" and tried[-1] == 500 and len(tried) == 5
    assert budgets.tokens == {"rollout": 1 << 30, "score": 10_000, "update": 500}


def test_other_errors_pass() -> None:
    budgets = TokenBudgets(1000)
    error = RuntimeError("shapes do not match")
    assert not ran_out_of_memory(error)

    def work(_: int) -> None:
        raise error

    with pytest.raises(RuntimeError, match="shapes"):
        budgets.within(UPDATE, 1000, work)
    assert budgets.tokens[UPDATE] == 1000


def test_when_nothing_fits_it_says_what_to_do() -> None:
    budgets = TokenBudgets(1000)

    def work(_: int) -> None:
        raise MemoryError

    with pytest.raises(UserError, match=r"out of memory in the update phase.*rollout\.length"):
        budgets.within(UPDATE, 1000, work)
    assert SMALLEST <= budgets.tokens[UPDATE] < 2 * SMALLEST
