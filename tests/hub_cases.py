"""Runs commands one after the other in one process, whose HF_ENDPOINT was set before anything was imported.

python -m tests.hub_cases COMMANDS.json ANSWERS.json [LONGEST]   with a list of argument lists; ["heal", REPOSITORY]
repairs it. Where the libraries would wait before they try again, it is for LONGEST seconds at most.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

from markov_cot.cli.main import main


def run(arguments: list[str]) -> dict[str, Any]:
    """Exit code, output and seconds of a command."""
    if arguments[0] == "heal":
        urllib.request.urlopen(f"{os.environ['HF_ENDPOINT']}/heal/{arguments[1]}").close()
        return {}
    out, err, started = io.StringIO(), io.StringIO(), time.monotonic()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(arguments)
        except SystemExit as ended:
            code = ended.code
    return {"code": code, "out": out.getvalue(), "err": err.getvalue(), "seconds": time.monotonic() - started}


if __name__ == "__main__":
    if sys.argv[3:]:
        wait = time.sleep
        time.sleep = lambda seconds: wait(min(seconds, float(sys.argv[3])))
    commands = json.loads(Path(sys.argv[1]).read_text())
    Path(sys.argv[2]).write_text(json.dumps([run(command) for command in commands]))
