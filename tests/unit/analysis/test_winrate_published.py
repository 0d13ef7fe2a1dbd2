"""The published figures of Arena-Hard and AlpacaEval, from the real files, where $MARKOV_COT_DATA names them."""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from markov_cot.analysis.bradley_terry import expected_share
from markov_cot.analysis.resampling import Sampling, Unit
from markov_cot.analysis.winrate_document import Request, as_json, measure

FOLDER = Path(os.environ.get("MARKOV_COT_DATA") or "no folder")
BATTLES = FOLDER / "arena_hard" / "battles_llama3base_2024-07-08.jsonl"
ROUNDS = FOLDER / "arena_hard" / "bootstrapping_results_2024-07-08.jsonl"
ANNOTATIONS = FOLDER / "alpaca_eval" / "FuseChat-Llama-3.2-1B-Instruct_annotations.json"
pytestmark = pytest.mark.skipif(not BATTLES.is_file(), reason="MARKOV_COT_DATA names no folder with arena_hard")

LEADERBOARD = {
    # Score, and the ends of its interval (2024-07-31), which has votes for units and 100 rounds.
    "gpt-4-0613": (37.90, 35.60, 40.36),
    "gpt-3.5-turbo-0125": (23.34, 21.67, 25.27),
}


@cache
def document(path: Path, unit: Unit = "questions") -> dict[str, Any]:
    return as_json(measure(Request([path], sampling=Sampling(unit))))


def judged(name: str) -> dict[str, Any]:
    [path] = (FOLDER / "arena_hard").glob(f"judgment_{name}*.jsonl")
    return document(path)


@pytest.mark.parametrize("model", LEADERBOARD)
def test_arena_hards_scores(model: str) -> None:
    found = document(BATTLES)["models"][model]
    assert found["win_rate"] == pytest.approx(LEADERBOARD[model][0], abs=0.005)
    assert found["n"] == 500


@pytest.mark.parametrize("model", LEADERBOARD)
def test_arena_hards_intervals_are_over_votes(model: str) -> None:
    _, low, high = LEADERBOARD[model]
    found = document(BATTLES, "votes")["models"][model]
    # The ends of an interval from 100 rounds have a standard deviation of about a quarter of a standard error.
    assert (found["low"], found["high"]) == pytest.approx((low, high), abs=0.6 * found["stderr"])


def test_ratings_are_the_mean_of_votes_with_one_baseline() -> None:
    found = document(BATTLES)
    ratings = found["bradley_terry"]["models"]
    assert found["baselines"] == ["gpt-4-0314"] and ratings["gpt-4-0314"]["rating"] == 1000
    assert ratings["gpt-4-0613"]["rating"] == pytest.approx(914.2, abs=0.05)
    for model, each in found["models"].items():
        assert ratings[model]["win_rate"] == pytest.approx(each["win_rate"], abs=1e-9)


def test_upstreams_own_rounds_spread_as_resampled_votes_do() -> None:
    rounds = [json.loads(line) for line in ROUNDS.read_text().splitlines()]
    assert len(rounds) == 100
    for model, each in document(BATTLES, "votes")["models"].items():
        shares = [100 * expected_share(ratings[model]) for ratings in rounds]
        # The standard deviation of 100 rounds is itself uncertain by 7 %, their mean by a tenth of it.
        assert np.std(shares, ddof=1) == pytest.approx(each["stderr"], rel=0.25)
        assert np.mean(shares) == pytest.approx(each["win_rate"], abs=0.35 * each["stderr"])


def test_questions_have_larger_standard_errors_than_votes() -> None:
    by_question, by_vote = document(BATTLES), document(BATTLES, "votes")
    ratios = {
        model: each["stderr"] / by_vote["models"][model]["stderr"] for model, each in by_question["models"].items()
    }
    assert len(ratios) == 8
    # 1.35 to 1.66 as they were first measured, by resampling; exactly 1.33 to 1.68.
    assert (min(ratios.values()), max(ratios.values())) == pytest.approx((1.332, 1.685), abs=0.001)
    assert ratios["gpt-4-0613"] == pytest.approx(1.594, abs=0.001)


def test_raw_judgements() -> None:
    found = judged("Llama-3")
    [model] = found["models"].values()
    assert (model["n"], model["votes"], model["verdicts"], model["malformed"]) == (129, 361, 257, 1)
    assert found["malformed"] == {"n": 1, "labels": [{"label": "A>>A", "n": 1}]}
    # It won 86 games, 5 by far (15 votes), and 15 were ties.
    assert model["win_rate"] == pytest.approx(100 * (86 + 15 + 7.5) / 361)
    position = model["position"]
    # Counted apart from pairs of labels: 90 of 128 agree, 18 are won by the first twice, 11 by the second, 9 half tied.
    assert [position[key] for key in ("n", "first", "second", "partly")] == [128, 18, 11, 9]
    assert position["depends"] == pytest.approx(100 * 38 / 128)
    assert judged("Pythia")["models"].popitem()[1]["win_rate"] == pytest.approx(100 * 0.5 / 58)


def test_alpaca_evals_win_rate() -> None:
    found = document(ANNOTATIONS)
    assert found["baselines"] == ["gpt4_1106_preview"]
    [model] = found["models"].values()
    assert model["n"] == model["votes"] == 805
    assert model["win_rate"] == pytest.approx(29.9219322658882, abs=1e-9)
    assert model["stderr"] == pytest.approx(1.3934584328741797, abs=1e-9)
    assert model["stderr"] == document(ANNOTATIONS, "votes")["models"].popitem()[1]["stderr"]
    assert sum(each["n"] for each in model["categories"].values()) == 805
    assert model["position"] is None
