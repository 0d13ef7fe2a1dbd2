"""`markov-cot datasets`."""

from __future__ import annotations

import click


@click.command("datasets")
@click.option("--data-dir", metavar="DIR", help="Folder with the datasets' files, original or as on the hub.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list instead of a table.")
def datasets_command(data_dir: str | None, as_json: bool) -> None:
    """List what can be trained and evaluated on, and where each would be read from.

    Looks in --data-dir, then in $MARKOV_COT_DATA; what is in neither would be read from the hub, which is not asked.
    """
    from markov_cot.tasks.describe import describe

    listings = describe(data_dir)
    if as_json:
        import json
        from dataclasses import asdict

        click.echo(json.dumps([asdict(listing) for listing in listings], indent=2))
        return

    from rich.console import Console
    from rich.table import Table

    from markov_cot.text import visible

    table = Table("dataset", "kind", "published splits", caption=_CAPTION, caption_justify="left")
    table.add_column("read from", overflow="fold")
    for listing in listings:
        name = f"{listing.name} ({listing.subset})" if listing.subset else listing.name
        rows = ", ".join(f"{split} {count:,}" for split, count in listing.splits.items())
        table.add_row(name, listing.kind, visible(listing.fault) or rows or "-", visible(listing.source))
    Console(markup=False, highlight=False).print(table)


_CAPTION = (
    "A path of your own works as a dataset, too: a .jsonl, .json, .csv, .tsv or .parquet file, or a folder of train, "
    "validation and test files; columns question, answer, optional choices."
)
