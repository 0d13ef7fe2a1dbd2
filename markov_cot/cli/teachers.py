"""`markov-cot teachers`."""

from __future__ import annotations

import click


@click.command("teachers")
@click.argument("files", metavar="FILE.jsonl...", nargs=-1)
@click.option("--student", metavar="MODEL", help="Base that is to learn: nano, a local folder, or a hub id.")
@click.option("--beta", type=click.FloatRange(0), default=3, show_default=True, help="Weight of the loss in CAR.")
@click.option(
    "--reward",
    "rewards",
    type=click.Choice(["auto", "given", "verified"]),
    default="auto",
    show_default=True,
    help="The rows' `reward`, or 1 for a right answer and 0 for a wrong one; auto: given where the first row has one.",
)
@click.option("--kind", type=click.Choice(["numeric", "choice", "text"]), help="Of the answers [as the first gold is].")
@click.option("--dataset", metavar="D", help="Whose true answers count, instead of the rows' `gold`.")
@click.option("--data-dir", metavar="DIR", help="Folder with the dataset's original files.")
@click.option("--n", type=click.IntRange(1), metavar="N", help="Questions, drawn with the seed [all that are shared].")
@click.option("--outcomes", metavar="FILE.csv", help="What became of students of these teachers; a row a teacher.")
@click.option(
    "--table", metavar="FILE.csv", help="Instead of files: metrics and outcomes that are known; a row a teacher."
)
@click.option(
    "--outcome",
    "outcome_columns",
    multiple=True,
    metavar="COLUMN",
    help="Column that is the outcome, or A,B for the mean of some; repeatable.",
)
@click.option("--teacher", "teacher_column", metavar="COLUMN", help="Column of the teachers' names.")
@click.option("--by", "student_column", metavar="COLUMN", help="With --table: column of the students' names.")
@click.option(
    "--max-tokens",
    "most_tokens",
    type=click.IntRange(2),
    metavar="N",
    help="Where question and response are cut off [the model's context].",
)
@click.option(
    "--rank-clip",
    "highest_rank",
    type=click.IntRange(1),
    default=100,
    show_default=True,
    metavar="N",
    help="Highest rank of a token in RSR.",
)
@click.option("--resamples", type=click.IntRange(1, 1_000_000), default=10_000, show_default=True, metavar="N")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of questions and resampling.")
@click.option("--out", metavar="DIR", help="Folder for results and cache [runs/base-MODEL/analysis].")
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="A setting, as in --set model.dtype=float32"
)
@click.option("--json", "as_json", is_flag=True, help="Print the JSON document instead of tables.")
def teachers_command(files: tuple[str, ...], settings: tuple[str, ...], as_json: bool, **options: object) -> None:
    """Whose chains of thought suit this base? Teachers are compared on the questions that all of them answer.

    Each row of a teacher's file has `question`, and `response`, or `cot` and `answer`; also `reward`, or `gold` (the
    true answer) to verify by; optionally `choices` and `passage`. The student reads every response once, after its
    question and alone: loss, CAR = reward / (1 + beta loss), perplexity, IFD by both definitions, RSR, length, with
    intervals over questions, and how sure the ranking is.

    With --outcomes, or with --table instead of files, Spearman's correlation of each metric with what became of the
    students. What was computed is kept, and the same command continues where it was interrupted.
    """
    from markov_cot.utils.errors import UserError

    if options["table"] is not None:
        if files or options["student"] or options["outcomes"]:
            raise UserError("--table: is instead of files, --student and --outcomes; leave these out")
        from markov_cot.cli.teacher_tables import run_table

        run_table(options, as_json=as_json)
        return
    if not files or not options["student"]:
        missing = "a FILE.jsonl for each teacher" if not files else "--student MODEL"
        raise UserError(f"teachers: give {missing}, or --table FILE.csv")
    if options["student_column"] is not None:
        raise UserError("--by: goes with --table; leave it out")
    if options["outcomes"] is None and (options["outcome_columns"] or options["teacher_column"]):
        raise UserError("--outcome and --teacher: name columns of --outcomes or --table; give one of these")
    from markov_cot.cli.teaching import run_teachers

    run_teachers(files, options, settings, as_json=as_json)
