"""Alarms as they are shown: every advice once, also over resumes, and the command that follows it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from markov_cot.alarms.advice import Advice, remedy
from markov_cot.alarms.alarm import Alarm
from markov_cot.alarms.monitor import Event
from markov_cot.cli.again import train_from
from markov_cot.config.loading import flatten
from markov_cot.config.schema import Config


def advice_so_far(alarms: Path) -> Advice:
    """What a run's alarms.jsonl has said already. Lines that a crash left torn are passed over."""
    advice = Advice()
    if alarms.is_file():
        for line in alarms.read_bytes().splitlines():
            row = _row(line)
            advice.shorten(row.get("step", 0), str(row.get("diagnosis", "")))
    return advice


def way_back(run: str, config: Config, checkpoint: str, alarms: Iterable[str], known: Mapping[str, Alarm]) -> list[str]:
    """How to continue a run from its last healthy checkpoint with a setting changed that these alarms call for.

    `known` are all alarms that watched it.
    """
    changes = remedy(alarms, flatten(config.model_dump(mode="json")), known)
    return [
        f"The last healthy checkpoint is {checkpoint}. To continue from there with what is advised:",
        "  " + train_from(run, config, checkpoint, changes),
    ]


def one_line(event: Event, advice: Advice) -> str:
    """An alarm that changed, for the terminal."""
    return f"{event.alarm}, step {event.step}, {event.level}: {advice.shorten(event.step, event.diagnosis)}"


def _row(line: bytes) -> Mapping[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return row if isinstance(row, dict) else {}
