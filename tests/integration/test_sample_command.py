"""`markov-cot sample`: side by side, from the CoT alone, safe to print."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from markov_cot.tracking.step_files import StepFiles
from markov_cot.utils.text import visible

Cli = Callable[..., tuple[int, str, str]]
"""(arguments) -> exit code, stdout, stderr."""


def test_a_typed_question_for_base_and_checkpoint(workplace: Path, cli: Cli) -> None:
    code, out, _ = cli("sample", "What is 2+3?", "--checkpoint", "latest")
    assert code == 0
    for expected in ("What is 2+3?", "base", "adapter_4", "CoT", "given from the CoT alone"):
        assert expected in out
    assert "log-prob" not in out, "a typed question has no true answer"


def test_problems_of_the_dataset_trained_on(workplace: Path, cli: Cli) -> None:
    code, out, _ = cli("sample", "--n", "2", "--json", "--checkpoint", "latest")
    shown = json.loads(out)
    assert code == 0
    assert len(shown) == 2
    assert [w["writer"] for w in shown[0]["written"]] == ["base", "adapter_4"]
    assert all(w["answer_logprob"] < 0 for w in shown[0]["written"])
    assert cli("sample", "--n", "2", "--json", "--checkpoint", "latest")[1] == out


def test_choices_and_the_base_alone(workplace: Path, cli: Cli) -> None:
    typed = ("sample", "Which is larger?", "--choice", "3", "--choice", "4", "--checkpoint", "base", "--json")
    code, out, _ = cli(*typed, "--set", "rollout.length=6")
    shown = json.loads(out)[0]
    assert code == 0
    assert shown["question"] == "Which is larger?\nA) 3\nB) 4"
    assert [w["writer"] for w in shown["written"]] == ["base"]
    assert shown["answer"] is None


@pytest.mark.parametrize(("answer", "valid"), [("I cannot say", False), ("", False), ("= 12", True)])
def test_an_answer_that_is_none_is_marked(
    workplace: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch, answer: str, valid: bool
) -> None:
    from dataclasses import replace

    from markov_cot.evaluation import answering

    original = answering.answer_from_cots
    monkeypatch.setattr(
        "markov_cot.evaluation.runner.answer_from_cots",
        lambda *args, **kwargs: [replace(each, text=answer) for each in original(*args, **kwargs)],
    )
    command = ("sample", "What is 2+3?", "--checkpoint", "base", "--set", "rollout.length=4")
    written = json.loads(cli(*command, "--json")[1])[0]["written"][0]
    assert (written["answer"], written["is_valid"]) == (answer, valid)
    code, out, _ = cli(*command)
    assert code == 0
    assert (f"{answer} (no valid answer)".strip() in out) is not valid


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["What?", "--dataset", "words"], "not both"),
        ([" "], "not an empty one"),
        (["What?", "--choice", "one"], "give 2 to 26"),
        (["--choice", "one"], "only with a typed QUESTION"),
        (["word " * 2000], "longer than the model's context"),
        (["What?", "--checkpoint", "adapter_7"], "adapter_7: not found"),
    ],
)
def test_the_users_errors(workplace: Path, cli: Cli, arguments: list[str], expected: str) -> None:
    code, out, err = cli("sample", *arguments)
    assert code == 2
    assert out == ""
    assert expected in err


def test_control_codes_are_escaped(workplace: Path, cli: Cli) -> None:
    assert visible("a\x1b[2J\x07\x9b\tb\n\u202ec") == "a\\x1b[2J\\x07\\x9b\tb\n\\u202ec"
    code, out, _ = cli("sample", "What is \x1b[31m1+1?", "--checkpoint", "base", "--set", "rollout.length=4")
    assert code == 0
    assert "\\x1b[31m1+1?" in out
    assert "\x1b[31m" not in out


@pytest.fixture
def kept(workplace: Path) -> list[dict[str, Any]]:
    """Rollouts of step 2 of run r, as a run with `tracking.rollouts` leaves them."""
    rewards, live = [-1.5, 0.25, -0.5, -1.0], [True, True, False, False]
    rows = [
        {"step": 2, "question": f"What is {i}+1?", "passage": "", "answer": str(i + 1), "cot": f" cot {i}\x1b[31m"}
        | {"cot_ids": [i], "reward": rewards[i], "advantage": i - 1.5, "live": live[i]}
        for i in range(4)
    ]
    StepFiles(workplace / "runs" / "r" / "rollouts", 4).write(2, rows)
    return rows


def test_stored_rollouts_by_reward(kept: list[dict[str, Any]], cli: Cli) -> None:
    code, out, _ = cli("sample", "--run", "r", "--step", "2")
    assert code == 0 and "\x1b" not in out
    assert [line.split("│")[1].strip() for line in out.splitlines() if "cot " in line] == [
        *("0.250", "-0.500", "-1.000", "-1.500"),
    ]
    assert [line.split("│")[2].strip() for line in out.splitlines() if "cot " in line] == [
        *("-0.500", "dead", "dead", "-1.500"),
    ]
    shown = json.loads(cli("sample", "--step", "2", "--n", "2", "--json")[1])
    assert shown == [kept[1], kept[2]], "the newest run; whole rows, the best first"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--step", "3"), "run r: rollouts of step 3 were not kept; there are 2"),
        (("--step", "2", "--dataset", "arithmetic"), "for which --dataset has no meaning"),
        (("--step", "2", "--split", "validation"), "for which --split has no meaning"),
        (("What is 2+3?", "--step", "2"), "for which QUESTION has no meaning"),
        (("--step", "2", "--run", "s"), "run s: there is no runs/s/config.yaml; there are r"),
        (("--step", "2", "--set", "checkpoint.runs_dir=nowhere"), "there are no runs in nowhere/"),
    ],
)
def test_stored_rollouts_that_are_not_there(
    kept: list[dict[str, Any]], cli: Cli, arguments: tuple[str, ...], said: str
) -> None:
    code, out, err = cli("sample", *arguments)
    assert (code, out) == (2, "") and said in err and err.count("\n") == 1


def test_a_run_that_kept_no_rollouts_says_how_to(workplace: Path, cli: Cli) -> None:
    code, _, err = cli("sample", "--run", "r", "--step", "2")
    assert code == 2 and "there are none; train with --set tracking.rollouts=N" in err
