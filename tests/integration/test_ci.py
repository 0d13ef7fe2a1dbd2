"""`.ci/run` on a project whose tools are stand-ins: what stops it, and what it only reports."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = "```sh\nbash install.sh # pip install -e '.[test]'\n```\n"
LOCK = "# a comment\nnumpy==2.4.6\ntorch==2.13.0\n"
TOOLS = ("pip", "pytest", "python", "ruff", "mypy", "lint-imports")
PASSING = dict.fromkeys(TOOLS, "exit 0")


def run_ci(folder: Path, *arguments: str, newest: str = LOCK, **tools: str) -> subprocess.CompletedProcess[str]:
    """Run the script with these tools, scripts of a shell; `python renew_lock.py FILE` writes `newest` into FILE."""
    project = folder / "project"
    (project / ".ci").mkdir(parents=True)
    shutil.copy2(ROOT / ".ci" / "run", project / ".ci" / "run")
    (project / "README.md").write_text(README)
    (project / "tests" / "versions").mkdir(parents=True)
    (project / "tests" / "versions" / "lock.txt").write_text(LOCK)
    (project / "newest").write_text(newest)
    scripts = PASSING | {"python": 'cp newest "$2"'} | tools
    install = ["mkdir -p .venv/bin"]
    for name, script in scripts.items():
        install.append(f"printf '%s\\n' '#!/bin/sh' {_quoted(script)} > .venv/bin/{name}; chmod +x .venv/bin/{name}")
    (project / "install.sh").write_text("\n".join([*install, tools.get("install", ""), ""]))
    for command in (["init", "-q"], ["add", "-A"], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "a"]):
        subprocess.run(["git", *command], cwd=project, check=True)
    return subprocess.run(["bash", ".ci/run", *arguments], cwd=project, capture_output=True, text=True, timeout=60)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def test_all_good(tmp_path: Path) -> None:
    done = run_ci(tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "newest versions: the same as the locked ones"


@pytest.mark.parametrize("tool", ["install", "ruff", "mypy", "lint-imports"])
def test_what_fails_on_the_locked_versions_stops_it(tmp_path: Path, tool: str) -> None:
    done = run_ci(tmp_path, **{tool: "exit 7"})
    assert done.returncode == 7
    assert "newest versions" not in done.stdout


def test_what_fails_on_the_newest_versions_is_reported_and_does_not_stop_it(tmp_path: Path) -> None:
    failed = "FAILED tests/unit/models/test_policy.py::test_a - FutureWarning"
    tests = f"echo '{failed}'; echo '1 failed, 9 passed in 3 s'; exit 1"
    done = run_ci(tmp_path, newest=LOCK.replace("2.4.6", "2.4.7"), pytest=tests)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-2:] == [
        "newest versions: trouble (reported, not gating) with numpy==2.4.7",
        "newest versions: FAILED tests/unit/models/test_policy.py::test_a - FutureWarning",
    ]
    assert "1 failed" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("tools", "expected"),
    [
        ({}, "newest versions: good (numpy==2.4.7)"),
        ({"pip": "exit 1"}, "newest versions: trouble (reported, not gating) with numpy==2.4.7"),
        ({"python": "exit 1"}, "newest versions: not tried"),
    ],
)
def test_newer_versions(tmp_path: Path, tools: dict[str, str], expected: str) -> None:
    done = run_ci(tmp_path, newest=LOCK.replace("2.4.6", "2.4.7"), **tools)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith(expected)


def test_another_argument_is_refused(tmp_path: Path) -> None:
    done = run_ci(tmp_path, "newst")
    assert done.returncode == 2
    assert "usage: .ci/run [oldest]" in done.stderr
