"""Rollouts by vLLM, as far as that can be seen without it: against a stub of its documented interface."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from markov_cot.cli.main import main
from markov_cot.models.policy import Policy
from markov_cot.rollouts.vllm_engine import VllmEngine
from tests import small_runs, vllm_stub
from tests.small_runs import config_of, outcome, warm

VLLM = {"rollout": {"decoder": "vllm"}}
TRAIN = [
    "train", "--run", "r", "--steps", "3", "--set=rollout.decoder=vllm", "--set=rollout.problems=1",
    "--set=rollout.samples=2", "--set=rollout.length=5", "--set=validation.every=0", "--set=model.device=cpu",
    "--set=validation.final_problems=2", "--set=optim.lr=0.01",
]  # fmt: skip


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    with warm():
        yield


def train(*options: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main([*TRAIN, *options])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def log() -> list[dict[str, float]]:
    return [json.loads(line) for line in Path("runs/r/log.jsonl").read_text().splitlines()]


def refusal(capsys: pytest.CaptureFixture[str], *options: str) -> str:
    capsys.readouterr()
    assert train(*options) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("markov-cot: ")]
    assert len(lines) == 1, lines
    return lines[0]


def test_a_run_samples_from_its_actor_as_it_is_at_each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    llm = vllm_stub.install(monkeypatch)
    assert train("--set=rollout.engine={gpu_memory_utilization: 0.5, seed: 7}", "--set=rollout.temperature=1.3") == 0
    (made,) = llm.made
    assert Path(made.model).is_dir()
    assert made.arguments == {
        "dtype": "float32",
        "enable_lora": True,
        "generation_config": "vllm",
        "gpu_memory_utilization": 0.5,
        "logprobs_mode": "processed_logprobs",
        "max_lora_rank": 8,
        "max_loras": 1,
        "max_model_len": 1024,
        "revision": None,
        "seed": 7,
        "trust_remote_code": False,
    }
    # Once to see that it has the adapter, then once a step.
    assert [len(prompts) for prompts, _ in made.asked] == [3, 2, 2, 2]
    assert all(wanted.temperature == 1.3 for _, params in made.asked for wanted in params)
    # The actor moves by far more than this, so it is handed over again at each step.
    assert max(row["rollout/logprob_gap"] for row in log()) < 1e-5
    assert log()[-1]["policy/kl"] > 1e-3
    assert all(row["rollout/importance_max"] == 1 for row in log())


def test_an_adapter_that_is_not_renewed_shows_in_the_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("markov_cot.training.trainer.check_engine", lambda *_: None)
    vllm_stub.install(monkeypatch, keeps_first_adapter=True)
    assert train() == 0
    first, *others = [row["rollout/logprob_gap"] for row in log()]
    assert first < 1e-5 and min(others) > 1e-3


def test_other_rounding_is_corrected_and_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    vllm_stub.install(monkeypatch, sharpness=1.02)
    assert train() == 0
    assert all(1e-3 < row["rollout/logprob_gap"] < 0.5 for row in log())
    assert any(row["rollout/importance_max"] > 1 for row in log()), log()


@pytest.mark.parametrize(
    ("flaws", "options", "expected"),
    [
        ({"ignores_adapter": True}, (), "it leaves out the adapter, or has another base; set rollout.decoder=auto"),
        ({"stops_early": True}, (), "wrote 3 CoTs of [4] tokens instead of 3 of 5; set rollout.decoder=auto"),
        (
            {},
            ("--set=rollout.engine.gpu_memory_utilization=2",),
            "rollout.decoder vllm: does not start (gpu_memory_utilization must be at most 1); see rollout.engine",
        ),
        ({}, ("--set=algorithm.importance_cap=0",), "would leave the difference between vLLM's sampling and training"),
        ({}, ("--set=rollout.decoder=auto", "--set=rollout.engine.seed=1"), "rollout.engine: has no effect without"),
    ],
)
def test_what_cannot_work_is_one_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    flaws: dict[str, Any],
    options: tuple[str, ...],
    expected: str,
) -> None:
    vllm_stub.install(monkeypatch, **flaws)
    assert expected in refusal(capsys, *options)


def test_a_start_that_fails_leaves_the_name_free(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    vllm_stub.install(monkeypatch)
    assert "does not start" in refusal(capsys, "--set=rollout.engine.gpu_memory_utilization=2")
    assert train("--steps=1") == 0


def test_where_it_is_not_installed_the_line_says_how_to(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    assert "pip install 'markov-cot[vllm]', or set rollout.decoder=auto" in refusal(capsys)
    assert not Path("runs/r").exists()


def test_a_resumed_run_draws_what_the_uninterrupted_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vllm_stub.install(monkeypatch)
    whole, parts = (config_of(tmp_path / name, steps=2, **VLLM) for name in ("whole", "parts"))
    small_runs.run(whole)
    small_runs.run(parts, stop=lambda made: made.state.progress.step == 1)
    small_runs.run(parts, resume=True)
    assert small_runs.differences(tmp_path / "parts", outcome(tmp_path / "whole")) == []


def test_each_cot_has_a_seed_of_its_own(monkeypatch: pytest.MonkeyPatch, make_policy: Any) -> None:
    class Silent(vllm_stub.LLM):
        def _continued(self, model: Any, ids: list[int], wanted: Any) -> Any:
            seeds.append(wanted.seed)
            assert not policy.banned_V[wanted.allowed_token_ids].any()
            assert len(wanted.allowed_token_ids) == int((~policy.banned_V).sum())
            token = wanted.allowed_token_ids[wanted.seed % 50]
            return vllm_stub.CompletionOutput(
                (token,) * wanted.max_tokens, [{token: vllm_stub.Logprob(-0.5)}] * wanted.max_tokens
            )

        def generate(self, prompts: Any, sampling_params: Any, **_: Any) -> Any:
            asked.extend(each["prompt_token_ids"] for each in prompts)
            pairs = zip(prompts, sampling_params, strict=True)
            return [
                vllm_stub.RequestOutput([self._continued(None, p["prompt_token_ids"], wanted)]) for p, wanted in pairs
            ]

    vllm_stub.install(monkeypatch)
    monkeypatch.setattr(sys.modules["vllm"], "LLM", Silent)
    policy: Policy = make_policy()
    seeds: list[int] = []
    asked: list[list[int]] = []
    uniform_PGL = np.array([[[0.0, 0.9], [0.5, 0.9], [1 - 2**-53, 0.9]], [[0.25, 0.9], [0.5, 0.1], [0.75, 0.9]]])
    rollouts = VllmEngine({}).write(policy, [[5, 6], [7]], uniform_PGL)
    assert seeds == [0, 2**30, 2**31 - 1, 2**29, 2**30, 3 * 2**29]
    assert asked == [[5, 6]] * 3 + [[7]] * 3
    assert (rollouts.contexts, rollouts.samples) == ([[5, 6], [7]], 3)
    assert rollouts.cot_BL.shape == rollouts.behaviour_logp_BL.shape == (6, 2)
    assert rollouts.cot_BL[1].equal(rollouts.cot_BL[4])
    assert rollouts.behaviour_logp_BL.eq(-0.5).all()
