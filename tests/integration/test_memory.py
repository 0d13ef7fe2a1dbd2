from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from markov_cot.config.schema import Config
from markov_cot.evaluation import validation
from markov_cot.models import memory, scorer
from markov_cot.models.memory import ROLLOUT, SCORE, SMALLEST, UPDATE, TokenBudgets, ran_out_of_memory
from markov_cot.models.policy import Policy
from markov_cot.rewards import answer_logprob as rewards
from markov_cot.rollouts import decode as decoding
from markov_cot.rollouts import sampling as rollouts
from markov_cot.rollouts.cuda_graphs import StaticDecoder
from markov_cot.training import updater as updates
from markov_cot.utils.errors import UserError
from tests.process_cases import in_float64
from tests.small_runs import config_of, lines, run, start

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


# --- in each phase of a step, while a run trains

STEPS, PROBLEMS, BUDGET = 2, 2, 60
PHASES = {
    "sampling": (ROLLOUT, rollouts, "sample_cots", 1),
    "reward scoring": (SCORE, scorer, "score_answer_tokens_in_batches", 1),
    "reference scoring": (SCORE, scorer, "cot_hidden_in_batches", 1),
    "baseline scoring": (SCORE, rewards, "greedy_cots", 1),
    # Not the first: what earlier micro-batches have added to the gradient must be taken back.
    "update, forward": (UPDATE, updates, "cot_hidden", 2),
    "update, backward": (UPDATE, torch.autograd, "backward", 2),
    "validation": (SCORE, validation, "answer_greedily", 2),  # the first is before the first step
}
"""Phase of a run: whose budget it is, where its work is called from, and the call that fails."""


def with_all_phases(folder: Path) -> Config:
    """Several micro-batches, and a baseline in every step, which an EMA needs."""
    return config_of(
        folder,
        "ema",
        steps=STEPS,
        rollout={"problems": PROBLEMS},
        optim={"micro_batch_tokens": BUDGET},
        validation={"every": STEPS},
        tracking={"samples_every": 1},
        checkpoint={"every": STEPS},
    )


def left_by(folder: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]], dict[str, torch.Tensor]]:
    """Logged metrics, CoTs with their rewards, and parameters of a finished run."""
    samples = (folder / "runs" / "r" / "samples.jsonl").read_text().splitlines()
    adapter = load_file(folder / "checkpoints" / "r" / f"adapter_{STEPS}" / "adapter_model.safetensors")
    return [json.loads(line) for line in lines(folder)], [json.loads(line) for line in samples], adapter


def fails_once(work: Callable[..., Any], call: int, calls: list[int]) -> Callable[..., Any]:
    """`work`, whose results are lost at one call, after all it has done."""

    def failing(*args: Any, **kwargs: Any) -> Any:
        result = work(*args, **kwargs)
        calls.append(1)
        if len(calls) == call:
            raise MemoryError
        return result

    return failing


@pytest.fixture(scope="module")
def _in_float64() -> Iterator[None]:
    """So that rounding, which the size of the parts does change, is far smaller than anything else."""
    with in_float64():
        yield


@pytest.fixture(scope="module")
def undisturbed(_in_float64: None, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What a run leaves that has memory enough."""
    folder = tmp_path_factory.mktemp("undisturbed")
    run(with_all_phases(folder))
    return left_by(folder)


@pytest.mark.parametrize("phase", PHASES)
def test_memory_that_runs_out_in_a_phase_changes_nothing(
    undisturbed: Any, tmp_path: Path, phase: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    budget, module, name, call = PHASES[phase]
    monkeypatch.setattr(memory, "SMALLEST", 1)  # what is small enough to test is too small to halve
    made, calls = start(with_all_phases(tmp_path)), list[int]()
    whole = dict(made.budgets.tokens)
    monkeypatch.setattr(module, name, fails_once(getattr(module, name), call, calls))
    ended = made.run(lambda *_: None)
    assert len(calls) > call and ended.trained is not None
    assert {each for each, tokens in made.budgets.tokens.items() if tokens < whole[each]} == {budget}
    log, samples, adapter = left_by(tmp_path)
    expected_log, expected_samples, expected_adapter = undisturbed
    assert [row["step"] for row in log] == [row["step"] for row in expected_log]
    assert sum(row.get("optim/skipped", 0) for row in log) == 0
    updates_in = [row["perf/update_tokens"] for row in log if "perf/update_tokens" in row]
    assert updates_in == [BUDGET // 2 if budget == UPDATE else BUDGET] * STEPS
    for row, expected in zip(log, expected_log, strict=True):
        assert _computed(row) == pytest.approx(_computed(expected), rel=1e-6, abs=1e-6)
    assert samples == expected_samples
    for key, tensor in expected_adapter.items():
        torch.testing.assert_close(adapter[key], tensor, rtol=0, atol=1e-8)


def _computed(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if not key.startswith("perf/")}


# --- what a phase keeps for its own later calls


@pytest.mark.parametrize("fits", [True, False])
def test_what_a_phase_keeps_is_freed_before_anything_else_is_tried(fits: bool) -> None:
    kept: list[str] = []
    budgets = TokenBudgets(1000, release=kept.clear)
    seen: list[int] = []

    def work(tokens: int) -> str:
        seen.append(len(kept))
        kept.append("buffers")
        if not fits and tokens > 500:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return "done"

    assert budgets.within(ROLLOUT, 1000, work) == "done"
    assert seen == ([0] if fits else [0, 0]) and not kept


def test_a_run_holds_no_buffers_for_decoding_while_it_updates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "decodes_fused", lambda _: False)
    monkeypatch.setattr(Policy, "decodes_statically", lambda self, _: self.shares_prompts)
    made = start(config_of(tmp_path, steps=1))
    used, held = [], []
    gradient, sequences = made.method.updater.gradient, StaticDecoder.sequences

    def counting(self: StaticDecoder, *args: Any) -> Any:
        used.append(len(self._known))
        return sequences(self, *args)

    monkeypatch.setattr(StaticDecoder, "sequences", counting)
    monkeypatch.setattr(
        made.method.updater,
        "gradient",
        lambda *args, **kwargs: (
            held.append(len(decoding.static_decoder(made.session.policy)._known)) or gradient(*args, **kwargs)
        ),
    )
    made.run(lambda *_: None)
    assert used and held and not any(held)
