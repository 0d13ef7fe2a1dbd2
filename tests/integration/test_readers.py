"""Runs whose reader is not the frozen base, and evaluations by another one, from the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.command_fixtures import SMALL, Cli
from tests.other_models import write_other
from tests.small_runs import config_of, outcome, run, warm


def log_of(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path("runs", name, "log.jsonl").read_text().splitlines()]


def manifest_of(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path("checkpoints", name, "latest", "manifest.json").read_text())
    return found


def test_a_run_with_readers_of_two_tokenizers(workplace: Path, cli: Cli) -> None:
    other = write_other(workplace / "other")
    both = f"reward.reader=[base, {other}]"
    code, _, err = cli("train", "--run", "both", *SMALL, "--set", both, "--set", "reward.combine=min")
    assert code == 0, err
    row = log_of("both")[-1]
    assert row["reward/value"] <= min(row["reward/reader/base"], row["reward/reader/other"]) + 1e-6
    assert row["reader/lost_characters"] >= 0
    [about] = manifest_of("both")["readers"]
    assert about["name"] == str(other) and len(about["fingerprint"]) == 64 and about["dtype"] == "float32"
    assert "both" in cli("runs")[1]
    # With the same weights it goes on, with others it does not.
    more = ("train", "--run", "both", "--resume", "--set", "steps=2")
    assert cli(*more)[0] == 0
    write_other(
        workplace / "other", places=500
    )  # the same weights with a shorter context: what is compared are weights
    assert cli(*more, "--set", "steps=3")[0] == 0
    import torch
    from transformers import LlamaForCausalLM

    changed = LlamaForCausalLM.from_pretrained(other)
    with torch.no_grad():
        changed.lm_head.weight.add_(1.0)
    changed.save_pretrained(other)
    code, _, err = cli(*more, "--set", "steps=4")
    assert code == 2 and "was trained with other readers' weights than those of" in err


def test_a_run_with_a_lagged_reader_resumes_bit_for_bit(tmp_path: Path) -> None:
    for name, settings in (("every", {"lag_every": 2}), ("average", {"lag_decay": 0.5})):
        reward = {"reader": "lagged", **settings}
        whole, parts = (config_of(tmp_path / name / each, steps=3, reward=reward) for each in ("whole", "parts"))
        with warm():
            run(whole)
            run(parts, stop=lambda made: made.state.progress.step == 1)
            run(parts, resume=True)
        ours, theirs = (outcome(tmp_path / name / each) for each in ("parts", "whole"))
        assert ours == theirs, name


def test_an_evaluation_by_another_reader_takes_the_cots_that_are_there(
    workplace: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = write_other(workplace / "other")
    command = ("eval", "--run", "r", "--checkpoint", "adapter_4", "--limit", "3", "--against", "none", "--json")
    own = json.loads(cli(*command)[1])
    monkeypatch.setattr(
        "markov_cot.rollouts.sampler.Sampler.greedy_cots",
        lambda *_: pytest.fail("the CoTs of the first evaluation are there"),
    )
    code, out, err = cli(*command, "--reader", str(other))
    assert code == 0, err
    found = json.loads(out)
    assert found["configs"]["arithmetic"]["readers"][0]["name"] == str(other)
    value = "answer_logprob,none"
    assert found["results"]["arithmetic"][value] != own["results"]["arithmetic"][value]


def test_what_actor_and_reader_read_is_shown(workplace: Path, cli: Cli) -> None:
    command = ("sample", "What is 2+3?", "--run", "r", "--show-prompt")
    code, out, _ = cli(*command)
    assert code == 0
    assert "--- the actor reads\n<s>Question: What is 2+3?\nReasoning:\n" in out
    assert "--- base reads\n<s>Question: [redacted]\nReasoning:[CoT: 12 tokens]\nAnswer:[answer]\n" in out
    other = write_other(workplace / "other", chat=True)
    settings = ("--set", f"reward.reader={other}", "--set", "prompt.answer=Notes:{cot}")
    shown = json.loads(cli(*command, "--json", *settings)[1])[0]
    assert shown["answers"]["other"].startswith("<turn>user\nNotes:[CoT: 12 tokens]</turn>")


def test_the_readers_check_alone_and_in_a_run(workplace: Path, cli: Cli, caplog: pytest.LogCaptureFixture) -> None:
    found = json.loads(cli("sample", "--run", "r", "--reader-check", "--n", "8", "--json")[1])
    assert found["n"] == 8 and found["reader"] == "base"
    assert 0 <= found["reader/floor"] <= found["reader/ceiling"] <= 1
    code, out, _ = cli("sample", "--run", "r", "--reader-check", "--n", "8")
    assert code == 0 and "states the answer (ceiling)" in out and "is empty (floor)" in out
    settings = (f"reward.reader={write_other(workplace / 'deaf')}", "validation.reader_check=2")
    assert cli("train", "--run", "deaf", *SMALL, *(f"--set={each}" for each in settings))[0] == 0
    first = log_of("deaf")[0]
    assert first["step"] == 0 and first["reader/ceiling"] < 0.5
    assert "the reader gives a stated answer back in" in caplog.text and "change prompt.answer" in caplog.text


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["prompt.question=Say {questoin}"], "prompt.question: the field {questoin} is not known"),
        (["prompt.answer={question} {cot}"], "prompt.answer: names {question}, which the reader must not see"),
        (["prompt.answer=Nothing."], "prompt.answer: for numeric answers the reader is shown {cot} 0 times"),
        (["reward.reader=nowhere/to/be/found"], "reward.reader: model nowhere/to/be/found"),
        (["reward.reader={other}", "reward.reader_device=mps"], "reward.reader_device: there is no mps device here"),
        (["reward.reader=[]"], "reward.reader: give base, actor, lagged, a model"),
        (["reward.reader={short}"], "reader short: its context of 16 tokens has no room for a CoT of 8 tokens"),
        (["reward.reader={other}", "prompt.answer_chat=true"], "has no chat template"),
        (["algorithm.entropy_target=2"], "algorithm.entropy_target: the weight it adapts starts at"),
    ],
)
def test_a_fault_is_one_line(workplace: Path, cli: Cli, settings: list[str], message: str) -> None:
    short, other = write_other(workplace / "short", places=16), write_other(workplace / "other")
    options = [each.replace("{short}", str(short)).replace("{other}", str(other)) for each in settings]
    code, out, err = cli("train", "--run", "x", *SMALL, *(part for each in options for part in ("--set", each)))
    assert (code, out) == (2, "")
    assert message in err and "Traceback" not in err and len(err.strip().splitlines()) == 1, err
    assert not Path("runs/x").exists()
