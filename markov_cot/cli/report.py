"""`markov-cot report`."""

from __future__ import annotations

import click


@click.command("report")
@click.argument("runs", metavar="RUN|LOG...", nargs=-1, required=True)
@click.option(
    "--out", metavar="FILE.html|FILE.md", help="Where it is written [runs/RUN/report.html; of several, report.html]."
)
@click.option(
    "--cots", type=click.IntRange(0), default=2000, show_default=True, metavar="N", help="Most CoTs to browse."
)
@click.option("--runs-dir", default="runs", show_default=True, metavar="DIR", help="Where RUN is looked up.")
@click.option("--json", "as_json", is_flag=True, help="Print all that the report says as JSON, and write nothing.")
def report_command(runs: tuple[str, ...], out: str | None, cots: int, runs_dir: str, as_json: bool) -> None:
    """What was trained, what came of it, why, and what to do next: a page made from a run's files.

    RUN is a run's name or folder, or a log of another program that `doctor` reads. The page is one file that loads
    nothing; with a name that ends in .md it is Markdown, for a pull request. No number in it is typed: each stands in
    what --json prints, and that comes from the run's files.
    """
    from pathlib import Path

    from markov_cot.analysis.report.document import report
    from markov_cot.analysis.report.rendering import as_json as rendered_json
    from markov_cot.analysis.report.sources import open_sources
    from markov_cot.cli.reporting import default_path, form_of, write
    from markov_cot.utils.errors import UserError
    from markov_cot.utils.text import visible

    if out is not None and as_json:
        raise UserError(f"--out {out}: --json writes no file; leave one of them out")
    path = None if out is None else Path(out)
    form = form_of(path) if path else None
    sources = open_sources(runs, Path(runs_dir))
    document = report(sources, cots)
    if as_json:
        click.echo(rendered_json(document), nl=False)
        return
    path = path or default_path(sources)
    write(document, path, form)
    for run in document["runs"]:
        click.echo(visible(f"{run['name']}: {run['verdict']['word']}. {run['verdict']['sentence']}"))
    click.echo(visible(f"report: {path}"))
