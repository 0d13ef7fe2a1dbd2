"""An evaluation that torchrun starts, from the command line; docs/scaling.md."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.command_fixtures import Cli
from tests.launching import environment, free_port, process_of, wait_until

LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port"]
EVAL = ["eval", "--run", "r", "--set", "model.device=cpu"]


def test_torchrun_prints_one_document(workplace: Path, cli: Cli) -> None:
    options = ["--limit", "4", "--batch", "2", "--json"]
    command = [*LAUNCH, free_port(), "-m", "--", "markov_cot", *EVAL, *options, "--out", "launched"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("best is ") == 1
    code, out, err = cli(*EVAL, *options, "--out", "alone")
    assert code == 0, err
    assert json.loads(done.stdout)["results"] == json.loads(out)["results"]
    assert Path("launched/samples_arithmetic.jsonl").read_bytes() == Path("alone/samples_arithmetic.jsonl").read_bytes()


def test_a_killed_process_ends_the_evaluation_and_one_process_completes_it(workplace: Path, cli: Cli) -> None:
    options = ["--limit", "40", "--batch", "1", "--against", "none", "--json", "--out", "killed"]
    command = [*LAUNCH, free_port(), "-m", "--", "markov_cot", *EVAL, *options]
    job = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment())
    try:
        wait_until(lambda: any(len(path.read_bytes().splitlines()) > 6 for path in Path("killed/cache").glob("*")))
        second = process_of(job.pid, rank=1)
        os.kill(second, signal.SIGKILL)
        out, err = job.communicate(timeout=60)
    finally:
        job.kill()
    assert job.returncode == 1 and not out
    lines = [line for line in err.splitlines() if line.startswith("markov-cot: ")]
    # The launcher's signal may be faster than the exchange that fails.
    assert lines in (
        [
            "markov-cot: eval: another process of this run has ended or does not answer; see what it says, then give "
            "the same command again, which continues from what is kept"
        ],
        ["markov-cot: interrupted"],
    )
    assert "markov_cot/" not in err, "no traceback of ours"
    cache = next(Path("killed/cache").glob("*"))
    kept = cache.read_bytes().splitlines(keepends=True)
    kept = kept if kept[-1].endswith(b"\n") else kept[:-1]
    assert 6 < len(kept) < 41
    code, _, err = cli(*EVAL, *options)
    assert code == 0, err
    rows = cache.read_bytes().splitlines(keepends=True)
    assert rows[: len(kept)] == kept and len(rows) == 41
    assert len({json.loads(row)["index"] for row in rows[1:]}) == 40
