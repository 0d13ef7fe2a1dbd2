"""Values on their way into a page."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from markov_cot.analysis.report.view import FORMS, LONGEST, MISSING, Value, find
from markov_cot.utils.text import visible


@pytest.mark.parametrize(
    ("form", "raw", "shown"),
    [
        ("percent", 0.8125, "81.2 %"),
        ("percent", 1, "100.0 %"),
        ("points", 0.125, "+12.5"),
        ("points", -0.125, "-12.5"),
        ("nats", -1.23456, "-1.235"),
        ("change", 0.5, "+0.500"),
        ("count", 1234567, "1,234,567"),
        ("seconds", 59.94, "59.9 s"),
        ("seconds", 60, "1 min 00 s"),
        ("seconds", 3599.6, "1 h 00 min"),
        ("seconds", 7384, "2 h 03 min"),
        ("gib", 3 * 2**29, "1.50 GiB"),
        ("p", 0.04999, "0.050"),
        ("p", 0.00099, "9.9e-04"),
        ("p", 0.0, "0.000"),
        ("metric", 1234, "1,234"),
        ("metric", 0.000123456, "0.0001235"),
        ("text", "a\x1b[31m\u202eb", "a\\x1b[31m\\u202eb"),
        ("text", 7, "7"),
        ("beginning", " two\n\n words ", "two words"),
        ("beginning", "x" * 500, "x" * 120),
        ("text", "x" * (LONGEST + 5), "x" * LONGEST + "…"),
    ],
)
def test_how_a_value_is_shown(form: str, raw: Any, shown: str) -> None:
    assert FORMS[form](raw) == shown


@pytest.mark.parametrize("form", FORMS)
def test_what_there_is_not_is_a_dash_and_no_number_is_shown_as_it_stands(form: str) -> None:
    assert FORMS[form](None) == MISSING
    assert FORMS[form]("<b>\x00") == "<b>\\x00"
    assert FORMS[form](True) == "True"
    if form not in ("text", "beginning"):
        assert FORMS[form](float("nan")) == FORMS[form](float("inf")) == MISSING


def test_a_value_knows_its_place() -> None:
    document = {"runs": [{"policy/kl": 0.5, "a~b": {"": [1, 2]}}]}
    value = Value(document)
    assert value["runs"][0]["policy/kl"].place == "runs/0/policy~1kl"
    assert value["runs"][0]["a~b"][""][1].place == "runs/0/a~0b//1"
    assert [each.key for each in value["runs"][0]] == ["policy/kl", "a~b"]
    assert [each.raw for each in value["runs"][0]["a~b"][""]] == [1, 2]
    assert len(value["runs"]) == 1 and len(value["nothing"]) == 0


def test_what_is_not_there_is_none_however_deep() -> None:
    value = Value({"a": 1})["b"][3]["c"]
    assert value.raw is None and value.place == "b/3/c" and not value and list(value) == []


@pytest.mark.parametrize(
    ("raw", "truth"), [(0, True), (0.0, True), ("", False), ([], False), (None, False), (False, False)]
)
def test_zero_is_a_value(raw: Any, truth: bool) -> None:
    assert bool(Value(raw)) is truth


KEYS = st.text(alphabet="ab/~01x; \x00\u202e", max_size=5)
DOCUMENTS = st.recursive(st.integers(), lambda inner: st.dictionaries(KEYS, inner) | st.lists(inner), max_leaves=12)


def places(value: Value) -> list[Value]:
    inner = [each for one in value for each in places(one)] if isinstance(value.raw, dict | list) else []
    return [*([value] if value.at else []), *inner]


@given(DOCUMENTS)
def test_every_place_leads_back_to_its_value(document: Any) -> None:
    for value in places(Value(document)):
        assert find(document, value.place) is value.raw and visible(value.place) == value.place


def test_a_place_that_is_none_is_refused() -> None:
    with pytest.raises(LookupError):
        find({"a": [1]}, "a/1")
    with pytest.raises(LookupError):
        find({"a": [1]}, "b")
