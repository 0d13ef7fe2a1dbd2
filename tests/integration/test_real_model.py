"""The benchmark on a real model: its controls by hand, which commands it gives, and what its tables say."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from markov_cot.config.loading import build_config, read_recipe
from markov_cot.data.problem import Problem
from markov_cot.tracking.step_files import StepFiles

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
Script = Callable[[str], ModuleType]
Commands = list[list[str]]


@pytest.fixture(scope="module")
def script() -> Iterator[Script]:
    """A script as a module. They import one another by plain names, as they do when they are run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield importlib.import_module


def encode(text: str) -> list[int]:
    return list(text.encode())


def test_pieces_of_a_passage(script: Script) -> None:
    controls = script("copying_controls")
    problem = Problem("p", "What is two?", "2", "text", passage="One is 1. Two is 2! Three is 3.")
    ids = encode(problem.passage)
    assert bytes(controls.first(ids, 5, problem, encode)) == b"One i"
    assert bytes(controls.last(ids, 5, problem, encode)) == b"is 3."
    # Of "Two is 2!" the answer, half of the other three characters before it, and what is left after it.
    assert bytes(controls.sentence(ids, 4, problem, encode)) == b"s 2!"
    piece = bytes(controls.window(ids, 6, problem, encode))
    assert len(piece) == 6 and piece in bytes(ids)
    assert piece == bytes(controls.window(ids, 6, problem, encode)), "the same for the same problem"


def test_rounding_to_few_bits(script: Script) -> None:
    matrix = torch.tensor([[1.0, -0.45, 0.26, 0.0], [0.0, 0.0, 0.0, 0.0], [14.0, 3.0, -14.0, 0.9]])
    # 4 bits are -7 to 7. Row 1 in sevenths: -3.15 and 1.82. Row 3 in steps of 2: 1.5, to even, and 0.45.
    expected = [[1.0, -3 / 7, 2 / 7, 0.0], [0.0] * 4, [14.0, 4.0, -14.0, 0.0]]
    assert torch.allclose(script("coarse_copy").rounded(matrix, 4), torch.tensor(expected))


def test_swapped_cots_are_of_questions_with_another_answer(script: Script) -> None:
    problems = [Problem("", f"{i}?", answer, "text") for i, answer in enumerate("aabcb")]
    cots = {i: [i] for i in range(5)}
    assert script("answer_tokens").swapped(cots, problems) == {0: [2], 1: [2], 2: [3], 3: [4], 4: [0]}


def test_the_answers_tokens_side_by_side(script: Script) -> None:
    def items(first: float) -> list[dict[str, float]]:
        return [{"first": first - i, "newline": -1.0, "all": first / 2} for i in range(3)]

    table = script("answer_tokens").table({"base": items(-3.0), "swapped": items(-2.5), "trained": items(-1.0)})
    assert "| first | 3 | -4.000 | -3.500 | -2.000 | +2.000 ± 0.000 | +0.500 ± 0.000 |" in table
    assert "| later |" not in table, "answers of one token have none"


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ([" ", "1", "9", "\n"], {"space": -1.0, "first": -2.0, "later": -3.0, "newline": -4.0, "all": -2.5}),
        ([" the", " end", "s", "\n"], {"first": -1.0, "later": -2.5, "newline": -4.0, "all": -2.5}),
        ([" B", "\n"], {"first": -1.0, "newline": -2.0, "all": -1.5}),
    ],
)
def test_places_within_an_answer(script: Script, written: list[str], expected: dict[str, float]) -> None:
    logps = [-1.0, -2.0, -3.0, -4.0][: len(written)]
    assert script("answer_tokens").places(written, logps) == expected


@pytest.fixture
def bench(script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Commands]:
    """A bench that trains nothing, and the commands that it would have given."""
    runs = script("real_runs")
    given: Commands = []
    monkeypatch.setattr(runs.Bench, "_python", lambda _, *words: given.append(list(words)))
    monkeypatch.setattr(runs, "write_gold_rows", lambda *_: None)
    settings = {"model.name": "nano", "optim.lr": 1e-3, "prompt.cot_prefix": "two\n\nlines"}
    return runs.Bench(tmp_path, "gain", "squad", settings, 8), given


