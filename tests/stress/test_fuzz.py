"""A small share of benchmarks/fuzz.py."""

from __future__ import annotations

from tests.small_runs import script, warm


def test_generated_input_never_ends_in_a_traceback() -> None:
    with warm():
        counts = script("fuzz").fuzz(300, 0)
    assert counts.total() == 300
    for kind in ("config", "data"):
        assert counts[f"{kind}: accepted"] > 5 and counts[f"{kind}: refused"] > 10
    assert counts["command: accepted"] > 0 and counts["command: exit 2"] > 20 and counts["command: ran"] == 1
