"""`markov-cot doctor`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from markov_cot.alarms.replay import AlarmReport

HEALTHY, CRITICAL = 0, 3


@click.command("doctor")
@click.argument("run", metavar="[RUN|FOLDER|LOG]", required=False)
@click.option("--runs-dir", default="runs", show_default=True, metavar="DIR", help="Where RUN is looked up.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead, with every change of every alarm.")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="A setting of the alarms, as in --set alarms.kl.warn=0.5 or --set 'alarms.own=[mine:alarm]'.",
)
@click.option("--explain", is_flag=True, help="Print which names are read as what, and what each alarm needs.")
def doctor_command(run: str | None, runs_dir: str, as_json: bool, settings: tuple[str, ...], explain: bool) -> int:
    """Replay a run's log through the alarms: healthy, or what went wrong and at which step.

    Without a name, it is the newest run's. Reads this program's log.jsonl, logs of the published Markovian Transformers
    code, trainer_state.json, TensorBoard event files, and JSON lines of TRL, verl, OpenRLHF and prime-rl; CoTs in them
    are judged by their text. The alarms are set as in the config.yaml beside the log, if there is one; alarms of your
    own that it names are left out unless --set names them again. Exit code 0 is healthy, 3 is critical.
    """
    if explain:
        return _explain(as_json)
    import shlex
    from pathlib import Path

    from markov_cot.alarms.logs.opening import find_log, find_newest_log
    from markov_cot.alarms.replay import examine
    from markov_cot.cli.again import assign
    from markov_cot.config.loading import read_assignments
    from markov_cot.utils.text import visible

    if run is None:
        log = find_newest_log(Path(runs_dir))
        click.echo(visible(f"the newest run is {log.parent.name}"), err=True)
    else:
        log = find_log(run, Path(runs_dir))
    report = examine(log, read_assignments(settings))
    if report.left_out:
        again = shlex.join(assign({"alarms.own": report.left_out}))
        said = (
            f"left out {', '.join(report.left_out)}, which the run was watched with: it is code; to run it pass {again}"
        )
        click.echo(visible(said), err=True)
    if report.torn:
        click.echo("the log's last line was cut off, and is left out", err=True)
    if as_json:
        import json

        click.echo(json.dumps(report.as_json(), indent=2))
    else:
        _print(report)
    return HEALTHY if report.is_healthy else CRITICAL


def _explain(as_json: bool) -> int:
    from markov_cot.alarms.explain import explanation, explanation_as_json

    if as_json:
        import json

        click.echo(json.dumps(explanation_as_json(), indent=2))
    else:
        click.echo(explanation())
    return HEALTHY


def _print(report: AlarmReport) -> None:
    from markov_cot.alarms.advice import Advice
    from markov_cot.alarms.replay import find_way_back
    from markov_cot.cli.alarm_lines import way_back
    from markov_cot.utils.text import visible

    warned = ", ".join(f"{event.alarm} at step {event.step}" for event in report.warnings)
    if report.is_healthy:
        verdict = f"healthy, with warnings: {warned}" if warned else "healthy"
    else:
        verdict = "critical: " + ", ".join(f"{event.alarm} at step {event.step}" for event in report.critical)
    click.echo(verdict)
    advice = Advice()
    for event in [*report.critical, *report.warnings]:
        text = advice.shorten(event.step, event.diagnosis)
        click.echo(f"\n[{event.level}] {event.alarm}, step {event.step}: {visible(text)}")
    if back := find_way_back(report):
        names = [event.alarm for event in report.critical]
        click.echo(visible("\n" + "\n".join(way_back(back.run, back.config, back.checkpoint, names, report.known))))
    silent = ", ".join(name for name in report.known if name not in report.judged)
    click.echo(f"\n{visible(str(report.log))}: {report.rows:,} rows, steps {report.first_step} to {report.last_step}")
    click.echo(f"judged: {', '.join(report.judged)}" + (f"; no data for: {silent} (see --explain)" if silent else ""))
