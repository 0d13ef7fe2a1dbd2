"""An evaluation that runs out of memory continues in smaller parts, and records the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from markov_cot.config.schema import Reward
from markov_cot.data.prompts import Prompts
from markov_cot.data.synthetic import Generated, choices
from markov_cot.evaluation.record_log import RecordLog
from markov_cot.evaluation.records import Item, Record
from markov_cot.evaluation.runner import GenerationConfig, Runner
from markov_cot.models import memory, scorer
from markov_cot.models.memory import ROLLOUT, SCORE, FixedBudget, TokenBudgets
from markov_cot.models.policy import Policy
from markov_cot.rewards import answer_logprob
from markov_cot.rewards.reader_models import make_readers
from markov_cot.rollouts import sampler, sampling
from markov_cot.utils.errors import UserError

LENGTH, TOKENS = 10, 16384
ITEMS = [Item(i, problem) for i, problem in enumerate(Generated(choices, "test", 6))]
GREEDY, SAMPLED = GenerationConfig(LENGTH), GenerationConfig(LENGTH, samples=4, temperature=1.5, seed=1)


@pytest.fixture(scope="module")
def policy(make_policy: Callable[..., Policy]) -> Policy:
    return make_policy(dtype=torch.float64)


def runner(policy: Policy, writing: GenerationConfig, budgets: TokenBudgets) -> Runner:
    return Runner(policy, make_readers(Reward(), policy, Prompts(policy.tokenizer), budgets), writing)


def records(policy: Policy, writing: GenerationConfig, budgets: TokenBudgets, batch: int = 24) -> list[Record]:
    return runner(policy, writing, budgets).run(ITEMS, RecordLog(None, {}), batch)


def fits_only(work: Callable[..., Any], most: int, sequences: Callable[..., int]) -> Callable[..., Any]:
    """`work`, which runs out of memory with more than `most` sequences at once."""

    def limited(*args: Any, **kwargs: Any) -> Any:
        if sequences(*args) > most:
            raise MemoryError
        return work(*args, **kwargs)

    return limited


def contexts(_: Policy, contexts: Sequence[Any], *__: Any) -> int:
    return len(contexts)


@pytest.mark.parametrize(
    ("writing", "module", "name", "sequences", "phase"),
    [
        (GREEDY, sampler, "greedy_cots", contexts, ROLLOUT),
        (SAMPLED, sampling, "sample_cots", lambda _, __, uniform_BL, *___: len(uniform_BL), ROLLOUT),
        (GREEDY, sampler, "greedy_answers", contexts, ROLLOUT),
        (GREEDY, answer_logprob, "greedy_cots", contexts, SCORE),
    ],
    ids=["greedy CoTs", "sampled CoTs", "answers", "baseline"],
)
def test_memory_that_runs_out_changes_no_record(
    policy: Policy,
    monkeypatch: pytest.MonkeyPatch,
    writing: GenerationConfig,
    module: ModuleType,
    name: str,
    sequences: Callable[..., int],
    phase: str,
) -> None:
    monkeypatch.setattr(memory, "SMALLEST", 1)
    expected = records(policy, writing, TokenBudgets(TOKENS))
    budgets = TokenBudgets(TOKENS)
    whole = dict(budgets.tokens)
    monkeypatch.setattr(module, name, fits_only(getattr(module, name), 2, sequences))
    assert_same(records(policy, writing, budgets), expected)
    assert {each for each, tokens in budgets.tokens.items() if tokens < whole[each]} == {phase}


def test_memory_that_runs_out_while_scoring_changes_no_record(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "SMALLEST", 1)
    expected = records(policy, GREEDY, TokenBudgets(TOKENS))
    budgets, tried = TokenBudgets(TOKENS), list[int]()
    score = scorer.score_answer_tokens_in_batches

    def limited(policy: Policy, contexts: Any, role: str, tokens: int) -> Any:
        tried.append(tokens)
        if tokens > 40:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return score(policy, contexts, role, tokens)

    monkeypatch.setattr(scorer, "score_answer_tokens_in_batches", limited)
    assert_same(records(policy, GREEDY, budgets), expected)
    assert tried[0] == TOKENS and sum(tokens > 40 for tokens in tried) > 1
    # What was found to fit is kept, by whichever runner has the same budgets.
    tried.clear()
    records(policy, GREEDY, budgets)
    assert max(tried) <= 40


def assert_same(found: list[Record], expected: list[Record]) -> None:
    """The same texts, and log-probs up to the last digit that is kept."""
    assert [record.index for record in found] == [record.index for record in expected]
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.baseline_logprob == pytest.approx(theirs.baseline_logprob, abs=2e-6)
        for mine, other in zip(ours.samples, theirs.samples, strict=True):
            assert (mine.cot, mine.answer, mine.repetition) == (other.cot, other.answer, other.repetition)
            assert mine.answer_logprob == pytest.approx(other.answer_logprob, abs=2e-6)
            for one, two in zip((*mine.choices, *mine.letters), (*other.choices, *other.letters), strict=True):
                assert one.logprob == pytest.approx(two.logprob, abs=2e-6) and one.greedy == two.greedy


def test_when_nothing_fits_it_says_what_to_do(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampler, "greedy_cots", fits_only(sampler.greedy_cots, 0, contexts))
    with pytest.raises(
        UserError, match=r"out of memory in the rollout phase .*; use a shorter rollout.length, or a sm"
    ):
        records(policy, GREEDY, TokenBudgets(TOKENS))


def test_buffers_are_kept_from_batch_to_batch_until_memory_runs_out() -> None:
    released: list[str] = []
    budgets = TokenBudgets(TOKENS, release=lambda: released.append("graphs"), keeps=True)
    assert budgets.within(SCORE, 1000, lambda tokens: tokens) == TOKENS and not released

    def work(tokens: int) -> int:
        if tokens > 500:
            raise MemoryError
        return tokens

    assert budgets.within(SCORE, 1000, work) == 500 and released == ["graphs"]


def test_a_fixed_budget_repeats_nothing() -> None:
    calls: list[int] = []

    def work(tokens: int) -> None:
        calls.append(tokens)
        raise MemoryError

    with pytest.raises(MemoryError):
        FixedBudget(300).within(SCORE, 1000, work)
    assert calls == [300]


def test_a_temperature_builds_no_second_policy_and_checks_nothing_twice(
    make_policy: Callable[..., Policy], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from markov_cot.rollouts import path_check

    policy, built, checked = make_policy(), list[str](), list[str]()
    monkeypatch.setattr(Policy, "__init__", lambda *_, **__: built.append("policy"))
    monkeypatch.setattr(Policy, "_check_head", lambda *_: checked.append("head"))
    run = path_check._Check.run
    monkeypatch.setattr(path_check._Check, "run", lambda self: checked.append("paths") or run(self))
    budgets = TokenBudgets(TOKENS)
    for i, temperature in enumerate((0.5, 1.5, None)):
        writing = GenerationConfig(LENGTH, temperature=temperature)
        with RecordLog(tmp_path / str(i), {}) as log:
            runner(policy, writing, budgets).run(ITEMS[:2], log, 1)
    assert policy.temperature == 1 and not built and checked == ["paths"]
