"""Print constraints (`pip install -c`) that hold each of setup.cfg's requirements at its lower bound.

What the tests themselves need, and what requirements need in turn, is as new as it can be beside those.
"""

from __future__ import annotations

import configparser
import re
from collections.abc import Iterable
from pathlib import Path

SETUP = Path(__file__).parents[2] / "setup.cfg"


def requirements() -> list[str]:
    """setup.cfg's `install_requires`, a line each, comments left out."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(SETUP, encoding="utf-8")
    lines = map(str.strip, parser["options"]["install_requires"].splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def lower_bounds(lines: Iterable[str]) -> list[str]:
    """An exact version for each requirement. Raises `ValueError` for one without a lower bound.

    >>> lower_bounds(["torch >=2.9,<2.14"])
    ['torch==2.9']
    """
    found = []
    for line in lines:
        match = re.fullmatch(r"([\w.-]+)\s*>=([\w.]+)(,.*)?", line)
        if match is None:
            raise ValueError(f"{SETUP}: {line}: expected NAME >=OLDEST,<CAP")
        found.append(f"{match[1]}=={match[2]}")
    return found


if __name__ == "__main__":
    print("\n".join(lower_bounds(requirements())))
