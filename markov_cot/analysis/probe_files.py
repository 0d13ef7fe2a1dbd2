"""What a probe leaves in `runs/<run>/analysis/`: a JSON document, a CSV row for each reading, and a plot."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markov_cot.analysis.changes import EARLY
from markov_cot.analysis.effects import Contrast, Level, TestOutcome, contrasts, outcome, prefix_curve
from markov_cot.analysis.occlusion import Occlusion
from markov_cot.analysis.perturbations import FAMILIES, REMOVALS
from markov_cot.analysis.plotting import Curve, save_curves
from markov_cot.analysis.probe import Probed, ProbeOutcome
from markov_cot.analysis.readings import ItemReadings
from markov_cot.evaluation.evaluate import file_name, refusing_to_write
from markov_cot.evaluation.statistics import Estimate, estimate, summarise_counts
from markov_cot.utils.files import replace_file

FORMAT = 1


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
    tests = {test: outcome(found.own.items, test) for test in found.asked.tests}
    theirs = {test: outcome(found.other.items, test) for test in found.asked.tests} if found.other else {}
    contrast = contrasts(tests, theirs) if found.other else {}
    occlusions = occlusions_of(found)
    document = as_json(found, tests, theirs, contrast, occlusions)
    with refusing_to_write(found.folder):
        files = _write(found, tests, contrast, document)
    return ProbeReport(found, tests, contrast, document, files, occlusions)


def as_json(
    found: ProbeOutcome,
    tests: Mapping[str, TestOutcome | None],
    theirs: Mapping[str, TestOutcome | None],
    contrast: Mapping[str, Contrast],
    occlusions: Sequence[Occlusion],
) -> dict[str, Any]:
    """Return the document: settings, then what was found."""
    work, asked = found.work, found.asked
    document: dict[str, Any] = {
        "format": FORMAT,
        "n": len(work.items),
        "asked": work.task.limit,
        "too_long": work.too_long,
        "dataset": work.splits.name,
        "split": work.task.split,
        "items": work.items_fingerprint(),
        "seed": asked.request.seed,
        "unit": asked.unit,
        "paraphraser": asked.paraphraser,
        "base": found.model,
        **_about(found.own),
        "tests": {test: _test(each) for test, each in tests.items() if each},
        "not_applicable": [test for test, each in tests.items() if not each],
        "prefixes": [_estimate(each, "logprob") for each in prefix_curve(found.own.items)],
        "checks": _checks(found.own.items),
        "occlusion": [each.as_json() for each in occlusions],
        "against": None,
    }
    if found.other:
        document["against"] = {
            **_about(found.other),
            "tests": {test: _test(each) for test, each in theirs.items() if each},
            "differences": {test: _contrast(each) for test, each in contrast.items()},
        }
    return document


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


def csv_rows(items: Sequence[ItemReadings]) -> Iterator[list[Any]]:
    """Yield a header, then a row for each item, test and share."""
    yield ["item", "test", "share", "effect", "logprob", "right"]
    for item in items:
        yield [item.index, "", 0.0, 0.0, item.original.logprob, _flag(item.original.right)]
        for test, readings in item.changed.items():
            for share, effect in item.effects(test).items():
                reading = readings[share]
                yield [item.index, test, share, round(effect, 6), reading.logprob, _flag(reading.right)]


def _write(
    found: ProbeOutcome,
    tests: Mapping[str, TestOutcome | None],
    contrast: Mapping[str, Contrast],
    document: Mapping[str, Any],
) -> list[Path]:
    folder, name = found.folder, _name(found)
    paths = [folder / f"{name}.{ending}" for ending in ("json", "csv", "png")]
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows(csv_rows(found.own.items))
    replace_file(paths[0], (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode())
    replace_file(paths[1], table.getvalue().encode())
    title = f"{found.own.source.ref.name} on {found.work.task.title}, n = {len(found.work.items)}"
    curves = [_curve(test, {s: level.effect for s, level in each.levels.items()}) for test, each in _drawn(tests)]
    save_curves(paths[2], curves, title, "share of the CoT changed", "ln p(answer | CoT) - ln p(answer | changed)")
    if contrast and found.other:
        paths.append(folder / f"{name}-differences.png")
        curves = [_curve(test, each.levels) for test, each in contrast.items() if test in (*FAMILIES, EARLY)]
        save_curves(
            paths[3],
            curves,
            f"{title}: less that of {_run_and_name(found.other)}",
            "share of the CoT changed",
            "difference of effects (nats per answer token)",
        )
    return paths


def _drawn(tests: Mapping[str, TestOutcome | None]) -> list[tuple[str, TestOutcome]]:
    """Tests with a curve."""
    return [(test, each) for test, each in tests.items() if each and len(each.levels) > 1]


def _curve(test: str, estimates: Mapping[float, Estimate]) -> Curve:
    points = sorted(estimates.items())
    shares = [0.0, *(share for share, _ in points)]
    return Curve(
        test,
        shares,
        [0.0, *(each.mean for _, each in points)],
        [0.0, *(each.low for _, each in points)],
        [0.0, *(each.high for _, each in points)],
    )


def _name(found: ProbeOutcome) -> str:
    parts = [found.work.task.title, found.own.source.ref.name, *found.own.readers]
    if found.other:
        parts += ["against", _run_and_name(found.other)]
    return file_name("-".join(["probe", *parts]))


def _run_and_name(probed: Probed) -> str:
    ref = probed.source.ref
    return f"{ref.run}-{ref.name}" if ref.run else ref.name


def _about(probed: Probed) -> dict[str, Any]:
    """Who was probed, and what of its CoTs as they were."""
    ref, rights = probed.source.ref, [item.original.right for item in probed.items]
    about: dict[str, Any] = {
        "run": ref.run,
        "checkpoint": ref.name,
        "checkpoint_files": probed.source.checksums,
        "reader": probed.readers[0],
        "readers": list(probed.readers),
        "markovian": probed.config.prompt.markovian,
        "length": probed.config.rollout.length,
        "blank_cots": probed.blank,
        "reader_check": {"n": probed.check.ceiling.n, **probed.check.metrics()},
        "original": _estimate(estimate([item.original.logprob for item in probed.items]), "logprob"),
    }
    if None not in rights:
        share = summarise_counts(sum(map(bool, rights)), len(rights))
        about["original"] |= {"accuracy": share.mean, "accuracy_low": share.low, "accuracy_high": share.high}
    return about


def _checks(items: Sequence[ItemReadings]) -> dict[str, Any]:
    """What must hold of any probe, as measured: severity 0 has no effect, and nothing left is nothing left."""
    unchanged = [abs(item.effects(test)[0.0]) for item in items for test in FAMILIES if test in item.changed]
    removed = [
        {item.changed[test][1.0].logprob for test in (*REMOVALS, "empty") if test in item.changed} for item in items
    ]
    return {
        "severity_0": max(unchanged, default=None),
        "removals_differ_at_1": max((max(each) - min(each) for each in removed if each), default=None),
    }


def _test(found: TestOutcome) -> dict[str, Any]:
    document: dict[str, Any] = {
        "n": found.overall.effect.n,
        "severities": {f"{share:g}": _level(level) for share, level in sorted(found.levels.items())},
        "overall": {**_level(found.overall), "detectable": found.overall.effect.detectable},
    }
    if found.area_over_curve:
        document["area_over_curve"] = _estimate(found.area_over_curve, "value")
    return document


def _level(level: Level) -> dict[str, Any]:
    found = _estimate(level.effect, "effect")
    if level.accuracy_drop is not None:
        drop = level.accuracy_drop
        found |= {"accuracy_drop": drop.mean, "accuracy_drop_low": drop.low, "accuracy_drop_high": drop.high}
        found["same_answer"] = level.same_answer
    return found


def _contrast(contrast: Contrast) -> dict[str, Any]:
    overall = contrast.overall
    return {
        "severities": {f"{s:g}": _estimate(each, "difference") for s, each in sorted(contrast.levels.items())},
        "overall": {
            **_estimate(overall.estimate, "difference"),
            "n": overall.estimate.n,
            "p": overall.p_value,
            "p_holm": overall.p_holm,
            "detectable": overall.estimate.detectable,
        },
    }


def _estimate(each: Estimate, name: str) -> dict[str, Any]:
    return {name: each.mean, "low": each.low, "high": each.high}


def _flag(right: bool | None) -> int | str:
    return "" if right is None else int(right)
