"""Renew lock.txt: the newest versions that setup.cfg allows, as pip resolves them in a new environment.

    python tests/versions/renew_lock.py [FILE]

It is a file of constraints (`pip install -c`), made with Python 3.11 on Linux and meant for every platform: packages
that only another one needs, such as torch's CUDA libraries on a GPU machine, are not in it and not held back. For the
same reason a local version such as torch's +cpu is left out of it: `==2.13.0` takes any build of 2.13.0.

Run the tests on the new versions (`.ci/run`), move setup.cfg's caps where a new minor release passed, and commit both.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).parents[2]
LOCK = Path(__file__).with_name("lock.txt")
OURS = "markov-cot"
PLATFORM = ("nvidia-", "cuda-", "triton")
"""What torch's build for one platform pins by itself."""
HEADER = "# Exact versions that the tests pass on. Written by tests/versions/renew_lock.py; do not edit by hand.\n"


def resolve(python: Path) -> dict[str, str]:
    """Version of every package that the project and its tests would be installed with."""
    with tempfile.NamedTemporaryFile(suffix=".json") as report:
        command = [python, "-m", "pip", "install", "-q", "--dry-run", "--report", report.name, f"{ROOT}[test]"]
        subprocess.run(command, check=True)
        installed = json.loads(Path(report.name).read_text(encoding="utf-8"))["install"]
    return {each["metadata"]["name"]: each["metadata"]["version"] for each in installed}


def lock_lines(versions: dict[str, str]) -> list[str]:
    """One constraint a package, in order, without ourselves, local versions and a platform's own packages.

    >>> lock_lines({"torch": "2.13.0+cpu", "markov-cot": "0.1.0", "triton": "3.5.0", "Jinja2": "3.1.6"})
    ['jinja2==3.1.6', 'torch==2.13.0']
    """
    names = {name.lower().replace("_", "-"): version.partition("+")[0] for name, version in versions.items()}
    kept = {name: version for name, version in names.items() if name != OURS and not name.startswith(PLATFORM)}
    return [f"{name}=={version}" for name, version in sorted(kept.items())]


def main(target: Path = LOCK) -> None:
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        lines = lock_lines(resolve(Path(folder, "bin", "python")))
    target.write_text(HEADER + "\n".join(lines) + "\n", encoding="utf-8")
    print(f"{target}: {len(lines)} packages")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
