"""What a probe leaves in `runs/<run>/analysis/`: a JSON document, a CSV row for each reading, and a plot."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markov_cot.analysis.effects import (
    Contrast,
    Level,
    TestOutcome,
    contrasts,
    outcome,
    over_families,
    prefix_curve,
)
from markov_cot.analysis.occlusion import Occlusion, page
from markov_cot.analysis.perturbations import FAMILIES, REMOVALS
from markov_cot.analysis.plotting import Curve, save_curves
from markov_cot.analysis.probe import Probed, ProbeOutcome
from markov_cot.analysis.readings import ItemReadings, Reading
from markov_cot.evaluation.evaluate import file_name, refusing_to_write
from markov_cot.evaluation.item_log import fingerprint
from markov_cot.evaluation.statistics import Estimate, estimate, summarise_counts
from markov_cot.utils.files import replace_file

FORMAT = 1
ALL_FAMILIES = "families"
"""The mean over the five families, among the tests."""
X_LABEL = "share of the CoT changed"


@dataclass(frozen=True)
class ProbeReport:
    """A probe's outcome, ready to be shown, and where it was written."""

    outcome: ProbeOutcome
    tests: Mapping[str, TestOutcome | None]
    """None for a test that applies to none of the CoTs."""
    contrast: Mapping[str, Contrast]
    """Empty without a model to hold it against."""
    document: dict[str, Any]
    """As in the JSON file."""
    files: list[Path]
    occlusions: list[Occlusion]


def report(found: ProbeOutcome) -> ProbeReport:
    """Sum up a probe, and write its files. Raises `UserError` where they cannot be written."""
    tests = _outcomes(found.own, found.asked.tests)
    theirs = _outcomes(found.other, found.asked.tests) if found.other else {}
    contrast = contrasts(tests, theirs)
    occlusions = occlusions_of(found)
    document = _document(found, tests, occlusions)
    if found.other:
        document["against"] = {
            **_about(found.other, theirs),
            "differences": {test: _contrast(each) for test, each in contrast.items()},
        }
    with refusing_to_write(found.folder):
        files = _write(found, tests, contrast, document, occlusions)
    return ProbeReport(found, tests, contrast, document, files, occlusions)


def _outcomes(probed: Probed, tests: Sequence[str]) -> dict[str, TestOutcome | None]:
    """Of each test, and of the five families together where all were asked for."""
    found = {test: outcome(probed.items, test) for test in tests}
    together = over_families(found)
    return found | ({ALL_FAMILIES: together} if together else {})


def _document(
    found: ProbeOutcome, tests: Mapping[str, TestOutcome | None], occlusions: Sequence[Occlusion]
) -> dict[str, Any]:
    """Settings, then what was found."""
    work, asked = found.work, found.asked
    return {
        "format": FORMAT,
        "n": len(work.items),
        "asked": work.task.limit,
        "too_long": work.too_long,
        "dataset": work.splits.name,
        "split": work.task.split,
        "items": work.items_fingerprint(),
        "seed": asked.request.seed,
        "unit": asked.unit,
        "temperature": work.task.temperature,
        "paraphraser": asked.paraphraser,
        "base": found.model,
        **_about(found.own, tests),
        "not_applicable": [test for test, each in tests.items() if not each],
        "checks": _checks(found.own.items),
        "occlusion": [each.as_json() for each in occlusions],
        "against": None,
    }


def occlusions_of(found: ProbeOutcome) -> list[Occlusion]:
    """Return the examples whose tokens were left out one at a time."""
    problems = {item.index: item.problem for item in found.work.items}
    return [
        Occlusion(
            index=row.index,
            question=problems[row.index].question or problems[row.index].passage,
            answer=problems[row.index].answer,
            tokens=found.own.texts[row.index],
            effects=tuple(row.original.logprob - without for without in row.occluded),
        )
        for row in found.own.items
        if row.occluded
    ]


def csv_rows(found: ProbeOutcome) -> Iterator[list[Any]]:
    """Yield a header, then a row for each model, item, test and share."""
    yield ["model", "item", "test", "share", "effect", "logprob", "right", "answer"]
    for probed in (found.own, found.other) if found.other else (found.own,):
        for item in probed.items:
            start = [_run_and_name(probed), item.index]
            yield [*start, "", 0.0, 0.0, *_cells(item.original)]
            for test, readings in item.changed.items():
                for share, effect in item.effects(test).items():
                    yield [*start, test, share, round(effect, 6), *_cells(readings[share])]


def _cells(reading: Reading) -> list[Any]:
    return [reading.logprob, "" if reading.right is None else int(reading.right), reading.answer]


