"""Comparisons from the command line: a file of votes is trained on in both orders and evaluated in both."""

from __future__ import annotations

import csv
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.command_fixtures import SMALL, Cli

COLUMNS = ("id", "model_a", "model_b", "prompt", "response_a", "response_b")
WINNERS = ("winner_model_a", "winner_model_b", "winner_tie")


@pytest.fixture
def votes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the file of 60 votes on 20 prompts, three of each kind a prompt, as the current one's `votes`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MARKOV_COT_DATA", raising=False)
    folder = tmp_path / "votes"
    folder.mkdir()
    with (folder / "train.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*COLUMNS, *WINNERS])
        for i in range(60):
            texts = (json.dumps([text]) for text in (f"What is {i // 3}+1?", str(i // 3 + 1), "no"))
            writer.writerow([i, "m", "n", *texts, *(int(i % 3 == place) for place in range(3))])
    return folder


def test_train_and_eval(votes: Path, cli: Cli) -> None:
    swapped = ("--data-dir", "votes", "--set", "data.swap=true")
    code, out, err = cli("train", "--dataset", "preference", "--model", "nano", *swapped, "--run", "p", *SMALL)
    assert code == 0, err
    # Of 20 prompts 6 are held out for test and 1 of 14 for validation: 39 votes, each in both orders.
    assert "nano on preference (78 training problems from votes)" in err
    code, out, err = cli("eval", "--run", "p", "--limit", "6", "--json")
    assert code == 0, err
    document = json.loads(out)
    results, own = document["results"]["preference"], document["markov_cot"]["preference"]
    assert own["n"] == 6 and own["total"] == 18
    for key in ("exact_match_swapped", "exact_match_both", "position_consistency", "macro_f1"):
        assert 0 <= results[f"{key},word-boundary"] <= 1
    assert results["log_loss,letter"] > 0 and 0 <= results["ece,letter"] <= 1
    constants = own["constants"]
    assert (constants["labels"], constants["counted_in"]) == (39, "train"), "before they are swapped"
    assert constants["uniform_log_loss"] == pytest.approx(1.0986, abs=5e-5)
    assert "position_consistency,word-boundary" in own["against"]["paired"]
    rows = [json.loads(line) for line in Path("runs/p/eval/samples_preference.jsonl").read_text().splitlines()]
    for row in (row for row in rows if row["filter"] == "none"):
        assert sum(row["probabilities"][0]) == pytest.approx(1) == sum(row["probabilities_swapped"][0])
    of_letters = [row for row in rows if row["filter"] == "word-boundary"]
    turned = {"A": "B", "B": "A", "C": "C"}
    assert [turned[row["target"]] for row in of_letters] == [row["target_swapped"] for row in of_letters]
    share = sum(turned.get(row["predicted"][0]) == row["predicted_swapped"][0] is not None for row in of_letters) / 6
    assert results["position_consistency,word-boundary"] == pytest.approx(share)


def test_the_table(votes: Path, cli: Cli) -> None:
    options = ("--dataset", "preference", "--data-dir", "votes", "--limit", "3", "--set", "rollout.length=8")
    code, out, err = cli("eval", "--checkpoint", "base", "--model", "nano", *options)
    assert code == 0, err
    lines = out.splitlines()
    names = [line.split()[0] for line in lines if line.strip()]
    assert names.index("majority") == names.index("legacy-boundary") + 1, "beside the accuracies"
    assert any(line.startswith("position_consistency  same verdict in both orders") for line in lines)
    assert "Log loss of uniform probabilities: 1.0986; of those labels' shares: 1.0986." in out
    assert "Accuracy less that of always answering A, the commonest of 39 labels of train (33.3%)" in out
    # A second evaluation takes what is kept.
    assert cli("eval", "--checkpoint", "base", "--model", "nano", *options)[1].splitlines()[:20] == lines[:20]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--set", "data.subset=pandalm"), "get all its files, from github.com/WeOpenML/PandaLM"),
        (("--set", "data.subset=arenas"), "data.subset 'arenas': not in preference; did you mean arena?"),
        (("--set", "data.swap=maybe"), "data.swap"),
    ],
)
def test_faults(votes: Path, cli: Cli, arguments: tuple[str, ...], message: str) -> None:
    code, out, err = cli("train", "--dataset", "preference", "--model", "nano", "--data-dir", "votes", *arguments)
    assert code == 2 and out == ""
    assert message in err and len(err.strip().splitlines()) == 1


def test_what_is_for_evaluation_only_is_not_trained_on(tmp_path: Path, cli: Cli, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [{"input": f"Do {i}.", "output_1": "Yes.", "output_2": "No.", "label": 1 + i % 2} for i in range(4)]
    Path("llmbar_natural.json").write_text(json.dumps(rows))
    code, _, err = cli("train", "--dataset", "preference", "--model", "nano", "--data-dir", ".", *SMALL)
    assert code == 2 and "there is nothing to train on" in err
    options = ("--dataset", "preference", "--data-dir", ".", "--set", "rollout.length=8", "--json")
    code, out, _ = cli("eval", "--checkpoint", "base", "--model", "nano", *options)
    own = json.loads(out)["markov_cot"]["preference"]
    assert code == 0 and own["n"] == 4
    assert (own["constants"]["counted_in"], own["constants"]["uniform_log_loss"]) == (
        "test",
        pytest.approx(0.6931, abs=1e-4),
    )


def graded(cli: Cli, rows: list[dict[str, Any]], *options: str) -> tuple[int, str, str]:
    Path("verdicts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return cli(
        "grade", "verdicts.jsonl", "--kind", "choice", "--choices", "3", "--extractor", "word-boundary", *options
    )


def test_stored_verdicts_in_both_orders(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    # As in tests/unit/evaluation/test_preference.py: right twice; right at first only; a tie twice; no verdict.
    pairs = zip("AACB", ("A", "A", "C", "?"), ("B", "A", "C", None), strict=True)
    rows = [{"gold": gold, "response": one, "response_swapped": other} for gold, one, other in pairs]
    code, out, _ = graded(cli, rows, "--json")
    assert code == 0 and json.loads(out)["extractors"]["word-boundary"] == {
        "accuracy": 0.75,
        "stderr": 0.25,
        "invalid": 1,
        "macro_f1": pytest.approx(2 / 3),
        "swapped": 0.5,
        "both": 0.5,
        "consistent": 0.5,
    }
    assert all(heading in graded(cli, rows)[1] for heading in ("macro F1", "swapped", "both", "consistent"))
    code, _, err = graded(cli, [*rows, {"gold": "A", "response": "A"}])
    assert code == 2 and "line 5: some rows have `response_swapped` and others have not" in err
    code, _, err = graded(cli, [rows[0] | {"response_swapped": 5}])
    assert code == 2 and "line 1: `response_swapped` is not text but int" in err


def test_samples_of_an_evaluation_are_graded_in_both_orders(votes: Path, cli: Cli) -> None:
    options = ("--dataset", "preference", "--data-dir", "votes", "--limit", "6", "--set", "rollout.length=8", "--json")
    results = json.loads(cli("eval", "--checkpoint", "base", "--model", "nano", *options)[1])["results"]["preference"]
    code, out, _ = cli("grade", "runs/base-nano/eval/samples_preference.jsonl", "--kind", "choice", "--json")
    assert code == 0
    found = json.loads(out)["extractors"]["word-boundary"]
    for ours, theirs in (
        ("accuracy", "exact_match"),
        ("macro_f1", "macro_f1"),
        ("swapped", "exact_match_swapped"),
        ("both", "exact_match_both"),
        ("consistent", "position_consistency"),
    ):
        assert found[ours] == pytest.approx(results[f"{theirs},word-boundary"])


FOLDER = Path(os.environ.get("MARKOV_COT_DATA", ""), "preference")
needs_data = pytest.mark.skipif(not FOLDER.is_dir(), reason="MARKOV_COT_DATA names no folder with preference/")


def stored(name: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((FOLDER / name).read_text(encoding="utf-8"))
    return rows


@needs_data
def test_published_figures_from_stored_verdicts(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    votes = ("annotator1", "annotator2", "annotator3")
    golds = {
        row["idx"]: "CAB"[Counter(row[name] for name in votes).most_common(1)[0][0]]
        for row in stored("pandalm_testset-v1.json")
    }
    judge = stored("pandalm_pandalm-7b-testset-v1.json")
    rows = [{"gold": golds[row["idx"]], "response": "CAB"[int(row["pandalm_result"])]} for row in judge]
    report = json.loads(graded(cli, rows, "--json")[1])
    found = report["extractors"]["word-boundary"]
    assert (report["n"], round(found["accuracy"], 4), round(found["macro_f1"], 4)) == (999, 0.6677, 0.5743)
    orders = {"response": "swap = False", "response_swapped": "swap = True"}
    rows = [
        {"gold": "AB"[row["label"] - 1]} | {key: row["results"][0][of]["completion"][0] for key, of in orders.items()}
        for row in stored("llmbar_natural_gpt4_vanilla_result.json")
    ]
    report = json.loads(graded(cli, rows, "--json")[1])
    found = report["extractors"]["word-boundary"]
    assert [found[key] for key in ("accuracy", "swapped", "both", "consistent")] == [0.95, 0.96, 0.93, 0.95]


def test_sft_learns_verdicts_in_both_orders(votes: Path, cli: Cli) -> None:
    few = ("--steps", "1", "--set", "rollout.length=48", "--set", "sft.batch=2", "--set", "validation.problems=2")
    few = (*few, "--set", "validation.final_problems=2", "--set", "validation.reader_check=0")
    code, _, err = cli("sft", "preference", "--model", "nano", "--set", "data.data_dir=votes", "--run", "s", *few)
    assert code == 0, err
    assert "78 written CoTs to learn" in err
