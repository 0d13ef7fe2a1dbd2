"""What `markov-cot probe` does: read the options, show progress, print tables or JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from markov_cot.analysis.changes import PARAPHRASE, check_tests
from markov_cot.analysis.effects import Contrast, TestOutcome
from markov_cot.analysis.probe import ProbeRequest, probe
from markov_cot.analysis.probe_files import ProbeReport, report
from markov_cot.cli.evaluating import overrides_of, progress
from markov_cot.cli.quiet import quiet_libraries
from markov_cot.cli.signals import ending_at_once
from markov_cot.cli.tables import estimate_cell, plain_table, print_table
from markov_cot.evaluation.evaluate import Request
from markov_cot.evaluation.locate import BASE
from markov_cot.evaluation.statistics import Estimate, small_sample_note
from markov_cot.evaluation.suites import SuiteTask
from markov_cot.utils.errors import UserError
from markov_cot.utils.text import visible


def run_probe(options: Mapping[str, Any], settings: tuple[str, ...], *, as_json: bool) -> None:
    """Probe as asked and print the outcome."""
    asked = make_request(options, settings)
    quiet_libraries()
    errors = Console(stderr=True, markup=False, highlight=False)

    def say(message: str) -> None:
        errors.print(visible(message), soft_wrap=True)

    with ending_at_once(), progress(errors) as track:
        found = report(probe(asked, track, say))
    if as_json:
        print(json.dumps(found.document, ensure_ascii=False))
    else:
        print_report(found)


def make_request(options: Mapping[str, Any], settings: tuple[str, ...]) -> ProbeRequest:
    """The options as a request. Raises `UserError` for options that do not go together."""
    tests = check_tests(options["tests"])
    if options["paraphraser"] and not options["tests"]:
        tests += (PARAPHRASE,)
    if options["paraphraser"] and PARAPHRASE not in tests:
        raise UserError("--paraphraser: is for --test paraphrase, which is not among the tests; leave it out")
    is_plain = options["model"] and not options["run"] and not options["checkpoint"]
    request = Request(
        checkpoint=BASE if is_plain else options["checkpoint"],
        run=options["run"],
        tasks=(SuiteTask(dataset=options["dataset"]),) if options["dataset"] else (),
        task_fields={
            "split": options["split"],
            "limit": options["limit"],
            "temperature": options["temperature"] or None,
        },
        seed=options["seed"],
        out=Path(options["out"]) if options["out"] else None,
        overrides=overrides_of(options, settings),
    )
    return ProbeRequest(
        request, tests, options["against"], options["unit"], options["paraphraser"], options["examples"]
    )


def print_report(found: ProbeReport) -> None:
    """Tables of effects, by test and by severity, and what should be known beside them."""
    console = Console(markup=False, highlight=False)
    document, work = found.document, found.outcome.work

    def line(text: str) -> None:
        console.print(visible(text), soft_wrap=True)

    line(f"{_who(document)} on {work.task.title}, {work.task.split} split: {document['n']:,} items")
    line(_as_it_was(document))
    line("")
    print_table(console, _overall(found.tests), "effect of changing the CoT, nats per answer token [95 %]")
    line("")
    print_table(console, _by_severity(found.tests), "effect by share of the CoT changed")
    line("")
    if other := document["against"]:
        line(f"against {_who(other)}: {_as_it_was(other)}")
        print_table(console, _differences(found.contrast), "difference of the effects, the same items")
        line("")
    for example in found.occlusions:
        line(f"item {example.index}, answer {example.answer}: red tokens are those it needs")
        console.print(example.as_terminal())
        heaviest = ", ".join(f"{token!r} {effect:+.2f}" for token, effect in example.heaviest())
        line(f"without them the answer loses most (nats): {heaviest or 'none of them'}\n")
    for note in notes(found):
        line(note)
    for path in found.files:
        line(f"written: {path}")


def notes(found: ProbeReport) -> list[str]:
    """What should be known beside the numbers, a line each."""
    document, work = found.document, found.outcome.work
    n, lines = document["n"], []
    if document["asked"] and n < document["asked"]:
        fits = f", {work.too_long:,} of which do not fit into the context" if work.too_long else ""
        lines.append(f"asked for {document['asked']:,} items; the split has {work.total:,}{fits}")
    lines += [f"reader: {line}" for line in found.outcome.own.check.warnings()]
    if blank := document["blank_cots"]:
        lines.append(f"{blank} of {n} CoTs are white space alone: there is little that changes could do")
    for test, each in found.tests.items():
        if each is None:
            lines.append(f"{test}: applies to none of the CoTs (no number to change, one step, or one item)")
            continue
        if each.overall.effect.n < n:
            lines.append(f"{test}: applies to {each.overall.effect.n:,} of the {n:,} CoTs")
        if each.unmoved:
            lines.append(f"{test}: has no effect at all on {each.unmoved:,} of them, as where nothing could be changed")
        if each.area_over_curve:
            area = estimate_cell(each.area_over_curve)
            lines.append(f"{test}: area over the curve of same answers {area}")
    if note := small_sample_note(n, is_share=False):
        lines.append(note)
    return lines


def _who(document: Mapping[str, Any]) -> str:
    return f"{document['checkpoint']} of run {document['run']}" if document["run"] else str(document["checkpoint"])


def _as_it_was(document: Mapping[str, Any]) -> str:
    """How its CoTs are read, and what they are worth unchanged."""
    original = document["original"]
    mode = "Markovian" if document["markovian"] else "Non-Markovian"
    parts = [f"answer log-prob {original['logprob']:.3f}"]
    if "accuracy" in original:
        parts.append(f"accuracy {_interval(original, 'accuracy')}")
    parts.append(f"copied 4-grams {document['copied']:.3f}")
    return f"{mode}, read by {document['reader']}: {', '.join(parts)}"


def _interval(of: Mapping[str, Any], key: str) -> str:
    return f"{of[key]:.3f} [{of[f'{key}_low']:.3f}, {of[f'{key}_high']:.3f}]"


def _overall(tests: Mapping[str, TestOutcome | None]) -> Table:
    table = plain_table("test", "effect", "accuracy drop", "detectable")
    for test, each in tests.items():
        if each:
            level = each.overall
            table.add_row(test, estimate_cell(level.effect), _drop(level.accuracy_drop), _size(level.effect))
    return table


def _by_severity(tests: Mapping[str, TestOutcome | None]) -> Table:
    shares = sorted({share for each in tests.values() if each for share in each.levels})
    table = plain_table("test", *(f"{share:.0%}" for share in shares))
    for test, each in tests.items():
        if each:
            table.add_row(test, *(f"{each.levels[s].effect.mean:+.3f}" if s in each.levels else "" for s in shares))
    return table


def _differences(contrast: Mapping[str, Contrast]) -> Table:
    table = plain_table("test", "effect", "accuracy drop", "p (sign)", "p (Holm)", "detectable")
    for test, each in contrast.items():
        found = each.overall
        p_values = (f"{found.p_value:.2g}", f"{found.p_holm:.2g}")
        table.add_row(test, estimate_cell(found.effect), _drop(found.accuracy_drop), *p_values, _size(found.effect))
    return table


def _drop(each: Estimate | None) -> str:
    return "-" if each is None else estimate_cell(each)


def _size(each: Estimate) -> str:
    return "-" if each.detectable is None else f"{each.detectable:.3f}"
