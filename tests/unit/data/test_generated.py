from __future__ import annotations

import pytest

from markov_cot.config.schema import Data
from markov_cot.data.generated import KINDS
from markov_cot.data.registry import load
from markov_cot.data.splits import question_key
from markov_cot.utils.errors import UserError


@pytest.mark.parametrize("name", KINDS)
def test_sizes_kinds_and_disjointness(name: str) -> None:
    splits = load(Data(dataset=name))
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (100_000, 2_000, 2_000)
    assert (splits.source, splits.skipped, splits.name) == ("generated", 0, name)
    some = [[split[i] for i in range(200)] for split in (splits.train, splits.validation, splits.test)]
    assert {p.kind for part in some for p in part} == {KINDS[name]}
    keys = [set(map(question_key, part)) for part in some]
    assert not (keys[0] & keys[1] or keys[0] & keys[2] or keys[1] & keys[2])


def test_the_settings_of_sums_are_used_and_fingerprinted() -> None:
    small = load(Data(dataset="arithmetic", terms=(2, 3), high=20, negative=True))
    for problem in small.train[:50]:
        terms = problem.question.removeprefix("What is ").removesuffix("?").replace("-", "+").split("+")
        assert len(terms) in (2, 3) and all(1 <= int(term) <= 20 for term in terms)
    assert any("-" in problem.question for problem in small.train[:50])
    prints = {
        load(Data(dataset="arithmetic", **changes)).fingerprint() for changes in ({}, {"high": 9}, {"negative": True})
    }
    assert len({small.fingerprint(), *prints}) == 4
    assert load(Data(dataset="arithmetic")).fingerprint() in prints


def test_too_few_sums_for_three_splits() -> None:
    with pytest.raises(
        UserError, match=r"arithmetic: data.terms \[1, 1\] and data.high 2 allow too few different sums"
    ):
        load(Data(dataset="arithmetic", terms=(1, 1), high=2))


def test_subsets_are_refused() -> None:
    with pytest.raises(UserError, match="words has no subsets"):
        load(Data(dataset="words", subset="x"))
