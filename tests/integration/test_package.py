"""An installed copy works from any folder, and a checkout works without being installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tests.versions.renew_lock import LOCK

ROOT = Path(__file__).parents[2]
PROBE = """
from markov_cot.config.loading import recipe_names
from markov_cot.config.yaml_files import packaged_folder
from markov_cot.models.source import resolve_source
from pathlib import Path
import markov_cot
assert "quickstart" in recipe_names(), recipe_names()
assert [f.name for f in packaged_folder("markov_cot.suites", "eval").iterdir()]
assert list(Path(resolve_source("nano")).glob("*.safetensors"))
print(markov_cot.__file__)
"""


def clean_environment() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "MARKOV_COT_DATA")}


def copy_of_project(folder: Path) -> Path:
    files = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    if files.returncode:
        pytest.fail("git does not list the project's files")
    for name in files.stdout.splitlines():
        source, target = ROOT / name, folder / name
        if source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
    return folder


def environment_with(project: Path, folder: Path, *options: str) -> Path:
    """A virtual environment that sees this one's packages but not this checkout; returns its python."""
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    purelib = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    # Packages of the running environment come last on the path, without its .pth files (an editable install of ours).
    site = Path(purelib)
    (site / "outer.pth").write_text("\n".join(p for p in sys.path if p.endswith("site-packages")) + "\n")
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "--no-deps"]
    subprocess.run(
        [*install, "--no-build-isolation", "--ignore-installed", *options, str(project)],
        check=True,
        env=clean_environment(),
        timeout=240,
    )
    return python


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], ["--editable"]], ids=["regular", "editable"])
def test_install_works_from_another_folder(tmp_path: Path, options: list[str]) -> None:
    project = copy_of_project(tmp_path / "project")
    python = environment_with(project, tmp_path / "env", *options)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    done = subprocess.run([python, "-c", PROBE], cwd=elsewhere, env=clean_environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    inside = project if options else tmp_path / "env"
    assert Path(done.stdout.strip()).is_relative_to(inside), done.stdout
    script = subprocess.run(
        [python.with_name("markov-cot"), "train", "--help"], cwd=elsewhere, env=clean_environment(), capture_output=True
    )
    assert script.returncode == 0


@pytest.mark.slow
def test_python_m_from_the_root_without_an_install(tmp_path: Path) -> None:
    project = copy_of_project(tmp_path / "project")
    packages = [p for p in sys.path if p.endswith("site-packages")]
    environment = clean_environment() | {"PYTHONPATH": os.pathsep.join(packages)}
    # -S leaves out .pth files, and with them an editable install of another checkout.
    probe = subprocess.run(
        [sys.executable, "-S", "-c", PROBE], cwd=project, env=environment, capture_output=True, text=True
    )
    assert probe.returncode == 0, probe.stderr
    assert Path(probe.stdout.strip()).is_relative_to(project)
    command = [sys.executable, "-S", "-m", "markov_cot", "train", "nosuchrecipe"]
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert "quickstart" in done.stderr


def test_the_readmes_test_line_installs_the_locked_versions() -> None:
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    [line] = [line for line in lines if "pip install" in line and "[test]" in line]
    constraints = line.split(" -c ")[1].split()[0]
    assert (ROOT / constraints) == LOCK
    assert line.endswith("&& .venv/bin/pytest -n 2 --dist loadfile --no-loadscope-reorder")
