"""`markov-cot probe` and `transfer`: planted effects are found, nulls are null, interruptions cost nothing."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from markov_cot.analysis import probe as probing
from markov_cot.analysis.changes import TESTS
from markov_cot.evaluation import answering
from tests.command_fixtures import SMALL, write_choices
from tests.other_models import write_other

Cli = Callable[..., tuple[int, str, str]]
QUICK = ("--checkpoint", "latest", "--n", "10", "--examples", "1")
OWN = [name for name in TESTS if name != "paraphrase"]


def document(cli: Cli, *arguments: str) -> dict[str, Any]:
    code, out, err = cli("probe", *QUICK, *arguments, "--json")
    assert code == 0, err
    found: dict[str, Any] = json.loads(out)
    return found


def test_what_is_printed_and_written(workplace: Path, cli: Cli) -> None:
    code, out, err = cli("probe", *QUICK)
    assert code == 0, err
    assert "adapter_4 of run r on arithmetic, test split: 10 items" in out
    assert "Markovian, read by base: answer log-prob -" in out
    folder = workplace / "runs" / "r" / "analysis"
    [path] = folder.glob("probe-arithmetic-adapter_4-base-*.json")
    for ending in (".json", ".csv", ".png", "-occlusion.html"):
        assert f"written: runs/r/analysis/{path.stem}{ending}" in out
        assert (folder / f"{path.stem}{ending}").stat().st_size > 100
    found = json.loads(path.read_text())
    assert found["n"] == found["asked"] == 10
    assert (found["seed"], found["reader"], found["unit"], found["markovian"]) == (0, "base", "characters", True)
    assert set(found["tests"]) | set(found["not_applicable"]) == {*OWN, "families"}
    assert list(found["tests"]["delete"]["severities"]) == ["0.2", "0.4", "0.6", "0.8", "1"]
    assert list(found["tests"]["empty"]["severities"]) == ["1"]
    for test in found["tests"].values():
        for level in (*test["severities"].values(), test["overall"]):
            assert level["low"] <= level["effect"] <= level["high"]
        assert test["overall"]["detectable"] is None or test["overall"]["detectable"] > 0
    assert (found["checks"]["severity_0"], found["checks"]["removals_differ_at_1"]) == (0.0, 0.0)
    assert 0 <= found["checks"]["read_twice"] < 1e-4, "rounding"
    whole = [found["tests"][name]["severities"]["1"]["effect"] for name in ("delete", "truncate_front", "empty")]
    assert whole[0] == whole[1] == whole[2]
    assert len(found["prefixes"]) == 11
    assert found["prefixes"][0]["logprob"] == pytest.approx(found["original"]["logprob"] - whole[0], abs=1e-4)
    assert found["prefixes"][10]["logprob"] == pytest.approx(found["original"]["logprob"], abs=1e-4)
    [example] = found["occlusion"]
    assert len(example["tokens"]) == len(example["effects"]) > 0
    rows = list(csv.DictReader(path.with_suffix(".csv").open()))
    deleted = [float(row["effect"]) for row in rows if row["test"] == "delete" and row["share"] == "0.4"]
    assert sum(deleted) / 10 == pytest.approx(found["tests"]["delete"]["severities"]["0.4"]["effect"], abs=1e-6)


def test_planted_effects_are_found(workplace: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """nano reads its own step-by-step sums: without the last step it is lost, without the small talk it is not."""
    from markov_cot.analysis.cots import CotWriter

    def solved(self: Any, _: Any) -> dict[int, list[int]]:
        encode = self._runner._prompts.tokenizer
        texts = {item.index: f" {item.problem.rationale} That is all." for item in self._items}
        return {i: encode(text, add_special_tokens=False).input_ids for i, text in texts.items()}

    monkeypatch.setattr(CotWriter, "cots", solved)
    found = document(cli, "--test", "early_answering", "--test", "swap", "--test", "truncate_back", "--n", "16")
    assert found["original"]["accuracy"] == 1.0
    swapped = found["tests"]["swap"]["overall"]
    assert swapped["low"] > 1 and swapped["accuracy_drop"] > 0.9, "another problem's sum gives another answer"
    # The end of the text is small talk: about a fifth of its characters.
    assert abs(found["tests"]["truncate_back"]["severities"]["0.2"]["effect"]) < 0.2
    assert found["tests"]["truncate_back"]["severities"]["0.6"]["low"] > 0.2, "the result is gone"
    early = found["tests"]["early_answering"]["severities"]
    assert abs(early["0.2"]["effect"]) < 0.1 and early["0.2"]["same_answer"] == 1, "its last step is the small talk"
    assert early["1"]["low"] > 1 and early["1"]["same_answer"] < 0.2, "and without all of them it is lost"
    tokens, effects = found["occlusion"][0]["tokens"], found["occlusion"][0]["effects"]
    answer = "".join(tokens).rindex("So ")
    at = [len("".join(tokens[: i + 1])) for i in range(len(tokens))]
    talk = [effect for effect, end in zip(effects, at, strict=True) if end > answer + len("So 99.") + 3]
    assert max(effects) > 5 * max(map(abs, talk)), "a digit of the result counts, the small talk does not"


def test_copies_of_the_question_are_counted(workplace: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    from markov_cot.analysis.cots import CotWriter

    def copies(self: Any, _: Any) -> dict[int, list[int]]:
        encode, [first, *others] = self._runner._prompts.tokenizer, self._items
        texts = {item.index: item.problem.question for item in others} | {first.index: "one and two and three"}
        return {i: encode(text, add_special_tokens=False).input_ids for i, text in texts.items()}

    monkeypatch.setattr(CotWriter, "cots", copies)
    assert document(cli, "--test", "empty", "--n", "4")["copied"] == 0.75
    code, out, err = cli("probe", "--run", "r", "--test", "empty", "--n", "4", "--examples", "0")
    assert code == 0 and "copied 4-grams 0.750" in out, err


def test_a_reader_that_ignores_the_cot_shows_no_effect(
    workplace: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = answering.answer_from_cots

    def constant(*args: Any) -> list[Any]:
        return [replace(each, logprob=-1.0, text="5") for each in original(*args)]

    monkeypatch.setattr(probing, "answer_from_cots", constant)
    found = document(cli)
    for test in found["tests"].values():
        assert test["overall"]["low"] == test["overall"]["effect"] == test["overall"]["high"] == 0
        assert test["overall"].get("same_answer", 1.0) == 1.0
        assert test["overall"]["detectable"] is None, "nothing varies"


def test_interrupted_it_continues_to_the_same_numbers(
    workplace: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    tests = [f"--test={name}" for name in ("delete", "mistakes", "swap")]
    whole = document(cli, *tests, "--n", "18", "--out", "whole")
    original, calls = answering.answer_from_cots, 0

    def interrupted(*args: Any) -> list[Any]:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt
        return original(*args)

    monkeypatch.setattr(probing, "answer_from_cots", interrupted)
    arguments = ("probe", *QUICK, *tests, "--n", "18", "--out", "parts", "--json")
    assert cli(*arguments)[0] == 130
    parts = document(cli, *tests, "--n", "18", "--out", "parts")
    assert calls == 6, "five parts of four items, and one of them twice"
    assert parts == whole
    assert document(cli, *tests, "--n", "18", "--out", "parts") == whole and calls == 6


def test_cots_that_an_evaluation_kept_are_used(workplace: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cli("eval", "--checkpoint", "latest", "--against", "none", "--limit", "20")[0] == 0
    monkeypatch.setattr("markov_cot.rollouts.sampler.greedy_cots", None)
    found = document(cli, "--test", "delete", "--out", "elsewhere")
    assert found["n"] == 10


def test_a_run_is_held_against_another(workplace: Path, cli: Cli) -> None:
    settings = ("--set=rollout.length=12", "--set=data.terms=[2,3]", "--set=prompt.markovian=false")
    assert cli("train", *SMALL, *settings, "--run", "s")[0] == 0
    found = document(cli, "--run", "r", "--against", "checkpoints/s/adapter_1", "--test", "delete", "--test", "empty")
    other = found["against"]
    assert (found["markovian"], other["markovian"], other["run"]) == (True, False, "s")
    delete = other["differences"]["delete"]
    both = [each["tests"]["delete"]["overall"]["effect"] for each in (found, other)]
    assert delete["overall"]["difference"] == pytest.approx(both[0] - both[1], abs=1e-9)
    assert delete["overall"]["p"] <= delete["overall"]["p_holm"] <= 1
    code, out, _ = cli("probe", *QUICK, "--run", "r", "--against", "s", "--test", "delete")
    assert code == 0
    assert "p (Holm)" in out and "difference of the effects, the same items" in out
    nothing = document(cli, "--run", "r", "--against", "checkpoints/r/adapter_4", "--test", "delete")
    overall = nothing["against"]["differences"]["delete"]["overall"]
    assert (overall["difference"], overall["low"], overall["high"], overall["p"]) == (0, 0, 0, 1)


def test_what_a_run_is_held_against_may_be_named_by_its_whole_path(workplace: Path, cli: Cli) -> None:
    found = document(cli, "--against", str(workplace / "checkpoints" / "r" / "adapter_2"), "--test", "empty")
    assert found["against"]["checkpoint"] == "adapter_2"


def test_how_readers_are_combined_is_no_matter_of_the_cache(workplace: Path, cli: Cli, tmp_path: Path) -> None:
    other = str(write_other(tmp_path / "other"))
    arguments = ("--test", "empty", "--n", "3", "--reader", "base", "--reader", other)
    mean, least = (document(cli, *arguments, "--set", f"reward.combine={how}") for how in ("mean", "min"))
    assert mean["reader"] == "base+other" and mean["lost_characters"] is not None
    assert least["original"]["logprob"] < mean["original"]["logprob"] - 0.1


def test_sampled_cots_are_continued_by_sampling(workplace: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ("--test", "mistakes", "--temperature", "1", "--n", "8")
    found = document(cli, *arguments)
    assert found["temperature"] == 1 and document(cli, *arguments, "--out", "again")["tests"] == found["tests"]
    monkeypatch.setattr("markov_cot.rollouts.sampler.greedy_cots", None)
    assert document(cli, *arguments, "--out", "third")["tests"] == found["tests"], "nothing of it is greedy"


def test_a_changed_cot_that_has_no_room_is_one_line(workplace: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("markov_cot.rewards.readers.Reader.tokens", lambda *_: 10_000)
    for unit, remedy in (("characters", "pass --unit tokens, lower rollout.length"), ("tokens", "; lower rollout")):
        code, _, err = cli("probe", *QUICK, "--test", "empty", "--unit", unit)
        assert code == 2
        assert "a changed CoT, its prompt and an answer are 10000 tokens" in err and remedy in err


def test_tokens_and_the_base_alone(workplace: Path, cli: Cli) -> None:
    code, out, _ = cli(
        "probe", "--model", "nano", "--n", "4", "--unit", "tokens", "--test", "char_replace", "--json",
        "--dataset", "arithmetic", "--set", "rollout.length=12", "--set", "data.terms=[2,2]",
    )  # fmt: skip
    found = json.loads(out)
    assert code == 0
    assert (found["checkpoint"], found["unit"], found["n"]) == ("base", "tokens", 4)
    assert len(list((workplace / "runs" / "base-nano" / "analysis").glob("probe-arithmetic-base-base-*.json"))) == 1


def test_another_reader_and_a_paraphraser(workplace: Path, cli: Cli, tmp_path: Path) -> None:
    other = str(write_other(tmp_path / "other", chat=True))
    found = document(
        cli, "--reader", other, "--test", "paraphrase", "--test", "empty", "--n", "3", "--paraphraser", other
    )
    assert found["reader"] == "other" and found["paraphraser"] == other
    assert found["tests"]["paraphrase"]["n"] == 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--test", "delet"), "--test delet: not known; did you mean delete"),
        (("--test", "paraphrase"), "pass --paraphraser MODEL"),
        (("--test", "delete", "--paraphraser", "nano"), "--paraphraser: is for --test paraphrase"),
        (("--paraphraser", "nowhere/at-all"), "--paraphraser: "),
        (("--against", "nothing"), "--checkpoint nothing: is no folder"),
        (("--dataset", "gsmk"), "gsmk"),
    ],
)
def test_bad_input_is_one_line(workplace: Path, cli: Cli, arguments: Sequence[str], said: str) -> None:
    code, out, err = cli("probe", *QUICK, *arguments)
    line = err.strip().splitlines()[-1]
    assert (code, out) == (2, "")
    assert line.startswith("markov-cot: ") and said in line and "Traceback" not in err


def test_a_reader_that_answers_nan_is_one_line(workplace: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    original = answering.answer_from_cots
    monkeypatch.setattr(
        probing,
        "answer_from_cots",
        lambda *args: [replace(each, logprob=float("nan")) for each in original(*args)],
    )
    code, _, err = cli("probe", *QUICK, "--test", "empty")
    assert code == 2
    assert "reader base: finds no finite log-prob (NaN or infinity) of the answer after 8 of 8 CoTs" in err


def test_what_should_be_known_is_a_line_each(workplace: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    from markov_cot.analysis.cots import CotWriter

    monkeypatch.setattr(
        CotWriter,
        "cots",
        lambda self, _: {
            item.index: self._runner._prompts.tokenizer("  ", add_special_tokens=False).input_ids
            for item in self._items
        },
    )
    code, out, err = cli(
        "probe", "--checkpoint", "latest", "--n", "30", "--dataset", "choices.jsonl", "--examples", "1"
    )
    assert code == 0, err
    lines = out.splitlines()
    assert any(line.startswith("asked for 30 items; ") for line in lines)
    assert any(line.endswith("CoTs are white space alone: there is little that changes could do") for line in lines)
    assert "shuffle: applies to none of the CoTs (no number to change, one step, or one item)" in lines


# --- transfer


def test_transfer_over_the_checkpoints(workplace: Path, cli: Cli, tmp_path: Path) -> None:
    other = str(write_other(tmp_path / "other"))
    code, out, err = cli("transfer", "r", "--reader", other, "--n", "6", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert (found["run"], found["steps"], found["n"]) == ("r", [0, 2, 4], 6)
    assert list(found["readers"]) == ["base", "other"]
    for reader in found["readers"].values():
        first, *later = reader["informativeness"]
        assert (first["step"], first["mean"], first["low"], first["high"]) == (0, 0.0, 0.0, 0.0)
        logprobs = [each["mean"] for each in reader["answer_logprob"]]
        assert [each["mean"] for each in later] == pytest.approx([value - logprobs[0] for value in logprobs[1:]])
        assert reader["training"] == []
    assert [each["readers"] for each in found["spearman"]] == [["base", "other"]]
    for ending in ("json", "png"):
        assert (workplace / "runs" / "r" / "analysis" / f"transfer-arithmetic-other.{ending}").is_file()
    code, out, _ = cli("transfer", "r", "--reader", other, "--n", "6")
    assert code == 0
    assert "0 (base)" in out and "Spearman" in out


def test_transfer_scores_training_cots_apart(workplace: Path, cli: Cli, tmp_path: Path) -> None:
    other = str(write_other(tmp_path / "other"))
    assert cli("train", *SMALL, "--run", "kept", "--set", "tracking.rollouts=1")[0] == 0
    code, out, err = cli("transfer", "kept", "--reader", other, "--n", "2", "--json")
    assert code == 0, err
    training = json.loads(out)["readers"]["other"]["training"]
    assert [(each["step"], each["n"]) for each in training] == [(1, 1)]
    write_choices(workplace / "own.jsonl")
    code, out, err = cli("transfer", "kept", "--reader", other, "--n", "2", "--json", "--dataset", "own.jsonl")
    assert code == 0, err
    assert json.loads(out)["readers"]["other"]["training"] == [], "those were of other data"


def test_transfer_is_per_token_whatever_the_reward_was(workplace: Path, cli: Cli, tmp_path: Path) -> None:
    other = str(write_other(tmp_path / "other"))
    found = []
    for reduction in ("mean", "sum"):
        arguments = ("--n", "3", "--json", "--set", f"reward.reduction={reduction}", "--out", reduction)
        code, out, err = cli("transfer", "r", "--reader", other, *arguments)
        assert code == 0, err
        found.append(json.loads(out)["readers"])
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "--reader: name the model"),
        (("--reader", "base"), "--reader base: is the run's own model"),
        (("--reader", "nowhere/at-all"), "reward.reader: "),
    ],
)
def test_bad_input_to_transfer_is_one_line(workplace: Path, cli: Cli, arguments: Sequence[str], said: str) -> None:
    code, out, err = cli("transfer", "r", *arguments)
    assert (code, out) == (2, "")
    assert said in err.strip().splitlines()[-1] and "Traceback" not in err
