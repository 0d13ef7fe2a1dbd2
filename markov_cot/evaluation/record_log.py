"""The evaluation's cache: one record an item."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markov_cot.evaluation.item_log import ItemLog, Layout
from markov_cot.evaluation.records import Record, from_json, to_json

RECORDS = Layout(to_json, from_json)


class RecordLog(ItemLog[Record]):
    """One evaluation's records."""

    def __init__(self, folder: Path | None, settings: Mapping[str, Any]) -> None:
        """Open the file of these settings in `folder`, as `ItemLog` does."""
        super().__init__(folder, settings, RECORDS)