def test_a_run_is_begun_continued_and_not_made_again(script: Script, bench: tuple[Any, Commands]) -> None:
    made, given = bench
    arm = script("real_gain").SHUFFLED
    (made.folder / "checkpoints" / "gain-shuffled-1").mkdir(parents=True)
    assert made.train(script("real_gain").REWARD, 1) == "gain-reward-1"
    assert made.train(arm, 1) == made.train(arm, 1) == "gain-shuffled-1"
    new, continued = given
    assert new[:7] == ["-m", "markov_cot", "train", "squad", "--run", "gain-reward-1", "--seed"]
    assert continued[2:6] == ["train", "--resume", "--run", "gain-shuffled-1"] and "--resume" not in new
    assert 'prompt.cot_prefix="two\\n\\nlines"' in new and "reward.function=shuffled_reward:shuffled" in continued


def test_what_is_taught_takes_no_setting_of_training_by_reward(script: Script, bench: tuple[Any, Commands]) -> None:
    made, given = bench
    made.train(script("real_gain").GOLD, 0)
    [command] = given
    assert command[2:6] == ["sft", "--config", "squad", "--run"] and "sft.loss_on=cot" in command
    assert "model.name=nano" in command and not any(word.startswith("optim.lr") for word in command)


def test_the_published_ppo_gets_its_whole_config(script: Script, bench: tuple[Any, Commands]) -> None:
    made, given = bench
    made.train(script("real_collapse").PUBLISHED, 2)
    [[ran, config, *rest]] = given
    assert Path(ran).name == "published_ppo.py" and rest == ["--run", "gain-published-2"]
    found = build_config(read_recipe(config), config)
    assert found.seed == 2 and found.optim.lr == 1e-3 and found.rollout.length == 10


def evaluation(base: float, trained: float) -> dict[str, Any]:
    keys = ("exact_match,line", "f1,line", "answer_logprob,none", "answer_in_cot,none", "copied,none")
    change = {"difference": trained - base, "low": trained - base - 0.1, "high": trained - base + 0.1, "p_value": 0.5}
    sides = [{key: {"n": 8, "mean": mean} for key in keys} for mean in (base, trained)]
    against = {"metrics": sides[0], "paired": {"exact_match,line": change}}
    return {"evaluation": {"markov_cot": {"squad": {"metrics": sides[1], "against": against}}}}


def test_gains_of_seeds_and_their_mean(script: Script) -> None:
    gain = script("real_gain")
    seeds = {"0": {"reward": evaluation(0.1, 0.3)}, "1": {"reward": evaluation(0.2, 0.3)}}
    lines = gain.gains(seeds, "squad", (gain.REWARD,), {"exact_match,line": "EM"}).splitlines()
    assert lines[2] == "| by reward | 0 | 0.100 → 0.300 | 0.100 → 0.300 | +0.200 [+0.100, +0.300], p = 0.5 |"
    assert lines[4] == "| by reward | mean | 0.150 → 0.300 | 0.150 → 0.300 | +0.150 (+0.100 to +0.200) |"


def test_rollbacks_are_counted_by_what_brought_them_about(script: Script, tmp_path: Path) -> None:
    """Two alarms at once, one after the first rollback, and one that is a warning."""
    rows = [("critical", 0), ("critical", 0), ("warn", 1), ("critical", 1), ("warn", 2)]
    lines = (json.dumps({"alarm": "kl", "level": level, "rollbacks": before}) for level, before in rows)
    (tmp_path / "alarms.jsonl").write_text("\n".join(lines))
    rollbacks = script("real_collapse").rollbacks
    assert rollbacks(tmp_path) == 1, "the last one ended the run, which has no summary"
    (tmp_path / "summary.json").touch()
    assert rollbacks(tmp_path) == 2


def test_words_of_validations(script: Script, tmp_path: Path) -> None:
    """Different ones, whatever their case; single letters and digits are none."""
    files = StepFiles(tmp_path, 0)
    files.write(0, [{"cot": "The vase had 18 roses"}, {"cot": "the roses, a vase"}])
    files.write(10, [{"cot": "1\n\n2 a"}, {"cot": "7878"}])
    assert script("real_collapse").words(tmp_path) == {0: 4, 10: 0}
