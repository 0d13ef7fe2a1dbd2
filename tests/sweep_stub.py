"""Stands for `markov-cot train` where sweeps are tested: leaves a run's files as its behaviour says, without a model.

    python sweep_stub.py FOLDER CELL BEHAVIOUR

done, fail, alarm and die end as they are called; slow waits for an interrupt and is done the next time; stubborn lets
the first interrupt pass, and deaf all of them; pair waits for another cell to start.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path


def main(folder: Path, cell: str, behaviour: str) -> int:
    if behaviour == "fail":
        print("half of a line\n\nmarkov-cot: no \x1b[31mluck; try again", file=sys.stderr)
        return 2
    interrupts: list[int] = []
    for asking in (signal.SIGINT, signal.SIGHUP):
        signal.signal(asking, lambda number, _: interrupts.append(number))
    run = folder / cell
    resumed = (run / "log.jsonl").exists()
    run.mkdir(exist_ok=True)
    (run / "config.yaml").write_text((folder / "cells" / f"{cell}.yaml").read_text())
    with (run / "log.jsonl").open("a") as log:
        log.write('{"step": 1}\n')
    if behaviour == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if behaviour == "alarm":
        (run / "alarms.jsonl").write_text('{"step": 1, "level": "critical", "alarm": "kl"}\n')
        return 3
    wanted = {"slow": 1, "stubborn": 2, "deaf": 1000}.get(behaviour, 0)
    while wanted and not resumed:
        if len(interrupts) >= wanted:
            return 130
        time.sleep(0.01)
    while behaviour == "pair" and len(list(folder.glob("*/log.jsonl"))) < 2:
        time.sleep(0.01)
    score = {"accuracy": 0.25 + 0.5 * ("lr0.0003" in cell), "answer_logprob": -1.0}
    summary = {"step": 1, "best_step": None, "base": {"accuracy": 0.125, "answer_logprob": -2.0}, "trained": score}
    (run / "summary.json").write_text(json.dumps(summary))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), *sys.argv[2:]))
