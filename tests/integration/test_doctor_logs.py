"""`markov-cot doctor` on logs of other programs, on published runs, and on hostile ones."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from markov_cot.alarms.replay import examine
from tests.command_fixtures import Cli

LOGS = Path(os.environ.get("MARKOV_COT_DATA", "none")) / "logs"
real = pytest.mark.skipif(not LOGS.is_dir(), reason="needs the published logs")
TEXT_ALARMS = {"repetition", "unstated", "compression", "refusal", "symbols"}


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(path: Path, rows: Iterable[Any]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


# --- published runs


@real
@pytest.mark.parametrize(
    ("name", "flagged"),
    [
        ("markovian_arithmetic_mistral_EI1.log", set()),  # dips, and recovers
        ("markovian_arithmetic_mistral_EI3.log", {"compression", "repetition", "reward", "unstated", "symbols"}),
        ("markovian_arithmetic_mistral_PG1.log", {"compression", "repetition", "reward", "unstated"}),
        ("markovian_arithmetic_mistral_PPO3.log", {"unstated"}),  # the reward rises, and no CoT states the answer
        ("markovian_arithmetic_llama_ei.jsonl", set()),
    ],
)
def test_published_runs(name: str, flagged: set[str]) -> None:
    report = examine(LOGS / name)
    assert {event.alarm for event in report.critical} == flagged
    assert set(report.judged) >= TEXT_ALARMS


@real
def test_text_is_alarming_before_the_reward_is() -> None:
    for name in ("EI3", "PG1"):
        critical = {e.alarm: e.step for e in examine(LOGS / f"markovian_arithmetic_mistral_{name}.log").critical}
        assert max(critical["compression"], critical["unstated"]) < critical["repetition"] < critical["reward"]


@real
def test_a_constant_batch_index_counts_rows() -> None:
    report = examine(LOGS / "markovian_arithmetic_llama_ei.jsonl")
    assert (report.rows, report.first_step, report.last_step) == (204, 0, 203)


@real
def test_a_published_trainer_state(cli: Cli) -> None:
    code, out, _ = cli("doctor", str(LOGS / "trl_grpo_trainer_state_chaos_250steps_truncated.json"))
    assert code == 0 and out.startswith("healthy\n")
    assert "50 rows, steps 5 to 250" in out
    assert "judged: ratio, kl, dead_groups, non_finite; no data for: reward, " in out


# --- logs of other trainers


def test_a_trainer_state_that_goes_wrong(cli: Cli) -> None:
    history = [{"step": 5 * i, "kl": 0.01 if i < 20 else 5.0, "reward": 0.5} for i in range(1, 30)]
    Path("trainer_state.json").write_text(json.dumps({"log_history": history}))
    for name in ("trainer_state.json", "."):
        code, out, _ = cli("doctor", name)
        assert code == 3 and out.startswith("critical: kl at step 100\n")


def test_event_files_of_other_trainers(cli: Cli) -> None:
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter("board")
    for step in range(30):
        writer.add_scalar("train/entropy_loss", 1.0 if step < 20 else 0.001, step)
    writer.close()
    code, out, _ = cli("doctor", "board")
    assert code == 3 and out.startswith("critical: entropy at step 20\n")
    assert "board: 30 rows, steps 0 to 29" in out


def test_completions_of_trl(cli: Cli) -> None:
    good, bad = "First 12+35 is 47, so the sum of both must be 47.", "so so so so so so so so so so so so so so"
    rows = [
        {"step": step, "prompt": "12+35?", "completion": good if step < 10 else bad, "answer": "47", "advantage": 0.0}
        for step in range(20)
        for _ in range(16)
    ]
    code, out, _ = cli("doctor", write(Path("completions.jsonl"), rows))
    assert code == 3 and out.startswith("critical: repetition at step 1")
    assert 'Example CoT: "so so so' in out
    assert "no data for: ratio, reward, entropy" in out and "unstated" in out.rpartition("no data for")[2]


def test_without_texts_it_says_what_had_no_data(cli: Cli) -> None:
    code, out, _ = cli("doctor", write(Path("log.jsonl"), [{"step": i, "kl": 0.1} for i in range(5)]))
    silent = out.rpartition("no data for: ")[2]
    assert code == 0 and all(name in silent for name in TEXT_ALARMS) and "(see --explain)" in silent


def test_explain(cli: Cli) -> None:
    code, out, _ = cli("doctor", "--explain")
    assert code == 0
    for line in ("frac_reward_zero_std  ", "actor/pg_clipfrac  ", "ppo_clip_ratio  ", "entropy/all/mean  "):
        assert line in out
    assert "  unstated     cot/answer_in_cot and reward/answer_logprob" in out
    code, out, _ = cli("doctor", "--explain", "--json")
    explained = json.loads(out)
    assert code == 0 and explained["names"]["verl"]["actor/entropy"] == "policy/entropy"
    assert explained["alarms"]["symbols"] == ["cot/symbols"]


# --- hostile texts


@pytest.mark.parametrize(
    "text",
    ["\x00" * 100, "a" * 1_000_000, "\x1b[31mred\x1b[2J", "‮evil‬", "\ud800", "i cannot " * 20_000],
    ids=["nul", "one character", "ansi", "right to left", "half a pair", "refusals"],
)
def test_hostile_cots(cli: Cli, text: str) -> None:
    """Whatever the CoTs hold, the log is judged and nothing of it reaches the terminal raw."""
    fine = [f"{i} + {i + 1} makes {2 * i + 1}, as one may count on the fingers of both hands" for i in range(20)]
    rows = [
        {"Batch Index": i, "Action": cot, "Observation": "Answer: 47", "Normalized Reward": 1.0}
        for i, cot in enumerate([*fine, *[text] * 20])
    ]
    rows += [{"Batch Index": 40, "Action": text, "Normalized Reward": -90.0}]
    code, out, err = cli("doctor", write(Path("hostile.log"), rows))
    assert code == 3, err
    assert not set("\x00\x1b‮‬\ud800") & set(out + err)
    assert len(out) < 20_000
