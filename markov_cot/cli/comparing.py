"""What `markov-cot compare` does: tables, or JSON."""

from __future__ import annotations

import json
from pathlib import Path

from rich.console import Console
from rich.table import Table

from markov_cot.analysis.compare import RunComparison, compare_runs
from markov_cot.analysis.compare_items import Pair
from markov_cot.analysis.compare_results import Held
from markov_cot.cli.forgetting_table import p_value
from markov_cot.cli.run_table import SHORT
from markov_cot.cli.tables import plain_table, print_table
from markov_cot.config.yaml_files import write_value
from markov_cot.utils.text import visible

NOT_MEASURED = "not measured"
MEBIBYTE = 1 << 20


def run_compare(names: tuple[str, ...], runs_dir: str, *, as_json: bool) -> None:
    """Compare runs and print the outcome."""
    found = compare_runs(names, Path(runs_dir))
    if as_json:
        print(json.dumps(found.as_json(), ensure_ascii=False, allow_nan=False))
    else:
        print_comparison(found)


def print_comparison(found: RunComparison) -> None:
    """A table of the settings that differ, of results, seeds, paired tests and costs, and what to know of them."""
    console = Console(markup=False, highlight=False)

    def line(text: str = "") -> None:
        console.print(visible(text), soft_wrap=True)

    if found.differing:
        print_table(console, _settings(found), "settings that differ")
    else:
        line("no setting differs")
    line()
    print_table(console, _results(found), "held-out results [95 %]")
    if any(len(each.members) > 1 for each in found.settings):
        line()
        print_table(console, _pooled(found), "seeds pooled: final results")
    line()
    if found.pairs:
        print_table(console, _pairs(found), "on common items: second less first [95 %]")
    else:
        line(f"on common items: {NOT_MEASURED}")
    for name, why in found.unmeasured.items():
        line(f"- {name}: {NOT_MEASURED}: {why}")
    for each in found.unpaired:
        line(f"- {each.first}, {each.second}: {NOT_MEASURED}: {each.why}")
    line()
    print_table(console, _costs(found), "costs")
    if found.notes:
        line()
        line("To know:")
        for note in found.notes:
            line(f"- {note}")


def _settings(found: RunComparison) -> Table:
    names = [run.name for run in found.runs]
    table = plain_table("", *names)
    for key, values in found.differing.items():
        table.add_row(visible(key), *(visible(write_value(values[n])) if n in values else "-" for n in names))
    return table


def _results(found: RunComparison) -> Table:
    is_same_data = len(set(found.data.values())) == 1
    table = plain_table(
        "", *[] if is_same_data else ["data"], "n", "base", "trained", "steps", "best validation", "at step"
    )
    for run in found.runs:
        ending, best = run.ending, run.best
        table.add_row(
            visible(run.name),
            *([] if is_same_data else [visible(found.data[run.name])]),
            f"{ending.trained.n:,}" if ending else "-",
            _held(ending.base) if ending else NOT_MEASURED,
            _held(ending.trained) if ending else NOT_MEASURED,
            str(ending.step) if ending else "-",
            _held(best) if best else NOT_MEASURED,
            str(best.step) if best else "-",
        )
    return table


def _held(result: Held) -> str:
    kind = "" if result.low is not None else f" {SHORT[result.measure]}"
    interval = "" if result.low is None else f" [{result.low:.3f}, {result.high:.3f}]"
    return f"{result.value:.3f}{interval}{kind}"


def _pooled(found: RunComparison) -> Table:
    table = plain_table("runs", "seeds", "n", "mean", "standard deviation", "lowest", "highest")
    for each in found.settings:
        name, result = visible(", ".join(each.members)), each.pooled
        if result is None:
            table.add_row(name, *[NOT_MEASURED] * 6)
            continue
        kind = f" {SHORT[result.measure]}"
        table.add_row(
            name,
            ", ".join(map(str, result.seeds)),
            str(len(result.seeds)),
            f"{result.mean:.3f}{kind}",
            "-" if result.deviation is None else f"{result.deviation:.3f}",
            f"{result.lowest:.3f}",
            f"{result.highest:.3f}",
        )
    return table


def _pairs(found: RunComparison) -> Table:
    table = plain_table("", "n", "first", "second", "difference", "p", "p (Holm)")
    task = None
    for pair in sorted(found.pairs, key=lambda each: (each.task, each.metric)):
        if (pair.task, pair.metric) != task:
            task = pair.task, pair.metric
            table.add_row(visible(f"{pair.task}, {pair.metric}"))
        change = pair.change
        interval = ""
        if change.low is not None and change.high is not None:
            interval = f" [{_signed(pair, change.low)}, {_signed(pair, change.high)}]"
        table.add_row(
            visible(f"  {pair.first} -> {pair.second}"),
            f"{change.n:,}",
            _score(pair, change.before, pair.checkpoints[0]),
            _score(pair, change.after, pair.checkpoints[1]),
            _signed(pair, change.difference) + interval,
            p_value(change.p_value),
            p_value(pair.p_holm),
        )
    return table


def _score(pair: Pair, value: float, checkpoint: str | None) -> str:
    return f"{value:.3f}" + ("" if checkpoint is None else f" {visible(Path(checkpoint).name)}")


def _signed(pair: Pair, value: float) -> str:
    return f"{value:+.3f}" if pair.is_share else f"{value:+.4f}"


def _costs(found: RunComparison) -> Table:
    table = plain_table("", "steps", "seconds", "tokens", "peak memory, MiB")
    for run in found.runs:
        cost = found.costs[run.name]
        table.add_row(
            visible(run.name),
            f"{run.step}/{run.settings['steps']}",
            NOT_MEASURED if cost.seconds is None else f"{cost.seconds:,.1f}",
            NOT_MEASURED if cost.tokens is None else f"{cost.tokens:,} {cost.tokens_of}",
            NOT_MEASURED if cost.peak_memory_bytes is None else f"{cost.peak_memory_bytes / MEBIBYTE:,.0f}",
        )
    return table
