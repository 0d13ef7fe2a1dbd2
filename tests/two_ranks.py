"""The two processes of one job out of one start of Python: python -m tests.two_ranks PORT MODULE FOLDER CASE...

Each calls the `main` of MODULE, which is imported once and before the processes part.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from pathlib import Path

from markov_cot.utils.garbage import collecting_rarely


def run_rank(rank: int, port: str, module: str, folder: str, cases: list[str]) -> int:
    """Do one process's part of the job; return its exit code."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    try:
        importlib.import_module(module).main(Path(folder), cases)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def main(port: str, module: str, folder: str, *cases: str) -> int:
    """Return 0 where both processes ended well."""
    with collecting_rarely():
        importlib.import_module(module)
    children = []
    for rank in range(2):
        if not (child := os.fork()):
            code = run_rank(rank, port, module, folder, list(cases))
            sys.stderr.flush()
            os._exit(code)
        children.append(child)
    statuses = [os.waitpid(child, 0)[1] for child in children]
    return int(any(statuses))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
