"""What the alarms cost: the median time of `Monitor.update` on a run's own rows, beside the run's median step.

python benchmarks/alarms_cost.py runs/NAME
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from statistics import median

from markov_cot.alarms.logs.opening import open_log
from markov_cot.alarms.monitor import Monitor
from markov_cot.config.alarms import Alarms
from markov_cot.config.loading import flatten, read_recipe

REPEATS = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a finished run")
    run: Path = parser.parse_args().run
    settings = flatten(read_recipe(str(run / "config.yaml")))
    rows = list(open_log(run / "log.jsonl").entries())
    seconds = []
    for _ in range(REPEATS):
        monitor = Monitor(Alarms(), settings)
        for row in rows:
            started = time.perf_counter()
            monitor.update(row.step, row.metrics)
            monitor.scalars()
            seconds.append(time.perf_counter() - started)
    steps = [s for row in rows if (s := row.metrics.get("perf/step_seconds")) is not None]
    update, step = median(seconds), median(steps)
    print(f"alarms {1e6 * update:.0f} us, step {1e3 * step:.0f} ms (medians of {len(rows)} rows): {update / step:.3%}")


if __name__ == "__main__":
    main()
