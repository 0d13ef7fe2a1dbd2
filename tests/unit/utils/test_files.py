"""Files appear whole or not at all, and the package writes them through one module."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import markov_cot
from markov_cot.utils.files import AppendFile, replace_by, replacing
from tests.small_runs import Faults, no_space

PACKAGE = Path(markov_cot.__file__).parent
WRITES = re.compile(
    r"\.write_text\(|\.write_bytes\(|\bsavefig\(|\bexport_chrome_trace\(|\bsave_file\(|\bos\.open\(|"
    r"\bopen\([^()\n]*[\"'](?=[rwxab+]*[wxa+])[rwxab+]{1,3}[\"']"
)
ALLOWED = {
    # (file, what it calls): why
    ("checkpoints/run_lock.py", '("ab'): "the lock is the open file, which has no content",
    ("cli/signals.py", "os.open("): "the null device, in the place of a terminal that is gone",
    ("cli/profiling.py", "export_chrome_trace("): "writes to the path that utils.files gives it",
    ("analysis/plotting.py", "savefig("): "writes to the file that utils.files gives it",
    ("analysis/report/figures.py", "savefig("): "writes into memory",
    ("evaluation/learning_curve.py", "savefig("): "writes to the file that utils.files gives it",
}


def test_every_file_is_written_through_one_module() -> None:
    found = {
        (path.relative_to(PACKAGE).as_posix(), match[0])
        for path in PACKAGE.rglob("*.py")
        if path != PACKAGE / "utils" / "files.py"
        for match in WRITES.finditer(path.read_text())
    }
    allowed = {key: [hit for hit in found if hit[0] == key[0] and key[1] in hit[1]] for key in ALLOWED}
    assert found == {hit for hits in allowed.values() for hit in hits}, "write it through utils/files.py"
    assert all(allowed.values()), "what is not written any more needs no exception"


@pytest.mark.parametrize(
    "line",
    [
        'path.write_text("x")',
        'with path.open("wb") as file:',
        "with open(path, 'w') as file:",
        'open(path, mode="a")',
        'path.open("r+b")',
        "figure.savefig(path)",
    ],
)
def test_what_writes_is_recognised(line: str) -> None:
    assert WRITES.search(line)


@pytest.mark.parametrize("line", ['path.open("rb")', 'gzip.open(path, "rb")', "path.read_text()", "self._open(last)"])
def test_what_reads_is_not_taken_for_it(line: str) -> None:
    assert not WRITES.search(line)


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def test_a_file_takes_its_place_at_the_end_only(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with replacing(path) as file:
        file.write(b"new")
        assert path.read_text() == "old"
    assert path.read_text() == "new" and names_in(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("fault", [ValueError("half-way"), KeyboardInterrupt()])
def test_what_is_not_finished_leaves_the_old_file(tmp_path: Path, fault: BaseException) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(type(fault)), replacing(path) as file:
        file.write(b"half")
        raise fault
    assert path.read_text() == "old" and names_in(tmp_path) == ["a.txt"]


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with Faults().when(no_space("fsync")), pytest.raises(OSError, match="No space"), replacing(path) as file:
        file.write(b"new")
    assert path.read_text() == "old" and names_in(tmp_path) == ["a.txt"]


def test_a_library_writes_to_a_path_of_the_same_ending(tmp_path: Path) -> None:
    path = tmp_path / "trace.json.gz"
    names: list[str] = []

    def write(to: Path) -> None:
        names.append(to.name)
        to.write_bytes(b"trace")

    replace_by(path, write)
    assert path.read_bytes() == b"trace" and names_in(tmp_path) == ["trace.json.gz"]
    assert names[0] != path.name and names[0].endswith("trace.json.gz")


def test_what_follows_the_part_to_keep_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"one\ntwo\nto")
    file = AppendFile(path, keep=8)
    file.append(b"three\n")
    file.close()
    assert path.read_bytes() == b"one\ntwo\nthree\n"
