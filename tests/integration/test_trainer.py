"""The loop: what it writes, what a step computes, and that a resumed run is the run."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import AutoModelForCausalLM

from markov_cot.algorithms.advantages import History
from markov_cot.algorithms.losses import Weights
from markov_cot.algorithms.schedules import learning_rate
from markov_cot.checkpoints import checkpoint as checkpoints
from markov_cot.evaluation.run import Run
from markov_cot.evaluation.validation import Score
from markov_cot.models.batching import pad_left
from markov_cot.models.policy import Policy
from markov_cot.models.source import resolve_source
from markov_cot.tracking.multi import MultiTracker
from markov_cot.training.progress import Progress
from markov_cot.training.trainer import Trainer
from tests.helpers import last_logits
from tests.trainer_helpers import ignore, log, parameters, small_config, trainer


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Trainer:
    made = trainer(small_config(tmp_path_factory.mktemp("finished")))
    made.run(ignore)
    return made


def test_every_logged_key_is_documented_and_a_tensorboard_tag(finished: Trainer) -> None:
    logged = {key for line in log(finished) for key in line} - {"step"}
    documented = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
    for key in logged:
        assert f"`{key.replace('/arithmetic/', '/<dataset>/')}`" in documented, key
    board = EventAccumulator(str(finished.session.folders.run)).Reload()
    raised = {key for line in log(finished) for key, value in line.items() if key.startswith("alarm/") and value}
    calm = {key for key in logged if key.startswith("alarm/")} - raised
    assert logged - calm == set(board.Tags()["scalars"]) - {"hparam/base_accuracy", "hparam/trained_accuracy"}
    assert {"reward/histogram", "advantage/histogram"} == set(board.Tags()["histograms"])
    assert any("samples" in tag for tag in board.Tags()["tensors"])


def test_contracted_keys_are_logged(finished: Trainer) -> None:
    logged = {key for line in log(finished) for key in line}
    contract = """reward/normalized reward/answer_logprob reward/baseline_logprob reward/group_std
        reward/zero_variance_groups policy/cot_logprob policy/reference_ratio policy/kl policy/entropy
        ppo/ratio_mean ppo/ratio_max ppo/clip_fraction cot/repetition cot/answer_in_cot loss/total loss/policy
        loss/kl loss/actor_reward optim/grad_norm optim/lr rollout/logprob_gap perf/step_seconds
        perf/rollout_tokens_per_second perf/peak_memory_bytes eval/arithmetic/accuracy
        eval/arithmetic/accuracy_low eval/arithmetic/accuracy_high"""
    assert set(contract.split()) <= logged


def test_log_has_one_line_a_step_and_validation_when_due(finished: Trainer) -> None:
    lines = log(finished)
    assert [line["step"] for line in lines] == [0, 1, 2, 3, 4]
    assert ["eval/arithmetic/accuracy" in line for line in lines] == [True, False, True, False, True]
    # The baseline is scored on the first of every ten steps.
    assert ["reward/baseline_logprob" in line for line in lines] == [False, True, False, False, False]


def test_first_update_is_on_policy(finished: Trainer) -> None:
    first = log(finished)[1]
    assert abs(first["ppo/ratio_max"] - 1) < 1e-5
    assert first["rollout/logprob_gap"] < 1e-5
    assert first["policy/kl"] == pytest.approx(0, abs=1e-6)
    assert first["policy/reference_ratio"] == pytest.approx(1, abs=1e-6)


def test_plain_peft_loads_a_checkpoint_with_the_actors_logits(finished: Trainer) -> None:
    base = AutoModelForCausalLM.from_pretrained(resolve_source("nano"), dtype=torch.float32)
    plain = PeftModel.from_pretrained(base, finished.state.folder).eval()
    policy = finished.session.policy
    batch = pad_left([policy.tokenizer("Question: What is 1+2?\nReasoning:").input_ids], policy.pad_id, policy.device)
    with torch.no_grad():
        expected = last_logits(policy, batch, 3)
        # PEFT adds the adapter to each output, where ours is folded into the weights.
        assert torch.allclose(last_logits(Policy(plain, policy.tokenizer), batch, 3), expected, atol=1e-5)
        # Without our arguments the head runs over all positions, which rounds differently.
        assert torch.allclose(plain(input_ids=batch.ids_BT).logits[:, -3:], expected, atol=1e-5)
        with plain.disable_adapter():
            assert not torch.allclose(plain(input_ids=batch.ids_BT).logits[:, -3:], expected, atol=1e-2)


@pytest.mark.parametrize("interrupted_after", [2, 3])
def test_interrupted_and_resumed_equals_uninterrupted(
    tmp_path: Path, finished: Trainer, interrupted_after: int
) -> None:
    config = small_config(tmp_path)
    first = trainer(config)
    outcome = first.run(ignore, lambda: first.state.progress.step == interrupted_after)
    assert outcome.interrupted
    second = trainer(config, resume=True)
    assert second.state.progress.step == interrupted_after
    second.run(ignore)
    expected, actual = parameters(finished), parameters(second)
    assert all(torch.equal(actual[name], expected[name]) for name in expected)

    def steady(line: dict[str, Any]) -> dict[str, Any]:
        return {k: v for k, v in line.items() if not k.startswith("perf/")}

    assert list(map(steady, log(second))) == list(map(steady, log(finished)))


def test_training_moves_the_adapter_and_nothing_else(tmp_path: Path) -> None:
    made = trainer(small_config(tmp_path, steps=2))
    before = {name: p.detach().clone() for name, p in made.session.policy.model.named_parameters()}
    made.run(ignore)
    changed = {n for n, p in made.session.policy.model.named_parameters() if not torch.equal(p, before[n])}
    assert changed == set(made.session.policy.trainable())


@pytest.mark.usefixtures("exact_norms")
@pytest.mark.parametrize("actor_reward", [False, True])
def test_micro_batches_do_not_change_the_gradient(tmp_path: Path, actor_reward: bool) -> None:
    reward = {"reader": "actor"} if actor_reward else {}
    algorithm = {"actor_reward_weight": 1.0} if actor_reward else {}
    config = small_config(tmp_path, model={"dtype": "float64"}, reward=reward, algorithm=algorithm)
    made = trainer(config)
    session, updater = made.session, made.method.updater
    with torch.no_grad():  # a fresh adapter is the identity, at which the KL gradient is zero
        for name, p in session.policy.trainable().items():
            if "lora_B" in name:
                p.copy_(0.02 * torch.randn(p.shape, generator=torch.Generator().manual_seed(0)))
    experience, _, _ = made.method.collector.collect(session.shuffle.batch(0, 2), 0, History())
    weights = Weights(kl=0.1, actor_reward=config.algorithm.actor_reward_weight)

    def gradient(token_budget: int) -> torch.Tensor:
        _, parts = updater.gradient(experience, weights, token_budget=token_budget)
        assert (len(parts) == 1) == (token_budget == 10_000)
        return torch.cat([p.grad.flatten() for p in updater.parameters if p.grad is not None])

    whole = gradient(10_000)
    assert whole.norm() > 1e-3
    for budget in (1, 60):
        assert (gradient(budget) - whole).abs().max() < 1e-10


def test_best_checkpoint_is_by_held_out_accuracy_and_outlives_pruning(tmp_path: Path) -> None:
    config = small_config(tmp_path, steps=6, checkpoint={"every": 1, "keep": 1}, validation={"every": 1})
    made = trainer(config)
    values = iter([0.1, 0.2, 0.5, 0.3, 0.4, 0.2, 0.1])
    original = Trainer._validate

    def scored(self: Trainer, tracker: MultiTracker) -> Any:
        return original(self, tracker)[0], (next(values), 0.0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_validate", scored)
        made.run(ignore)
    folder = made.state.folder.parent
    assert (folder / "best").resolve().name == "adapter_2"
    assert (folder / "latest").resolve().name == "adapter_6"
    assert [f.name for f in checkpoints.list_steps(folder)] == ["adapter_2", "adapter_5", "adapter_6"]


def test_the_answers_behind_every_held_out_score_are_kept(tmp_path: Path) -> None:
    config = small_config(tmp_path, steps=4, validation={"every": 2, "problems": 3, "final_problems": 5})
    made = trainer(config)
    made.run(ignore)
    kept = Run(made.session.folders.run)
    assert sorted(kept.validations()) == [0, 2, 4]
    for step, logged in ((row["step"], row) for row in log(made) if "eval/arithmetic/accuracy" in row):
        rows = kept.validations()[step]
        assert sum(row["right"] for row in rows) / len(rows) == logged["eval/arithmetic/accuracy"]
        logprobs = [row["answer_logprob"] for row in rows]
        assert sum(logprobs) / len(rows) == pytest.approx(logged["eval/arithmetic/answer_logprob"])
    summary = kept.summary() or {}
    for policy in ("base", "trained"):
        rows = kept.final_answers(policy)
        assert [row["problem"] for row in rows] == [problem.id for problem in made.session.held_out[:5]]
        assert sum(row["right"] for row in rows) / 5 == summary[policy]["accuracy"]
        assert {"question", "answer", "cot", "reader_answer", "predicted"} <= rows[0].keys()


def test_no_answers_are_kept_where_none_are_wanted(tmp_path: Path) -> None:
    made = trainer(small_config(tmp_path, steps=1, tracking={"validations": False}))
    made.run(ignore)
    assert not (made.session.folders.run / "validation").exists()


def test_a_score_that_is_not_a_number_is_never_the_best() -> None:
    progress, score = Progress(), Score(1, None, 0.0, 0.0, -1.0)
    assert not progress.note(replace(score, answer_logprob=math.nan).value) and progress.since_best == 1
    assert progress.note(score.value) and progress.best == -1.0
    assert not progress.note(replace(score, answer_logprob=math.nan).value) and progress.best == -1.0


def test_the_alarms_know_the_bases_score(tmp_path: Path) -> None:
    made = trainer(small_config(tmp_path, steps=1))
    made.run(ignore)
    assert "eval/arithmetic/accuracy" in str(made.state.monitor.state_dict()["divergence"]["memory"])


def test_early_stop_after_patience(tmp_path: Path) -> None:
    made = trainer(small_config(tmp_path, steps=50, optim={"lr": 1e-9}, validation={"every": 1, "patience": 2}))
    outcome = made.run(ignore)
    assert not outcome.interrupted
    assert made.state.progress.step == 3, "the first validation is the best, and two more pass without a better one"
    assert made.state.folder.exists()


def test_a_gradient_that_is_not_finite_is_left_out(tmp_path: Path) -> None:
    made = trainer(small_config(tmp_path, steps=1, validation={"every": 0}))
    before = parameters(made)
    made.method.updater.parameters[0].register_hook(lambda g: g * float("nan"))
    made.run(ignore)
    assert log(made)[-1]["optim/skipped"] == 1
    assert log(made)[-1]["optim/grad_norm"] is None
    after = parameters(made)
    assert all(torch.equal(after[n], before[n]) for n in before)


def test_learning_rate_schedules(tmp_path: Path) -> None:
    def rates(schedule: str) -> list[float]:
        config = small_config(tmp_path, steps=6, optim={"lr": 1.0, "warmup_steps": 2, "schedule": schedule})
        return [learning_rate(config, step) for step in range(6)]

    assert rates("constant") == [0.5, 1, 1, 1, 1, 1]
    assert rates("linear") == [0.5, 1, 1, 0.75, 0.5, 0.25]
    # 0.5 (1 + cos(pi k / 4)) for k = 0..3
    assert rates("cosine")[2:] == pytest.approx([1, 0.853553, 0.5, 0.146447], abs=1e-6)


@pytest.mark.parametrize("kl", ["full", "k1", "k3"])
def test_kl_estimators_train(tmp_path: Path, kl: str) -> None:
    made = trainer(small_config(tmp_path, steps=2, algorithm={"kl": kl}, validation={"every": 0}))
    made.run(ignore)
    assert all(line["loss/total"] is not None for line in log(made))


def test_the_base_answers_for_itself_when_the_actor_is_the_reader(tmp_path: Path) -> None:
    made = trainer(small_config(tmp_path, reward={"reader": "actor"}))
    problems = made.session.held_out[:4]
    before, _ = made.score("critic", problems)
    with torch.no_grad():
        for p in made.method.updater.parameters:
            p.add_(0.1)
    assert made.score("critic", problems)[0] == before
    assert made.score("actor", problems)[0].answer_logprob != before.answer_logprob


def test_non_markovian_and_actor_reader_train(tmp_path: Path) -> None:
    config = small_config(
        tmp_path,
        steps=2,
        prompt={"markovian": False},
        reward={"reader": "actor"},
        algorithm={"actor_reward_weight": 1.0},
    )
    made = trainer(config)
    made.run(ignore)
    assert log(made)[-1]["loss/actor_reward"] != 0
