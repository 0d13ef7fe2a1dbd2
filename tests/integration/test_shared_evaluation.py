"""Several processes evaluate what one would, and the first one keeps it; docs/scaling.md."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.command_fixtures import write_choices
from tests.evaluation_cases import CASES, COMPARED, run_case
from tests.launching import run_two
from tests.process_cases import in_float64

WITHIN = 2e-6
"""Records keep six decimals."""


@pytest.fixture(scope="module")
def place(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy of the run as the current folder, in which what one process computes is in float64, too."""
    folder = tmp_path_factory.mktemp("place")
    shutil.copytree(trained, folder, symlinks=True, dirs_exist_ok=True)
    write_choices(folder / "choices.jsonl")
    with in_float64(), pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MARKOV_COT_DATA", raising=False)
        yield folder


@pytest.fixture(scope="module")
def two(place: Path) -> list[dict[str, Any]]:
    """All cases, run by two processes, and what each of these says. One was interrupted as a single process."""
    run_case("resumed", "two")
    for cache in Path("two/resumed/cache").iterdir():
        lines = cache.read_bytes().splitlines(keepends=True)
        cache.write_bytes(b"".join(lines[:6]) + lines[6][:10])  # of twelve items: five, and a torn one
    return run_two("tests.evaluation_cases", place, CASES, timeout=200)


def records(folder: str, case: str) -> dict[str, list[dict[str, Any]]]:
    """The lines of each cache."""
    caches = sorted(Path(folder, case.replace(" ", "-"), "cache").iterdir())
    return {path.name: [json.loads(line) for line in path.read_text().splitlines()] for path in caches}


def assert_close(found: Any, expected: Any, where: str = "") -> None:
    """Equal but for the last digit of numbers."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys(), where
        for key in expected:
            assert_close(found[key], expected[key], f"{where}/{key}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), where
        for i, pair in enumerate(zip(found, expected, strict=True)):
            assert_close(*pair, f"{where}/{i}")
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, abs=WITHIN, rel=WITHIN), where
    elif not where.endswith("samples_file"):
        assert found == expected, where


@pytest.mark.parametrize("case", COMPARED)
def test_two_processes_evaluate_as_one(two: list[dict[str, Any]], case: str) -> None:
    one = run_case(case, "one")
    first, second = (said[case] for said in two)
    assert_close(first["results"], one["results"])
    assert first["results"] == second["results"], "what the API returns is the same in all processes"
    assert first["items"] == second["items"] == one["items"], "the bars of all go to the end"
    assert_close(records("two", case), records("one", case))
    # Each item is computed by one of them, as often as one process does, and both have a share.
    assert sorted(first["computed"] + second["computed"]) == sorted(one["computed"])
    assert first["computed"] and (second["computed"] or case == "single")


@pytest.mark.parametrize("case", ["batches", "sampled", "checkpoints"])
def test_where_the_batches_are_the_same_so_is_every_byte(two: list[dict[str, Any]], case: str) -> None:
    run_case(case, "one")
    files = sorted(path.relative_to("one") for path in Path("one", case).rglob("*.jsonl"))
    assert len(files) == 3
    assert files == sorted(path.relative_to("two") for path in Path("two", case).rglob("*.jsonl"))
    for file in files:
        assert Path("two", file).read_bytes() == Path("one", file).read_bytes()


def test_only_the_first_process_writes(two: list[dict[str, Any]]) -> None:
    assert len(list(Path("two/batches").glob("results_*.json"))) == 1
    assert sorted(path.name for path in Path("two/all").iterdir() if path.is_file()) == ["accuracy_arithmetic.png"]


def test_what_one_process_left_two_complete(two: list[dict[str, Any]]) -> None:
    expected = run_case("resumed", "one")
    assert_close(two[0]["resumed"]["results"], expected["results"])
    kept = set(expected["computed"][:4])
    assert expected["items"] == two[1]["resumed"]["items"] == 2 * 12
    for said in two:
        # A batch of four was whole, the next was cut after its first item, and is computed whole.
        assert said["resumed"]["computed"] and not kept & set(said["resumed"]["computed"])
    for name, rows in records("two", "resumed").items():
        assert rows == records("one", "resumed")[name]


def test_what_two_processes_left_one_completes(two: list[dict[str, Any]]) -> None:
    shutil.copytree("two/batches", "again/batches")
    assert run_case("batches", "again")["computed"] == []


def test_every_checkpoint_is_shared(two: list[dict[str, Any]]) -> None:
    one, (first, second) = run_case("all", "one"), (said["all"] for said in two)
    assert [curve | {"plot": ""} for curve in first["curves"]] == [curve | {"plot": ""} for curve in second["curves"]]
    for ours, theirs in zip(first["curves"], one["curves"], strict=True):
        assert_close(ours | {"plot": ""}, theirs | {"plot": ""})
    assert [point["step"] for point in first["curves"][0]["points"]] == [0, 2, 4]


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ("refused", "model nothing: cannot be loaded"),
        ("different", "eval: process 1 would evaluate something else than the first one (items differ)"),
        ("full", "cannot be written (No space left on device)"),
    ],
)
def test_what_one_refuses_all_refuse_in_its_words(two: list[dict[str, Any]], case: str, expected: str) -> None:
    first, second = (said[case] for said in two)
    assert first == second and expected in first
    assert not list(Path("two", case).glob("results_*"))
