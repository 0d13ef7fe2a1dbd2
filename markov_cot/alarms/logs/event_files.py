"""TensorBoard's event files: a point of one tag after the other, gathered to rows by their step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markov_cot.alarms.logs.entry import Entry
from markov_cot.alarms.logs.names import translate
from markov_cot.utils.errors import UserError

PATTERN = "events.out.tfevents.*"


@dataclass(slots=True)
class EventFiles:
    """The event files of a folder, or one of them."""

    path: Path
    settings: dict[str, Any] | None = None
    torn: bool = False

    def entries(self) -> Iterator[Entry]:
        """Yield an entry a step, in the order of the steps. Where a point was written twice, the later one counts."""
        files = sorted(self.path.glob(PATTERN)) if self.path.is_dir() else [self.path]
        steps: dict[int, dict[str, float]] = {}
        for file in files:
            for step, tag, value in _points(file):
                steps.setdefault(step, {})[tag] = value
        for step in sorted(steps):
            yield Entry(step, translate(steps[step]))


def _points(file: Path) -> Iterator[tuple[int, str, float]]:
    """Yield step, tag and value of every scalar of a file; a torn end is passed over."""
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

    try:
        for event in LegacyEventFileLoader(str(file)).Load():
            for value in event.summary.value:
                number = _scalar(value)
                if number is not None:
                    yield int(event.step), str(value.tag), number
    except OSError as error:
        raise UserError(f"log {file}: cannot be read ({error.strerror})") from None


def _scalar(value: Any) -> float | None:
    """Return a point's number: in the old notation, or in the new one, which is a tensor without dimensions."""
    if value.HasField("simple_value"):
        return float(value.simple_value)
    tensor = value.tensor
    if not value.HasField("tensor") or tensor.tensor_shape.dim:
        return None
    numbers = [*tensor.float_val, *tensor.double_val]
    return float(numbers[0]) if numbers else None
