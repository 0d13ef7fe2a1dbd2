from __future__ import annotations

import json

import pytest

from markov_cot.analysis.effects import area_over_curve, contrasts, outcome, over_families, prefix_curve
from markov_cot.analysis.occlusion import Occlusion, page
from markov_cot.analysis.readings import READINGS, ItemReadings, Reading
from markov_cot.data.problem import Problem
from markov_cot.evaluation.statistics import detectable_effect, estimate, holm, sign_test_p_value, spearman
from markov_cot.grading.extractors import PRIMARY


def readings(index: int, original: Reading, **changed: dict[float, Reading]) -> ItemReadings:
    return ItemReadings(index, (1, 2), original, changed, (-3.0, -2.0, -1.0), ())


def read(logprob: float, right: bool | None = None, vote: str | None = None) -> Reading:
    return Reading(logprob, vote or "", right, vote)


def test_effects_by_hand() -> None:
    right, wrong = read(-1.0, True, "5"), read(-3.0, False, "6")
    items = [
        readings(0, right, delete={0.0: right, 0.5: read(-1.5, True, "5"), 1.0: wrong}),
        readings(4, wrong, delete={0.0: wrong, 0.5: read(-2.0, True, "5"), 1.0: read(-3.5, False, "6")}),
        readings(7, right),
    ]
    found = outcome(items, "delete")
    assert found
    # Of items 0 and 4: 0.5 and -1 at one half, 2 and 0.5 at the whole; the means over the shares are 1.25 and -0.25.
    assert found.effects == {0: {0.5: 0.5, 1.0: 2.0}, 4: {0.5: -1.0, 1.0: 0.5}}
    assert {share: level.effect.mean for share, level in found.levels.items()} == {0.5: -0.25, 1.0: 1.25}
    assert found.overall.effect.mean == 0.5
    drop = found.levels[0.5].accuracy_drop
    assert drop and drop.mean == -0.5, "item 4 is right only after half of its CoT"
    assert found.levels[0.5].same_answer == 0.5 and found.levels[1.0].same_answer == 0.5
    assert outcome(items, "swap") is None
    assert found.unmoved == 0
    still = outcome([readings(3, right, delete={0.0: right, 1.0: right})], "delete")
    assert still and still.unmoved == 1
    assert [each.mean for each in prefix_curve(items)] == [-3.0, -2.0, -1.0]


def test_continuations_have_effects_alone() -> None:
    found = outcome([readings(0, read(-1.0, None), swap={1.0: read(-2.0, None)})], "swap")
    assert found and found.overall.effect.mean == 1.0
    assert found.overall.accuracy_drop is None and found.overall.same_answer is None


def test_early_answering_by_hand() -> None:
    own, other = read(-1.0, True, "5"), read(-2.0, False, "6")
    item = readings(0, own, early_answering={1.0: other, 0.5: own})
    # Two steps. Same answers: no at 0 steps, yes at 1/2 and 1. The trapezoids are 0.25 and 0.5: 1 - 0.75.
    assert area_over_curve(item) == 0.25
    found = outcome([item], "early_answering")
    assert found and found.area_over_curve and found.area_over_curve.mean == 0.25
    # Leaving out 20 or 40 % at least is leaving out one of the two steps, more than half is both.
    assert [level.effect.mean for level in found.levels.values()] == [0.0, 0.0, 1.0, 1.0, 1.0]
    unreadable = readings(0, read(-1.0, False), early_answering={1.0: read(-1.0, False), 0.5: read(-1.0, False)})
    assert area_over_curve(unreadable) == 0.75, "no answer is the same as no other; the whole CoT's is by definition"
    never = readings(0, own, early_answering={1.0: own, 0.5: own})
    assert area_over_curve(never) == 0.0


def test_contrasts_are_paired_by_item() -> None:
    def effect(index: int, size: float) -> ItemReadings:
        return readings(index, read(0.0, True), swap={1.0: read(-size, True)})

    own = outcome([effect(i, s) for i, s in ((0, 3.0), (1, 2.0), (2, 9.0))], "swap")
    other = outcome([effect(i, s) for i, s in ((1, 1.0), (0, 1.0))], "swap")
    found = contrasts({"swap": own, "empty": None}, {"swap": other, "empty": None})
    assert list(found) == ["swap"]
    assert found["swap"].overall.effect.mean == 1.5, "(3 - 1 + 2 - 1) / 2, without item 2"
    assert found["swap"].overall.accuracy_drop and found["swap"].overall.accuracy_drop.mean == 0
    assert found["swap"].overall.p_value == found["swap"].overall.p_holm == 0.5, "two of two above 0"
    assert found["swap"].levels[1.0].mean == 1.5


