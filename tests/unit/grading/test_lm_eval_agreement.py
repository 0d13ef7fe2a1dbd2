"""`strict-match` and `flexible-extract` against lm-evaluation-harness's own filters and metric, where installed."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from markov_cot.grading.extractors import extract, get_extractor

N = 2000
PIECES = [
    *(
        "####",
        "#### ",
        "#### -",
        "The answer is",
        "so",
        "\n",
        " ",
        " ",
        ".",
        "...",
        ",",
        "$",
        "-",
        "=",
        "eggs",
        "x2",
        "Answer:",
    ),
    *(
        "[invalid]",
        "é",
        "½",
        "−5",
        "٣",
        "1/2",
        "1e5",
        "%",
        "18.",
        "$29.00",
        "70,000",
        "-7",
        "$",
        "$-3",
        "1,2,3",
        "0",
        "5.",
        ".",
    ),
]
GOLDS = [
    "18",
    "70,000",
    "-7",
    "29",
    "3.5",
    "$29.00",
    "5.",
    "2 * 9 = 18 #### 18",
    "a\nb #### 70,000",
    "[invalid]",
    ".",
    "x",
]


def generated_rows(seed: int) -> list[tuple[str, str]]:
    """(response, gold): mixtures of pieces that matter, and plain sentences, a third with the true number."""
    chance = random.Random(seed)
    rows = []
    for _ in range(N):
        gold = chance.choice(GOLDS) if chance.random() < 0.5 else str(chance.randint(-99, 99_999))
        pieces = [chance.choice(PIECES) for _ in range(chance.randint(0, 12))]
        number = gold if chance.random() < 0.4 else f"{chance.randint(-999, 99_999):,}"
        ending = chance.choice([f"#### {number}", f"The answer is {number}.", f"${number}", number, ""])
        rows.append((chance.choice(["", " "]).join([*pieces, ending]), gold))
    return rows


@pytest.fixture(scope="module")
def gsm8k() -> dict[str, Any]:
    """The harness's gsm8k task as its file defines it."""
    lm_eval = pytest.importorskip("lm_eval")
    yaml = pytest.importorskip("yaml")
    text = (Path(lm_eval.__file__).parent / "tasks" / "gsm8k" / "gsm8k.yaml").read_text(encoding="utf-8")
    definition: dict[str, Any] = yaml.safe_load(text)
    return definition


@pytest.mark.parametrize("name", ["strict-match", "flexible-extract"])
def test_predictions_and_scores_agree_on_every_row(gsm8k: dict[str, Any], name: str) -> None:
    from lm_eval.api.metrics import exact_match_fn
    from lm_eval.filters import get_filter

    steps = next(entry["filter"] for entry in gsm8k["filter_list"] if entry["name"] == name)
    (metric,) = gsm8k["metric_list"]
    settings = {k: v for k, v in metric.items() if k not in ("metric", "aggregation", "higher_is_better")}
    rows = generated_rows(seed=0)
    filtered: Any = [[response] for response, _ in rows]
    for step in steps:
        arguments = {k: v for k, v in step.items() if k != "function"}
        filtered = get_filter(step["function"])(**arguments).apply(filtered, [{}] * N)
    extractor = get_extractor("numeric", name)
    right = 0
    for (response, gold), theirs in zip(rows, filtered, strict=True):
        ours = extract(extractor, response)
        assert (ours if ours is not None else "[invalid]") == theirs, response
        score = exact_match_fn(predictions=[theirs], references=[gold], **settings)["exact_match"]
        assert extractor.matches(ours, gold) == bool(score), (response, gold)
        right += bool(score)
    assert N // 20 < right < N * 19 // 20  # both outcomes are well represented


@pytest.mark.parametrize(
    ("response", "strict", "flexible"),
    [
        ("He has 5. #### 18", "18", "18"),
        ("#### 1\n#### 2", "1", "2"),
        ("#### 70,000.", "70,000.", "70,000."),
        ("It costs $29.00.", None, "$29.00."),
        ("7", None, "7"),
        ("so 7 eggs", None, "7"),
        ("-7", None, "-7"),
        ("3 - 7", None, "7"),
        ("wait... no", None, "..."),
        ("#### $18", None, "$18"),
        ("no number", None, None),
    ],
)
def test_by_hand(response: str, strict: str | None, flexible: str | None) -> None:
    assert extract(get_extractor("numeric", "strict-match"), response) == strict
    assert extract(get_extractor("numeric", "flexible-extract"), response) == flexible