def _write(
    found: ProbeOutcome,
    tests: Mapping[str, TestOutcome | None],
    contrast: Mapping[str, Contrast],
    document: Mapping[str, Any],
    occlusions: Sequence[Occlusion],
) -> list[Path]:
    folder, name = found.folder, _name(found)
    paths = [folder / f"{name}.{ending}" for ending in ("json", "csv", "png")]
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows(csv_rows(found))
    replace_file(paths[0], (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode())
    replace_file(paths[1], table.getvalue().encode())
    if occlusions:
        paths.append(folder / f"{name}-occlusion.html")
        replace_file(paths[-1], page(occlusions, name).encode())
    title = f"{found.own.source.ref.name} on {found.work.task.title}, n = {len(found.work.items)}"
    curves = [_curve(test, {s: level.effect for s, level in each.levels.items()}) for test, each in _drawn(tests)]
    save_curves(paths[2], curves, title, X_LABEL, "effect (nats per answer token)")
    if found.other:
        paths.append(folder / f"{name}-differences.png")
        curves = [_curve(test, contrast[test].levels) for test, _ in _drawn(tests) if test in contrast]
        title = f"{title}: less that of {_run_and_name(found.other)}"
        save_curves(paths[-1], curves, title, X_LABEL, "difference of effects (nats per answer token)")
    return paths


def _drawn(tests: Mapping[str, TestOutcome | None]) -> list[tuple[str, TestOutcome]]:
    """Tests with a curve."""
    return [(test, each) for test, each in tests.items() if each and len(each.levels) > 1]


def _curve(test: str, estimates: Mapping[float, Estimate]) -> Curve:
    """Over the shares, from nothing at 0."""
    points = [(0.0, 0.0, 0.0, 0.0), *((s, e.mean, *_ends(e)) for s, e in sorted(estimates.items()))]
    shares, means, lows, highs = zip(*points, strict=True)
    return Curve(test, shares, means, lows, highs)


def _ends(each: Estimate) -> tuple[float, float]:
    """The interval, or the mean where one item has none."""
    return (each.mean, each.mean) if each.low is None or each.high is None else (each.low, each.high)


def _name(found: ProbeOutcome) -> str:
    """Says what is in the file, and ends in a fingerprint of all that it depends on."""
    settings = [each.settings for each in (found.own, found.other) if each]
    parts = [found.work.task.title, found.own.source.ref.name, *(reader.name for reader in found.own.readers.readers)]
    if found.other:
        parts += ["against", _run_and_name(found.other)]
    return file_name("-".join(["probe", *parts, fingerprint({"settings": settings})[:8]]))


def _run_and_name(probed: Probed) -> str:
    ref = probed.source.ref
    return f"{ref.run}-{ref.name}" if ref.run else ref.name


def _about(probed: Probed, tests: Mapping[str, TestOutcome | None]) -> dict[str, Any]:
    """Who was probed, and what was found."""
    ref, names = probed.source.ref, [reader.name for reader in probed.readers.readers]
    return {
        "run": ref.run,
        "checkpoint": ref.name,
        "checkpoint_files": probed.source.checksums,
        "reader": "+".join(names),
        "readers": names,
        "combine": probed.config.reward.combine if len(names) > 1 else None,
        "markovian": probed.config.prompt.markovian,
        "length": probed.config.rollout.length,
        "blank_cots": probed.blank,
        "copied": probed.copied,
        "lost_characters": probed.lost_characters,
        "reader_check": {"n": probed.check.ceiling.n, **probed.check.metrics()},
        "original": _original(probed.items),
        "tests": {test: _test(each) for test, each in tests.items() if each},
        "prefixes": [_estimate(each, "logprob") for each in prefix_curve(probed.items)],
    }


def _original(items: Sequence[ItemReadings]) -> dict[str, Any]:
    found = _estimate(estimate([item.original.logprob for item in items]), "logprob")
    if items[0].original.right is None:
        return found
    share = summarise_counts(sum(bool(item.original.right) for item in items), len(items))
    invalid = sum(item.original.vote is None for item in items) / len(items)
    return found | {
        "accuracy": share.mean,
        "accuracy_low": share.low,
        "accuracy_high": share.high,
        "invalid": invalid,
    }


def _checks(items: Sequence[ItemReadings]) -> dict[str, float | None]:
    """What must be 0 of any probe: effects of severity 0, and of the removals at 100 % less that of no CoT.

    And what rounding alone makes of a log-prob: the CoT and no CoT are read twice, among others each time.
    """
    unchanged = [abs(item.effects(test)[0.0]) for item in items for test in FAMILIES if test in item.changed]
    emptied = [
        {item.changed[test][1.0].logprob for test in (*REMOVALS, "empty") if test in item.changed} for item in items
    ]
    return {
        "severity_0": max(unchanged, default=None),
        "removals_differ_at_1": max((max(each) - min(each) for each in emptied if each), default=None),
        "read_twice": max(abs(item.original.logprob - item.prefixes[-1]) for item in items),
    }


def _test(found: TestOutcome) -> dict[str, Any]:
    document: dict[str, Any] = {
        "n": found.overall.effect.n,
        "unmoved": found.unmoved,
        "severities": {f"{share:g}": _level(level) for share, level in sorted(found.levels.items())},
        "overall": {**_level(found.overall), "detectable": found.overall.effect.detectable},
    }
    if found.area_over_curve:
        document["area_over_curve"] = _estimate(found.area_over_curve, "value")
    return document


def _level(level: Level) -> dict[str, Any]:
    found = _estimate(level.effect, "effect") | _drop(level.accuracy_drop)
    return found if level.same_answer is None else {**found, "same_answer": level.same_answer}


def _contrast(contrast: Contrast) -> dict[str, Any]:
    overall = contrast.overall
    return {
        "severities": {f"{s:g}": _estimate(each, "difference") for s, each in sorted(contrast.levels.items())},
        "overall": {
            **_estimate(overall.effect, "difference"),
            **_drop(overall.accuracy_drop),
            "n": overall.effect.n,
            "p": overall.p_value,
            "p_holm": overall.p_holm,
            "detectable": overall.effect.detectable,
        },
    }


def _drop(each: Estimate | None) -> dict[str, Any]:
    if each is None:
        return {}
    return {"accuracy_drop": each.mean, "accuracy_drop_low": each.low, "accuracy_drop_high": each.high}


def _estimate(each: Estimate, name: str) -> dict[str, Any]:
    return {name: each.mean, "low": each.low, "high": each.high}
