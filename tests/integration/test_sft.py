"""Supervised fine-tuning: its loss, what it shares with training by reward, and the command."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from markov_cot.api import train
from markov_cot.config.schema import Config, Lora
from markov_cot.data.prompts import AnswerContext
from markov_cot.evaluation.answering import answer_greedily
from markov_cot.evaluation.run import Run
from markov_cot.evaluation.validation import Mark, Score, mark
from markov_cot.models.roles import CRITIC
from markov_cot.tracking.multi import MultiTracker
from markov_cot.training.supervised import FAILURE, LOSS, Supervised
from markov_cot.training.trainer import Trainer
from markov_cot.utils.errors import UserError
from tests.command_fixtures import Cli
from tests.small_runs import config_of, differences, outcome, run, start, warm

SFT: dict[str, Any] = {"steps": 4, "batch": 3, "limit": 12, "every": 2, "lr": 1e-2, "warmup_ratio": 0.0}
MARK = Mark(False, -1.0, None, "", "", None)


@pytest.fixture(scope="module", autouse=True)
def _warm() -> Iterator[None]:
    with warm():
        yield


def config(folder: Path, **overrides: Any) -> Config:
    sft = SFT | overrides.pop("sft", {})
    return config_of(folder, method="sft", sft=sft, rollout={"length": 24}, **overrides)


def method(made: Trainer) -> Supervised:
    assert isinstance(made.method, Supervised)
    return made.method


def rows(made: Trainer) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (made.session.folders.run / "log.jsonl").read_text().splitlines()]


def nll(made: Trainer, target: AnswerContext) -> torch.Tensor:
    """-log p of each learnt token, by transformers and PEFT as their authors wrote them."""
    ids = torch.tensor([[*target.ids, *target.answer_ids]])
    with made.session.policy.by_plain_modules() as model:
        logits = model(input_ids=ids).logits[0, len(target.ids) - 1 : -1]
    return F.cross_entropy(logits, torch.tensor(target.answer_ids), reduction="none")


# --- the loss


@pytest.mark.parametrize("loss_on", ["cot_answer", "cot", "all"])
def test_the_loss_is_that_of_plain_transformers(tmp_path: Path, loss_on: str) -> None:
    made = start(config(tmp_path, sft={"loss_on": loss_on, "answer": "\nAnswer: {answer}!"}))
    sft = method(made)
    with torch.no_grad():
        for parameter in sft.parameters:  # an adapter that does something
            parameter.add_(0.01)
    chosen = [0, 1, 2, 3]
    losses = [nll(made, sft._targets[i]) for i in chosen]
    expected = torch.cat(losses)
    for parameter in sft.parameters:
        parameter.grad = None
    expected.mean().backward()
    gradient = torch.cat([p.grad.flatten().clone() for p in sft.parameters if p.grad is not None])
    total = len(expected)
    for budget in (1 << 20, 40):  # at once, and one by one
        cot, answer, counted = sft._gradient(chosen, total, budget)
        assert (cot + answer) / total == pytest.approx(expected.mean().item(), abs=1e-5)
        found = torch.cat([p.grad.flatten() for p in sft.parameters if p.grad is not None])
        torch.testing.assert_close(found, gradient, rtol=1e-4, atol=1e-6)
    stated = [0 if loss_on == "cot" else len(made.session.worked.examples[i].answer) for i in chosen]  # type: ignore[union-attr]
    parts = [loss[: len(loss) - count].sum().item() for loss, count in zip(losses, stated, strict=True)]
    assert cot == pytest.approx(sum(parts), rel=1e-5) and counted == total - sum(stated)


def test_the_loss_at_step_0_is_that_of_trl(tmp_path: Path) -> None:
    trl = pytest.importorskip("trl", reason="trl is not installed")
    datasets = pytest.importorskip("datasets")
    made = start(config(tmp_path, sft={"batch": 12, "steps": 1}))
    sft = method(made)
    targets = sft._targets
    data = datasets.Dataset.from_list(
        [
            {
                "input_ids": [*target.ids, *target.answer_ids],
                "completion_mask": [0] * len(target.ids) + [1] * len(target.answer_ids),
            }
            for target in targets
        ]
    )
    arguments = trl.SFTConfig(
        output_dir=str(tmp_path / "trl"),
        per_device_train_batch_size=len(targets),
        max_steps=1,
        learning_rate=1e-9,
        completion_only_loss=True,
        max_length=None,
        report_to=[],
        logging_steps=1,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
    )
    with made.session.policy.by_plain_modules() as model:
        theirs = trl.SFTTrainer(
            model=model, args=arguments, train_dataset=data, processing_class=made.session.policy.tokenizer
        )
        theirs.train()
    [loss] = [row["loss"] for row in theirs.state.log_history if "loss" in row]
    assert sft._update(range(len(targets)))["loss/total"] == pytest.approx(float(loss), abs=1e-4)


def test_the_held_out_loss_is_the_mean_over_all_tokens(tmp_path: Path) -> None:
    made = start(config(tmp_path))
    metrics, _ = made._validate(MultiTracker())
    held_out = made.session.worked.held_out  # type: ignore[union-attr]
    expected = torch.cat([nll(made, example.target("cot_answer")) for example in held_out]).mean().item()
    assert metrics["eval/arithmetic/loss"] == pytest.approx(expected, abs=1e-5) and len(held_out) == 2


# --- what is hard


def test_hard_examples_are_those_with_the_largest_loss_by_the_base(tmp_path: Path) -> None:
    made = start(config(tmp_path, sft={"hard_repeats": 3, "hard_share": 0.25, "curriculum": True}))
    sft = method(made)
    order = sft._make_order()
    with torch.no_grad():
        losses = [nll(made, target).mean().item() for target in sft._targets]  # a fresh adapter is the base
    assert [sft.remembered.known[f"{LOSS}/{i}"] for i in range(12)] == pytest.approx(losses, abs=1e-5)
    by_loss = sorted(range(12), key=losses.__getitem__)
    assert len(order) == 12 + 2 * 3
    assert order.batch(0, len(order)) == [*by_loss[:9], *(i for i in by_loss[9:] for _ in range(3))]


def test_or_those_that_the_base_answers_wrongly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = start(config(tmp_path, sft={"hard_repeats": 2, "hard_by": "failure", "steps": 3}))
    sft = method(made)
    order = sft._make_order()
    known = [sft.remembered.known[f"{FAILURE}/{i}"] for i in range(12)]
    problems = [example.problem for example in sft._worked.examples]
    policy, readers = made.session.policy, made.session.readers.for_base()
    answers = answer_greedily(policy, readers, problems, 24, writer=CRITIC, batch=12, token_budget=9999)
    assert known == [float(not mark(answer).right) for answer in answers] and 0 < sum(known) <= 12
    assert len(order) == 12 + sum(known)
    monkeypatch.setattr(sft, "_failures", lambda: pytest.fail("it is known"))
    assert sft._make_order().batch(0, 5) == order.batch(0, 5)


# --- what it shares with training by reward


def test_it_learns_and_is_resumed_to_the_same_bytes(tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    settings = {"hard_repeats": 2, "curriculum": True}
    ended = run(config(whole, sft=settings))
    assert ended.base and ended.trained
    logged = rows(start(config(whole, sft=settings), resume=True))
    documented = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
    for key in {key for row in logged for key in row} - {"step"}:
        assert f"`{key.replace('/arithmetic/', '/<dataset>/')}`" in documented, key
    assert [row["step"] for row in logged] == [0, 1, 2, 3, 4]
    assert logged[-1]["eval/arithmetic/loss"] < logged[0]["eval/arithmetic/loss"]
    assert run(config(parts, sft=settings), stop=lambda made: made.state.progress.step == 2).interrupted
    run(config(parts, sft=settings), resume=True)
    assert differences(parts, outcome(whole)) == []


def test_the_best_checkpoint_may_be_that_of_least_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = iter([3.0, 1.0, 2.0, 2.5])
    monkeypatch.setattr(Supervised, "_losses", lambda self, targets, role: [next(losses)] * len(targets))
    made = start(config(tmp_path, sft={"best": "loss", "every": 1, "steps": 3}))
    made.run(lambda *_: None)
    assert made.state.progress.best == -1.0 and made.state.progress.best_step == 1
    assert (made.state.folder.with_name("best")).resolve().name == "adapter_1"


def test_of_equal_scores_the_one_of_less_loss_is_best(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = iter([3.0, 2.0, 1.0, 1.5])
    monkeypatch.setattr(Supervised, "_losses", lambda self, targets, role: [next(losses)] * len(targets))
    score = Score(2, 0.5, 0.0, 1.0, -1.0)
    monkeypatch.setattr(Trainer, "score", lambda _, __, problems: (score, [MARK] * len(problems)))
    made = start(config(tmp_path, sft={"every": 1, "steps": 3}))
    made.run(lambda *_: None)
    assert (made.state.progress.best, made.state.progress.best_step) == (0.5, 2)


def test_training_by_reward_continues_from_it(tmp_path: Path) -> None:
    warmed = run(config(tmp_path / "sft"))
    plain = config_of(tmp_path / "rl", rollout={"length": 24})
    made = start(plain.model_copy(update={"lora": Lora(init=str(warmed.checkpoint))}))
    before = load_file(warmed.checkpoint / "adapter_model.safetensors")
    now = {name.replace(".default", ""): p for name, p in made.session.policy.trainable().items()}
    assert all(torch.equal(now[name], tensor) for name, tensor in before.items())


def test_a_change_of_the_cots_is_noticed_on_resuming(tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(Path("mine.jsonl"), 12)
    small = ("--set=rollout.length=20", "--set=validation.final_problems=2", "--set=sft.batch=2")
    assert cli("sft", "mine.jsonl", "--run", "a", "--steps", "1", *small)[0] == 0
    write(Path("mine.jsonl"), 12, cot="another one")
    code, _, err = cli("sft", "--run", "a", "--resume", *small)
    assert code == 2 and "are not those that adapter_1 was trained on" in err


# --- the command


def write(path: Path, count: int, **changes: Any) -> None:
    rows = [{"question": f"What is {i}+1?", "cot": f"{i}+1={i + 1}", "answer": i + 1} | changes for i in range(count)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_runs_best_rollouts_are_learnt(workplace: Path, cli: Cli) -> None:
    more = ("--set=tracking.rollouts=1", "--set=rollout.length=8", "--set=validation.final_problems=2")
    train = ("train", "--steps", "2", "--run", "rl", "--set=rollout.samples=4", "--set=data.terms=[2,2]", *more)
    assert cli(*train)[0] == 0
    code, out, err = cli("sft", "--from-run", "rl", "--top", "2", "--run", "warm", "--set=sft.batch=2", "--steps", "2")
    assert code == 0 and "train --dataset arithmetic --model nano --init checkpoints/warm/" in out
    kept = [json.loads(line) for line in (workplace / "runs/warm/rows.jsonl").read_text().splitlines()]
    by_question: dict[str, list[float]] = {}
    for row in kept:
        by_question.setdefault(row["question"], []).append(row["reward"])
    assert all(rewards == sorted(rewards, reverse=True) and len(rewards) <= 2 for rewards in by_question.values())
    for question, rewards in by_question.items():
        assert rewards[0] == max(row["reward"] for row in Run("rl").rollouts() if row["question"] == question)
    assert "written CoTs to learn in 2 steps of 2" in err
    assert Run("warm").config.method == "sft" and Run("warm").config.sft.rows == "runs/warm/rows.jsonl"
    assert cli("train", "--run", "warm", "--resume")[0] == 0, "either command resumes it"


def test_a_dry_run_estimates_and_writes_nothing(workplace: Path, cli: Cli) -> None:
    before = sorted(workplace.rglob("*"))
    small = ("--set=sft.limit=8", "--set=rollout.length=8", "--set=validation.final_problems=2", "--set=sft.batch=2")
    code, out, _ = cli("sft", "arithmetic", "--model=nano", "--dry-run", "--json", "--steps", "3", *small)
    assert code == 0 and json.loads(out)["steps"] == 3
    assert sorted(workplace.rglob("*")) == before


def test_so_does_one_of_a_runs_rollouts(workplace: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    row = {"question": "What is 1+1?", "passage": "", "choices": [], "answer": "2", "cot": "1+1=2", "reward": 0.0}
    monkeypatch.setattr(Run, "rollouts", lambda self: [row | {"step": 1}])
    before = sorted(workplace.rglob("*"))
    code, out, err = cli("sft", "--from-run", "r", "--dry-run", "--set=sft.batch=2", "--seed", "0")
    assert code == 0 and "all is well" in out, err
    assert sorted(workplace.rglob("*")) == before


def test_zero_is_a_seed(workplace: Path, cli: Cli) -> None:
    write(workplace / "mine.jsonl", 12)
    (workplace / "mine.yaml").write_text("seed: 7\ndata: {dataset: mine.jsonl}\nrollout: {length: 20}\n")
    small = ("--steps", "1", "--set=sft.batch=2", "--set=validation.final_problems=2")
    assert cli("sft", "--config", "mine.yaml", "--run", "z", "--seed", "0", *small)[0] == 0
    assert Run("z").config.seed == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "sft: there is nothing to learn; give a .jsonl file, a dataset's name, or --from-run RUN"),
        (("nothing.jsonl",), "nothing.jsonl: does not exist"),
        (("choices.jsonl",), "dataset choices: has no worked question to learn from"),
        (("--from-run", "r"), "run r: has kept no rollouts to learn from; train with --set tracking.rollouts=1"),
        (("--from-run", "r", "choices.jsonl"), "--from-run: takes data and settings of the run itself"),
        (("--from-run", "r", "--resume"), "--from-run: a resumed run has its rows already"),
        (("arithmetic", "--set=optim.lr=1"), "optim.lr: is of training by reward; supervised fine-tuning has sft.lr"),
        (("arithmetic", "--model=nano", "--set=sft.rows=no.jsonl"), "sft.rows no.jsonl: does not exist"),
        (("arithmetic", "--set=model.shard=true"), "model.shard: not with method=sft"),
        (("--run", "r", "--resume", "--accept-changes"), "run r: is trained by reward, not on written CoTs; resume it"),
        (("arithmetic", "--set=method=rl"), "--set method: is sft in this command"),
        (("arithmetic", "--set=data.dataset=words"), "--set data.dataset: is arithmetic, as given"),
        (("arithmetic", "--steps", "0"), "sft.steps"),
    ],
)
def test_bad_input_is_one_line(workplace: Path, cli: Cli, arguments: tuple[str, ...], says: str) -> None:
    before = sorted(workplace.rglob("*"))
    code, out, err = cli("sft", *arguments)
    assert code == 2 and not out and says in err
    assert "Traceback" not in err and sorted(workplace.rglob("*")) == before


def test_a_reward_of_ones_own_has_no_place_in_it(workplace: Path) -> None:
    write(workplace / "mine.jsonl", 12)
    with pytest.raises(UserError, match="reward: has no effect with method=sft"):
        train(dataset="mine.jsonl", recipe=None, run="w", reward=lambda batch: [], settings={"method": "sft"})
    assert not (workplace / "runs" / "w").exists()


def test_labels_alone_are_learnt(workplace: Path, cli: Cli) -> None:
    small = ("--set=rollout.length=20", "--set=sft.batch=2", "--set=validation.final_problems=2")
    code, _, err = cli("sft", "choices.jsonl", "--run", "b", "--steps", "1", "--set=sft.bare=answer", *small)
    assert code == 0 and "are learnt by their answer alone" in err
    logged = [json.loads(line) for line in (workplace / "runs/b/log.jsonl").read_text().splitlines()]
    assert logged[-1]["sft/answer_loss"] == pytest.approx(logged[-1]["loss/total"])
    assert "sft/cot_loss" not in logged[-1]


def test_an_empty_cot_is_no_cot(workplace: Path, cli: Cli) -> None:
    write(workplace / "mine.jsonl", 12, cot="  ")
    code, _, err = cli("sft", "mine.jsonl")
    assert code == 2 and "have no written CoT, or one that is wrong, and are left out" in err
