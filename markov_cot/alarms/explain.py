"""What `markov-cot doctor --explain` says: which names it reads as what, and what each alarm needs of a log."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Any

from markov_cot.alarms.logs.cot_texts import ANSWERS, MEASURES, TEXTS, WINDOW
from markov_cot.alarms.logs.names import NAMES, PREFIX, STEPS
from markov_cot.alarms.logs.published import KEYS
from markov_cot.alarms.registry import ALARMS

FORMATS = (
    "log.jsonl of this program, with its samples.jsonl beside it",
    "logs of the published Markovian Transformers code",
    "trainer_state.json of transformers and TRL",
    "TensorBoard event files, one or a folder of them",
    f"JSON lines with a step ({', '.join(STEPS)}) in each, as verl and prime-rl write them",
    "TRL's completions/ folder, also beside a trainer_state.json; JSON lines of completions with a step in each",
    "what transformers' Trainer prints to the console, captured in a file",
)
PUBLISHED = "published Markovian Transformers code"


def names_by_trainer() -> Iterator[tuple[str, list[tuple[str, str]], list[str]]]:
    """Yield each trainer with pairs of its name and ours, and the files that these were seen in."""
    yield PUBLISHED, list(KEYS.items()), []
    for trainer, group in groupby(NAMES, key=lambda name: name.trainer):
        names = list(group)
        yield trainer, [(name.theirs, name.ours) for name in names], list(dict.fromkeys(name.seen for name in names))


def explanation() -> str:
    """Return all of it as text."""
    lines = ["Logs that are read:", *(f"  {each}" for each in FORMATS)]
    lines += ["", f"Names in them, and what they are read as ({PREFIX}NAME is read like NAME; other names stay):"]
    width = max(len(theirs) for _, pairs, _ in names_by_trainer() for theirs, _ in pairs)
    for trainer, pairs, seen in names_by_trainer():
        lines += [f"  {trainer}" + (f" ({'; '.join(seen)})" if seen else "")]
        lines += [f"    {theirs:<{width}}  {ours}" for theirs, ours in pairs]
    lines += ["", "CoTs in them:"]
    lines += [f"  Texts under {', '.join(TEXTS)} (or Action, Example), true answers under {', '.join(ANSWERS)}"]
    lines += [f"  (or Observation) give {', '.join(MEASURES)},"]
    lines += [f"  over a row's CoTs, or over the last {WINDOW} where it has fewer; words stand for tokens."]
    lines += ["", "What an alarm needs (one of these; where it has more, it looks at more):"]
    width = max(map(len, ALARMS))
    lines += [f"  {name:<{width}}  {'; '.join(alarm.reads)}" for name, alarm in ALARMS.items()]
    return "\n".join(lines)


def explanation_as_json() -> dict[str, Any]:
    """Return the same for programs."""
    return {
        "formats": list(FORMATS),
        "names": {trainer: dict(pairs) for trainer, pairs, _ in names_by_trainer()},
        "texts": {"cots": list(TEXTS), "answers": list(ANSWERS), "measures": list(MEASURES), "window": WINDOW},
        "alarms": {name: list(alarm.reads) for name, alarm in ALARMS.items()},
    }
