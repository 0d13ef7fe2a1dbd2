"""The `markov-cot` command. Each subcommand is imported only when it is asked for, so that --help is instant."""

from __future__ import annotations

import difflib
import importlib
import sys

import click

from markov_cot.cli.launched import is_first, say_interrupted, speaks_for_machine
from markov_cot.cli.quiet import hide_library_warnings
from markov_cot.cli.streams import prepare_streams
from markov_cot.utils.errors import PeerLostError, UserError
from markov_cot.utils.garbage import collecting_rarely
from markov_cot.utils.text import visible

COMMANDS = {
    "train": "Train a LoRA actor to write a chain of thought that carries the answer.",
    "sft": "Warm start: teach an actor written chains of thought, a teacher's or a run's best.",
    "eval": "Measure accuracy on unseen problems, with error bars, against the base or another checkpoint.",
    "sample": "Show questions, chains of thought and answers, side by side for base and checkpoint.",
    "probe": "Is the chain of thought load-bearing? Change it, and see what becomes of the answer.",
    "transfer": "Can other models follow the CoTs that a run learned to write? Over its checkpoints.",
    "teachers": "Whose chains of thought suit this base? Teachers' files, read by the student.",
    "forgetting": "What did training cost elsewhere? The same items before and after: kept, lost or undecided.",
    "report": "What was trained, what came of it, why, and what to do next: a page from a run's files.",
    "winrate": "How often does a judge prefer each model? Arena-Hard, AlpacaEval or votes of your own.",
    "compare": "Runs side by side: settings, results with paired tests, seeds pooled, costs.",
    "sweep": "Sweeps over settings: which of them matter, how sure that is, and what the data do not carry.",
    "export": "Merge a checkpoint into its base: a plain transformers folder, without PEFT.",
    "runs": "List the runs: since when, how far, the best result, and whether an alarm stopped it.",
    "recipes": "List the recipes: what each is for, and which settings it changes.",
    "config": "Print every setting with its value, default, type and meaning.",
    "datasets": "List what can be trained and evaluated on, and where it is read from.",
    "grade": "Grade stored outputs again, with any extractor.",
    "doctor": "Replay a run's log through the alarms: healthy, or what went wrong and at which step.",
}
SHARED = ("train", "sft", "eval")
"""Commands whose work the processes of a launcher share; any other is the first one's."""
USER_ERROR, INTERRUPTED = 2, 130


class LazyGroup(click.Group):
    """Knows its commands by name and imports `markov_cot.cli.<name>` for the one that runs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"markov_cot.cli.{cmd_name}")
        command: click.Command = getattr(module, f"{cmd_name}_command")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        near = difflib.get_close_matches(args[0], COMMANDS, n=1) if args[0] not in COMMANDS else []
        if near:
            ctx.fail(f"No such command {args[0]!r}; did you mean {near[0]}?")
        if args[0] not in SHARED and not is_first():
            ctx.exit()
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="markov-cot")
def cli() -> None:
    """Train and measure Markovian chains of thought: reasoning that has to carry the answer by itself."""


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line; the user's errors become one line on stderr and exit code 2."""
    prepare_streams()
    hide_library_warnings()
    try:
        with collecting_rarely():
            code = cli.main(arguments, prog_name="markov-cot", standalone_mode=False)
        sys.exit(code or 0)
    except UserError as error:
        _fail(str(error), after_loss=isinstance(error, PeerLostError))
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.ctx.get_help() if error.ctx else "")
        sys.exit(USER_ERROR)
    except click.ClickException as error:
        where = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else "markov-cot"
        _fail(f"{error.format_message()} (see {where} --help)")
    except OSError as error:  # a disk that fills up, a folder that goes away: the system's word for it, without a trace
        _fail(f"{error.filename or 'a file'}: {error.strerror or error}; fix it and try again")
    except (click.Abort, KeyboardInterrupt):
        say_interrupted()
        sys.exit(INTERRUPTED)


def _fail(message: str, *, after_loss: bool = False) -> None:
    if speaks_for_machine(after_loss=after_loss):
        click.echo(f"markov-cot: {visible(' '.join(message.split()))}", err=True)
    sys.exit(USER_ERROR)
