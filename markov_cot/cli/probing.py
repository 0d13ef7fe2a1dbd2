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
from markov_cot.cli.tables import plain_table, print_table
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
    who = f"{document['checkpoint']} of run {document['run']}" if document["run"] else document["checkpoint"]
    title = f"{who} on {work.task.title}, {work.task.split} split: {document['n']:,} items"
    mode = "Markovian" if document["markovian"] else "Non-Markovian"
    console.print(visible(title), soft_wrap=True)
    console.print(visible(f"{mode}, read by {', '.join(document['readers'])}: {_original(document['original'])}"))
    console.print()
    print_table(console, _overall(found.tests), "effect of changing the CoT, nats per answer token [95 %]")
    console.print()
    print_table(console, _by_severity(found.tests), "effect by share of the CoT changed")
    console.print()
    if found.contrast:
        other = document["against"]
        mode = "Markovian" if other["markovian"] else "Non-Markovian"
        console.print(
            visible(f"against {other['run'] or ''} {other['checkpoint']}, {mode}: {_original(other['original'])}")
        )
        print_table(console, _differences(found.contrast), "difference of the effects, the same items")
        console.print()
    for example in found.occlusions:
        console.print(visible(f"item {example.index}, answer {example.answer}: red tokens are those it needs"))
        console.print(example.as_terminal())
        heaviest = ", ".join(f"{token!r} {effect:+.2f}" for token, effect in example.heaviest())
        console.print(visible(f"without them the answer loses most (nats): {heaviest or 'none of them'}"))
        console.print()
    for note in notes(found):
        console.print(visible(note), soft_wrap=True)
    for path in found.files:
        console.print(visible(f"written: {path}"), soft_wrap=True)


def notes(found: ProbeReport) -> list[str]:
    """What should be known beside the numbers, a line each."""
    document = found.document
    lines = []
    if document["asked"] and document["n"] < document["asked"]:
        lines.append(f"asked for {document['asked']:,} items; {document['n']:,} of the split fit into the context")
    lines += [f"reader: {line}" for line in found.outcome.own.check.warnings()]
    if blank := document["blank_cots"]:
        lines.append(f"{blank} of {document['n']} CoTs are white space alone: there is little that changes could do")
    for test, each in found.tests.items():
        if each and (area := each.area_over_curve):
            curve = f"area over the curve of same answers {area.mean:.3f} [{area.low:.3f}, {area.high:.3f}]"
            lines.append(f"{test}: {curve}")
    for test in document["not_applicable"]:
        lines.append(f"{test}: applies to none of the CoTs (no number to change, one step, or one item)")
    for test, each in found.tests.items():
        if each and each.overall.effect.n < document["n"]:
            lines.append(f"{test}: applies to {each.overall.effect.n:,} of the {document['n']:,} CoTs")
    if note := small_sample_note(document["n"], is_share=False):
        lines.append(note)
    return lines


def _original(original: Mapping[str, Any]) -> str:
    text = f"answer log-prob {original['logprob']:.3f} [{original['low']:.3f}, {original['high']:.3f}]"
    if "accuracy" not in original:
        return text
    return (
        f"{text}, accuracy {original['accuracy']:.3f} [{original['accuracy_low']:.3f}, {original['accuracy_high']:.3f}]"
    )


def _overall(tests: Mapping[str, TestOutcome | None]) -> Table:
    table = plain_table("test", "effect", "accuracy drop", "detectable")
    for test, each in tests.items():
        if each:
            drop = each.overall.accuracy_drop
            table.add_row(
                test, _cell(each.overall.effect), _cell(drop) if drop else "-", _size(each.overall.effect.detectable)
            )
    return table


def _by_severity(tests: Mapping[str, TestOutcome | None]) -> Table:
    shares = sorted({share for each in tests.values() if each for share in each.levels})
    table = plain_table("test", *(f"{share:.0%}" for share in shares))
    for test, each in tests.items():
        if each:
            table.add_row(test, *(_signed(each.levels[s].effect.mean) if s in each.levels else "" for s in shares))
    return table


def _differences(contrast: Mapping[str, Contrast]) -> Table:
    table = plain_table("test", "difference", "p (sign test)", "p (Holm)", "detectable")
    for test, each in contrast.items():
        overall = each.overall
        table.add_row(
            test,
            _cell(overall.estimate),
            f"{overall.p_value:.2g}",
            f"{overall.p_holm:.2g}",
            _size(overall.estimate.detectable),
        )
    return table


def _cell(each: Estimate) -> str:
    return f"{_signed(each.mean)} [{_signed(each.low)}, {_signed(each.high)}]"


def _signed(value: float) -> str:
    return f"{value:+.3f}"


def _size(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
