"""Metrics by hand, error bars, the layout of the files."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from markov_cot.data.problem import Problem
from markov_cot.evaluation.item_metrics import item_scores, passes_reported, perplexity
from markov_cot.evaluation.records import Item, Likelihood, Record, Sample
from markov_cot.evaluation.report import TaskReport, as_harness
from markov_cot.evaluation.results import compare, measure, outcome
from markov_cot.evaluation.sample_rows import sample_rows
from markov_cot.evaluation.statistics import wilson_interval
from markov_cot.grading.extractors import default_extractors, get_extractor

ANCHOR = [get_extractor("numeric", "anchor")]
LETTER = [get_extractor("choice", "word-boundary")]


def numeric(*answers: str, gold: str = "18", index: int = 0, logprob: float = -1.0) -> tuple[Item, Record]:
    samples = tuple(Sample("thinking", answer, logprob, 0.25) for answer in answers)
    return Item(index, Problem(str(index), "How many?", gold, "numeric")), Record(index, 2, -3.0, samples)


def choice(
    logprobs: tuple[float, ...], gold: str, *, answer: str = "A", subject: str = "", letters: tuple[float, ...] = ()
) -> tuple[Item, Record]:
    problem = Problem("c", "Which?", gold, "choice", choices=("four", "a dozen", "7"), subject=subject)
    texts = tuple(Likelihood(value, False) for value in logprobs)
    marks = tuple(Likelihood(value, False) for value in letters or logprobs)
    return Item(0, problem), Record(0, 2, -1.0, (Sample("thinking", answer, -1.0, 0.0, texts, marks),))


def scores_of(*pairs: tuple[Item, Record], extractors: list = ANCHOR, reduction: str = "mean") -> dict:  # type: ignore[type-arg]
    items, records = zip(*pairs, strict=True)
    return item_scores(items, records, extractors, reduction)


def test_pass_and_majority_by_hand() -> None:
    scores = scores_of(
        numeric("18", "18.0", "17", "none"),
        numeric("17", "$17", "18", "x"),
    )
    # 2 of 4 right: pass@1 = 2/4, pass@2 = 1 - C(2,2)/C(4,2) = 5/6, pass@4 = 1
    # 1 of 4 right: pass@1 = 1/4, pass@2 = 1 - C(3,2)/C(4,2) = 1/2, pass@4 = 1
    assert scores["exact_match,anchor"] == [0.5, 0.25]
    assert scores["pass@1,anchor"] == [0.5, 0.25]
    assert scores["pass@2,anchor"] == pytest.approx([5 / 6, 0.5])
    assert scores["pass@4,anchor"] == [1.0, 1.0]
    # 18 and 18.0 are one number, as are 17 and $17
    assert scores["maj@4,anchor"] == [1.0, 0.0]


def test_texts_vote_as_they_are_compared() -> None:
    items = [Item(0, Problem("0", "Which?", "Rhein", "text"))]
    answers = ("Main", "Der Rhein.", "Main", "rhein", "der Rhein")
    records = [Record(0, 2, -3.0, tuple(Sample("thinking", answer, -1.0, 0.25) for answer in answers))]
    line = get_extractor("text", "line")
    assert item_scores(items, records, [line.for_articles(("der",))], "mean")["maj@5,line"] == [1.0]
    # "der rhein" and "main" are two each, and Main is the earliest.
    assert item_scores(items, records, [line], "mean")["maj@5,line"] == [0.0]


def test_which_passes_are_reported() -> None:
    assert [passes_reported(k) for k in (1, 2, 3, 4, 6)] == [[], [1, 2], [1, 2, 3], [1, 2, 4], [1, 2, 4, 6]]


def test_informativeness_is_the_gain_over_the_baseline() -> None:
    scores = scores_of(numeric("18", logprob=-1.0), numeric("18", logprob=-3.5))
    assert scores["answer_logprob,none"] == [-1.0, -3.5]
    assert scores["informativeness,none"] == [2.0, -0.5]


def test_likelihoods_of_choices_by_hand() -> None:
    # "four", "a dozen", "7": log-likelihoods -4, -6, -3, so acc picks "7" (C);
    # per character -4/4, -6/7, -3/1, so acc_norm picks "a dozen" (B)
    by_text = (-4.0, -6.0, -3.0)
    scores = scores_of(choice(by_text, "C"), choice(by_text, "B"), extractors=LETTER)
    assert scores["acc,none"] == [1.0, 0.0]
    assert scores["acc_norm,none"] == [0.0, 1.0]
    # Of equals the first is taken, as by numpy's argmax.
    assert scores_of(choice((-2.0, -2.0, -9.0), "A"), extractors=LETTER)["acc,none"] == [1.0]
    assert scores_of(choice(by_text, "A", letters=(-1.0, -2.0, -3.0)), extractors=LETTER)["acc,letter"] == [1.0]


def test_groups_have_a_micro_and_a_macro_mean() -> None:
    likely_a = (-1.0, -5.0, -5.0)
    pairs = [
        choice(likely_a, "A", subject="law"),
        choice(likely_a, "A", subject="law"),
        choice(likely_a, "A", subject="law"),
        choice(likely_a, "B", subject="law"),
        choice(likely_a, "A", subject="art"),
        choice(likely_a, "B", subject="art"),
    ]
    found = outcome(*map(list, zip(*pairs, strict=True)), LETTER, "mean")
    assert list(found.groups) == ["art", "law"]
    assert found.groups["law"]["acc,none"].mean == 0.75
    assert found.measures["acc,none"].mean == pytest.approx(4 / 6)
    assert found.macro["acc,none"].mean == pytest.approx((0.5 + 0.75) / 2)
    # law: variance 0.75 * 0.25 * 4/3 = 0.25, stderr sqrt(0.25 / 4) = 0.25; art: variance 0.5, stderr sqrt(0.5 / 2)
    assert found.macro["acc,none"].stderr == pytest.approx(math.sqrt(0.25**2 + 0.5**2) / 2)
    assert found.macro["acc,none"].n == 2


def test_perplexity_weighs_tokens_not_items() -> None:
    def text(logprob: float, tokens: int) -> tuple[Item, Record]:
        return Item(0, Problem("w", "", "text", "continuation", passage="p")), Record(
            0, tokens, -2.0, (Sample("notes", "", logprob, 0.0),)
        )

    pairs = [text(-1.0, 1), text(-2.0, 3)]
    records = [record for _, record in pairs]
    # (1 * 1 + 3 * 2) / 4 = 1.75 nats a token
    assert perplexity(records, "mean") == pytest.approx(math.exp(1.75))
    # Reduced by sum, the second item's -2 nats are of all its three tokens: (1 + 2) / 4
    assert perplexity(records, "sum") == pytest.approx(math.exp(0.75))
    found = outcome([item for item, _ in pairs], records, [], "mean")
    assert found.measures["logprob_per_token,none"].mean == -1.5
    assert found.primary == "logprob_per_token,none"
    assert "exact_match" not in " ".join(found.measures)


def test_error_bars() -> None:
    share = measure("exact_match,anchor", [1.0, 0.0, 0.0, 0.0])
    assert (share.mean, share.stderr) == (0.25, 0.25)
    assert (share.low, share.high) == wilson_interval(1, 4)
    nats = measure("answer_logprob,none", [-1.0, -2.0, -3.0, -6.0])
    # variance 14 / 3, stderr sqrt(14 / 12)
    assert nats.stderr == pytest.approx(math.sqrt(14 / 12))
    assert nats.low == pytest.approx(-3 - 1.959963984540054 * math.sqrt(14 / 12))
    assert measure("answer_logprob,none", [-1.0]).stderr is None


def test_nan_is_told_not_averaged() -> None:
    found = outcome(*map(list, zip(numeric("18"), numeric("18", logprob=math.nan), strict=True)), ANCHOR, "mean")
    assert found.measures["answer_logprob,none"].mean is None
    assert found.measures["answer_logprob,none"].nan == 1
    assert found.measures["exact_match,anchor"].mean == 1.0
    assert "answer_logprob,none" not in compare(found, found)
    notes = report(found).notes()
    assert any("answer_logprob,none is NaN for 1 of 2 items" in note for note in notes)
    unlikely = scores_of(choice((math.nan, -1.0, -2.0), "B"), extractors=LETTER)
    assert math.isnan(unlikely["acc,none"][0])


def test_a_paired_comparison() -> None:
    worse = outcome(*map(list, zip(*[numeric("17", index=i) for i in range(6)], strict=True)), ANCHOR, "mean")
    better = outcome(*map(list, zip(*[numeric("18", index=i) for i in range(6)], strict=True)), ANCHOR, "mean")
    paired = compare(worse, better)["exact_match,anchor"]
    # Six items changed, all the same way: 2 / 2^6
    assert (paired.difference, paired.p_value) == (1.0, 2 / 64)


def report(found, name: str = "task") -> TaskReport:  # type: ignore[no-untyped-def]
    return TaskReport(name, found, {"split": "test"}, original=50, too_long=1, broken=0, source="here")


def test_the_results_have_the_harness_layout() -> None:
    pairs = [numeric("18"), numeric("17")]
    found = outcome(*map(list, zip(*pairs, strict=True)), default_extractors("numeric"), "mean")
    document = as_harness([report(found, "gsm8k")], {"seed": 0}, 0.0)
    results = document["results"]["gsm8k"]
    assert results["exact_match,anchor"] == 0.5
    assert results["exact_match_stderr,anchor"] == 0.5
    assert results["exact_match,flexible-extract"] == 0.5
    assert document["n-samples"] == {"gsm8k": {"original": 50, "effective": 2}}
    assert {"configs", "versions", "n-shot", "config"} <= set(document)
    assert document["markov_cot"]["gsm8k"]["invalid"]["strict-match"] == 2
    alone = as_harness([report(outcome(*[[x] for x in numeric("18")], ANCHOR, "mean"))], {}, 0.0)
    assert alone["results"]["task"]["exact_match_stderr,anchor"] == "N/A"


def test_samples_are_a_row_for_each_document_and_filter() -> None:
    item, record = numeric("It is 18", "none")
    rows = list(sample_rows([item], [record], ANCHOR, scores_of((item, record))))
    assert len(rows) == 1
    assert rows[0]["doc_id"] == 0
    assert rows[0]["target"] == "18"
    assert rows[0]["resps"] == [["It is 18", "none"]]
    assert rows[0]["filtered_resps"] == [["18", "[invalid]"]]
    assert rows[0]["predicted"] == ["18", None]
    assert rows[0]["filter"] == "anchor"
    assert rows[0]["exact_match"] == 0.5
    item, record = choice((-4.0, -6.0, -3.0), "C", answer="C")
    rows = list(sample_rows([item], [record], LETTER, scores_of((item, record), extractors=LETTER)))
    assert [row["filter"] for row in rows] == ["word-boundary", "none"]
    assert rows[1]["resps"] == [[[-4.0, False]], [[-6.0, False]], [[-3.0, False]]]
    assert rows[1]["filtered_resps"] == [[-4.0, False], [-6.0, False], [-3.0, False]]
    assert (rows[1]["target"], rows[1]["acc"], rows[1]["acc_norm"]) == (2, 1.0, 0.0)


def test_every_metric_is_documented() -> None:
    documented = (Path(__file__).parents[3] / "docs" / "evaluation.md").read_text()
    pairs = [choice((-1.0, -2.0, -3.0), "A"), numeric("1", "2")]
    for pair in pairs:
        extractors = LETTER if pair[0].problem.kind == "choice" else ANCHOR
        for key in scores_of(pair, extractors=extractors):
            name = key.split(",")[0].split("@")[0]
            assert f"`{name}" in documented, name
    for kind in ("numeric", "choice"):
        for extractor in default_extractors(kind):  # type: ignore[arg-type]
            assert f"`{extractor.name}`" in documented, extractor.name
