"""`markov-cot grade`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import click

if TYPE_CHECKING:
    from markov_cot.evaluation.regrade import GradeReport


@click.command("grade")
@click.argument("file", metavar="FILE.jsonl")
@click.option("--kind", type=click.Choice(["numeric", "choice", "text"]), required=True, help="What the answers are.")
@click.option("--extractor", "names", metavar="NAME", multiple=True, help="Rule that reads the answer; repeatable.")
@click.option(
    "--choices", type=click.IntRange(2, 26), metavar="N", help="Choices per question where rows do not say [5]."
)
@click.option(
    "--locale", metavar="TAG", help="How numbers are written, e.g. de: 1.234,5; fr: 1 234,5; de-CH: 1'234.5 [en]."
)
@click.option(
    "--articles", metavar="WORDS", help="Words that do not count in texts, with commas; empty for none [a,an,the]."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@click.option("--out", metavar="FILE", help="Write each row with what every extractor predicted (null is invalid).")
def grade_command(
    file: str,
    kind: Literal["numeric", "choice", "text"],
    names: tuple[str, ...],
    choices: int | None,
    locale: str | None,
    articles: str | None,
    as_json: bool,
    out: str | None,
) -> None:
    """Grade stored outputs again, with any extractor.

    Each row of FILE.jsonl (or .jsonl.gz) has `response` and `gold`; for choices also, if you like, `choices`: the
    options' texts or their number, and of a judge `response_swapped`: its answer where A and B changed places. The
    `gold` of a text may be a list of accepted ones. A samples_<dataset>.jsonl that
    `eval` wrote will do as it is. Without --extractor, all that need no optional dependency are used.
    """
    from pathlib import Path

    from markov_cot.evaluation.regrade import regrade
    from markov_cot.evaluation.row_writer import writing_rows
    from markov_cot.grading.extractors import default_extractors, get_extractor
    from markov_cot.grading.numeral_forms import LOCALES, form_of_locale
    from markov_cot.utils.errors import UserError

    if choices and kind != "choice":
        raise UserError("--choices: only with --kind choice")
    if locale and kind != "numeric":
        raise UserError("--locale: only with --kind numeric")
    if articles is not None and kind != "text":
        raise UserError("--articles: only with --kind text")
    form = form_of_locale(locale) if locale else None
    if locale and form is None:
        raise UserError(f"--locale {locale}: not known; there are {', '.join(LOCALES)}")
    extractors = [get_extractor(kind, name) for name in dict.fromkeys(names)] or default_extractors(kind)
    if articles is not None:
        words = [word.strip().lower() for word in articles.split(",") if word.strip()]
        extractors = [extractor.for_articles(words) for extractor in extractors]
    source = Path(file)
    if out is None:
        report = regrade(source, kind, extractors, choices, form=form)
    else:
        target = Path(out)
        if target.exists() and source.exists() and target.samefile(source):
            raise UserError(f"--out {out}: is the file that is graded; name another")
        with writing_rows(target) as write:
            report = regrade(source, kind, extractors, choices, write, form)
    if as_json:
        import json

        click.echo(json.dumps(report.as_json()))
    else:
        _print_table(report, file)


def _print_table(report: GradeReport, file: str) -> None:
    from rich.console import Console
    from rich.table import Table

    from markov_cot.cli.tables import print_table
    from markov_cot.evaluation.statistics import small_sample_note
    from markov_cot.utils.text import visible

    table = Table("extractor")
    has_credit = any(tally.credit is not None for tally in report.tallies.values())
    has_macro = any(tally.verdicts for tally in report.tallies.values())
    orders = ("swapped", "both", "consistent") if any(tally.orders for tally in report.tallies.values()) else ()
    credits = (*["F1"] * has_credit, *["macro F1"] * has_macro, *orders)
    for heading in ("accuracy", "stderr", "95 % interval", *credits, "invalid"):
        table.add_column(heading, justify="right")
    for name, tally in report.tallies.items():
        summary = report.summary(name)
        stderr = "-" if summary.stderr is None else f"{summary.stderr:.4f}"
        interval = f"{summary.low:.4f} to {summary.high:.4f}"
        credit = [] if tally.credit is None else [tally.credit / report.n]
        credit += [] if (macro := tally.macro_f1) is None else [macro]
        credit += [getattr(tally.orders, order) / report.n for order in orders]
        shares = [f"{share:.4f}" for share in credit]
        table.add_row(name, f"{summary.mean:.4f}", stderr, interval, *shares, f"{tally.invalid:,}")
    console = Console(markup=False, highlight=False)
    print_table(console, table, visible(f"{file}: {report.n:,} responses"))
    if report.absent:
        console.print(f"{report.absent:,} of the responses are null: counted as invalid.")
    if note := small_sample_note(report.n):
        console.print(note)
