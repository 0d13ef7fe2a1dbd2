"""`markov-cot datasets`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from markov_cot.data.describe import Listing


@click.command("datasets")
@click.option("--data-dir", metavar="DIR", help="Folder with the datasets' files, original or as on the hub.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list instead of a table.")
def datasets_command(data_dir: str | None, as_json: bool) -> None:
    """List what can be trained and evaluated on, and where each would be read from.

    Looks in --data-dir, then in $MARKOV_COT_DATA; what is in neither would be read from the hub, which is not asked.
    """
    from markov_cot.data.describe import describe

    listings = describe(data_dir)
    if as_json:
        import json
        from dataclasses import asdict

        click.echo(json.dumps([asdict(listing) for listing in listings], indent=2))
        return

    for listing in listings:
        click.echo(_lines(listing))
    click.echo(_OWN)


def _lines(listing: Listing) -> str:
    """Two lines of a dataset: its splits, and the place it would be read from."""
    from markov_cot.utils.text import visible

    name = f"{listing.name} ({listing.subset})" if listing.subset else listing.name
    rows = ", ".join(f"{split} {count:,}" for split, count in listing.splits.items())
    first = f"{name:<{_NAME}}{listing.kind:<{_KIND}}{visible(listing.fault) or rows or '-'}"
    return f"{first}\n{'':{_NAME}}{visible(listing.source)}"


_NAME, _KIND = 21, 14
"""Columns."""
_OWN = (
    "A path of your own works too: a .jsonl, .json, .csv, .tsv or .parquet file, or a\n"
    "folder of train, validation and test files (question, answer, optional choices)."
)