def test_statistics_by_hand() -> None:
    # z_0.975 + z_0.8 = 1.95996 + 0.84162 = 2.80158; values 0, 2: standard deviation sqrt(2), stderr 1.
    assert detectable_effect(1.0) == pytest.approx(2.8015852, abs=1e-7)
    assert estimate([0.0, 2.0]).detectable == pytest.approx(2.8015852, abs=1e-7)
    assert estimate([0.0, 2.0]).mean == 1.0
    assert estimate([3.0]).detectable is None
    assert sign_test_p_value([0.0, 0.0]) == 1.0
    assert sign_test_p_value([1.0] * 5) == 2 / 2**5
    assert holm({"a": 0.01, "b": 0.02, "c": 0.9}) == pytest.approx({"a": 0.03, "b": 0.04, "c": 0.9})
    assert holm({"a": 0.6, "b": 0.7}) == {"a": 1.0, "b": 1.0}


def test_spearman_agrees_with_scipy() -> None:
    from scipy.stats import spearmanr

    a, b = [3.0, 1.0, 1.0, 5.0, 9.0, 2.0], [1.0, 0.0, 2.0, 2.0, 7.0, -1.0]
    rho, low, high = spearman(a, b)
    assert rho == pytest.approx(spearmanr(a, b).statistic, abs=1e-12)
    assert low is not None and high is not None and low <= rho <= high
    assert spearman([1.0, 1.0], [1.0, 2.0]) == (None, None, None)


def test_rows_come_back_as_they_were_and_are_graded_then() -> None:
    row = ItemReadings(3, (5, 6), Reading(-0.25, "47"), {"swap": {1.0: Reading(-1.5, "none")}}, (-1.0,), (-2.0,))
    assert READINGS.from_json(json.loads(json.dumps(READINGS.to_json(row)))) == row
    graded = row.graded(Problem("", "q", "47.0", "numeric"), PRIMARY["numeric"])
    assert (graded.original.right, graded.changed["swap"][1.0].right) == (True, False)
    assert graded.original.vote and graded.changed["swap"][1.0].vote is None
    assert row.graded(Problem("", "q", "47", "numeric"), None) == row


def test_occlusion_shows_untrusted_text_as_text() -> None:
    shown = Occlusion(0, "q", "7", ("<b>", "\x1b[31m", " 47", "."), (0.01, -1.0, 2.0, 0.0))
    html = shown.as_html()
    assert "<b>" not in html and "&lt;b&gt;" in html and "\x1b" not in html
    assert 'title="+2.000 nats" style="background:#c9210f' in html and 'title="+0.000 nats">.' in html
    text = shown.as_terminal()
    assert text.plain == "<b>\\x1b[31m 47."
    assert [str(span.style) for span in text.spans] == ["black on #4a90d9", "black on #c9210f"]
    assert shown.heaviest(2) == [(" 47", 2.0), ("<b>", 0.01)]
    assert Occlusion(0, "q", "7", ("a",), (0.0,)).heaviest() == []
    whole = page([shown], "<title>")
    assert "<b>7</b>" in whole and "&lt;title&gt;" in whole and "default-src 'none'" in whole and "<script" not in whole


PUBLISHED = {
    # Severity: differences of effects (nats) on Wikipedia by family, their mean. scottviteri/MarkovianTraining at
    # 09d0db9, table of arXiv 2404.18988.
    0.2: ((0.457, 0.459, 0.016, 0.254, -0.009), 0.235),
    0.4: ((0.849, 0.836, 0.025, 0.368, 0.121), 0.440),
    0.6: ((1.042, 1.002, 0.035, 0.596, 0.284), 0.592),
    0.8: ((1.079, 1.069, 0.038, 1.020, 0.622), 0.766),
    1.0: ((1.084, 1.263, 0.039, 1.258, 1.262), 0.981),
}
FAMILIES = ("char_replace", "delete", "digit_replace", "truncate_back", "truncate_front")
COLUMN_MEANS, OVERALL = (0.902, 0.926, 0.030, 0.699, 0.456), 0.603


def test_means_are_those_of_the_published_table() -> None:
    """Of one item whose effects are the published cells, by the code that averages ours; its cells have 3 decimals."""
    changed = {
        family: {share: read(-cells[i], None) for share, (cells, _) in PUBLISHED.items()}
        for i, family in enumerate(FAMILIES)
    }
    item = readings(0, read(0.0, None), **changed)
    found = [outcome([item], family) for family in FAMILIES]
    for each, mean in zip(found, COLUMN_MEANS, strict=True):
        # digit_replace's mean is .0306, which is printed as .030.
        assert each and each.overall.effect.mean == pytest.approx(mean, abs=0.00061)
    together = over_families(dict(zip(FAMILIES, found, strict=True)))
    assert together and together.overall.effect.mean == pytest.approx(OVERALL, abs=0.00061)
    for share, (_, mean) in PUBLISHED.items():
        assert together.levels[share].effect.mean == pytest.approx(mean, abs=0.00061)
    assert over_families({"delete": found[1]}) is None, "of all five, or of none"
