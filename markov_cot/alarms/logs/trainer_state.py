"""`trainer_state.json`, which transformers' Trainer and with it TRL's leave in each checkpoint.

TRL's `completions/` folder, which lies beside the checkpoints, gives the texts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markov_cot.alarms.logs.completion_files import FOLDER, cots_at, list_files
from markov_cot.alarms.logs.cot_texts import CotTexts, cots_in
from markov_cot.alarms.logs.entry import Entry, averaged, whole_number
from markov_cot.alarms.logs.names import translate
from markov_cot.utils.errors import UserError

NAME, HISTORY = "trainer_state.json", "log_history"


@dataclass(slots=True)
class TrainerState:
    """Such a file. Its steps count from 1, and a step is logged once it is done, as completions are."""

    path: Path
    settings: dict[str, Any] | None = None
    torn: bool = False

    def entries(self) -> Iterator[Entry]:
        """Yield an entry a step; what an evaluation logs of the same step goes with it."""
        texts, files = CotTexts(), self._completions()
        for step, rows in self._by_step().items():
            cots = [cot for row in rows for cot in cots_in(row)] or cots_at(files, step)
            metrics = averaged(translate(row) for row in rows) | texts.take(cots)
            yield Entry(step, metrics, next((cot.text for cot in cots), ""))

    def _completions(self) -> dict[int, Path]:
        here = self.path.resolve().parent
        return list_files(here / FOLDER) or list_files(here.parent / FOLDER)

    def _by_step(self) -> dict[int, list[dict[str, Any]]]:
        steps: dict[int, list[dict[str, Any]]] = {}
        for number, row in enumerate(self._history(), 1):
            step = whole_number(row.get("step")) if isinstance(row, dict) else None
            if step is None:
                raise self._fault(
                    f'entry {number} of "{HISTORY}" should be a mapping with a whole number as its "step"'
                )
            steps.setdefault(step, []).append(row)
        return steps

    def _history(self) -> list[Any]:
        try:
            state = json.loads(self.path.read_text(encoding="utf-8-sig"))
        except OSError as error:
            raise self._fault(f"cannot be read ({error.strerror})") from None
        except (ValueError, RecursionError) as error:
            reason = error.msg if isinstance(error, json.JSONDecodeError) else "unreadable"
            raise self._fault(f"is not JSON ({reason}); give a whole {NAME}") from None
        history = state.get(HISTORY) if isinstance(state, dict) else None
        if not isinstance(history, list):
            raise self._fault(f'has no list "{HISTORY}"; give a {NAME} of transformers or TRL, or a log of JSON lines')
        return history

    def _fault(self, what: str) -> UserError:
        return UserError(f"log {self.path}: {what}")
