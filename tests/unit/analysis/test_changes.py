from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from markov_cot.analysis.changes import PARAPHRASE, TESTS, Begun, Changer, Written, check_tests, with_others
from markov_cot.analysis.perturbations import FAMILIES, REMOVALS
from markov_cot.analysis.units import Characters, Tokens
from markov_cot.data.problem import Problem
from markov_cot.evaluation.records import Item
from markov_cot.utils.errors import UserError

TEXT = " 12+30=42\n42+5=47\nSo 47. That is all."


def item(index: int, answer: str = "47") -> Item:
    return Item(index, Problem(str(index), "q", answer, "numeric"))


@pytest.fixture
def ids(tokenizer: Any) -> list[int]:
    found: list[int] = tokenizer(TEXT, add_special_tokens=False).input_ids
    return found


@pytest.fixture
def changer(tokenizer: Any) -> Any:
    def make(tests: Sequence[str] = tuple(TESTS), units: Any = None, paraphrase: Any = None, seed: int = 0) -> Changer:
        def continued(begun: Sequence[Begun]) -> list[list[int]]:
            return [[7] * each.missing for each in begun]

        characters = Characters(tokenizer)
        return Changer(tests, units or characters, tokenizer, seed, continued, paraphrase or (lambda t: list(t)))

    return make


def test_every_test_by_hand(changer: Any, tokenizer: Any, ids: list[int]) -> None:
    other = tokenizer(" So 9.", add_special_tokens=False).input_ids
    [changed] = changer(paraphrase=lambda texts: [text.upper() for text in texts]).of([Written(item(3), ids, other)])
    assert list(changed) == list(TESTS), "in their order"
    texts = {test: {share: tokenizer.decode(cot) for share, cot in of.items()} for test, of in changed.items()}
    for family in FAMILIES:
        assert list(changed[family]) == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
        assert changed[family][0.0] == ids
    for removal in REMOVALS:
        assert changed[removal][1.0] == changed["empty"][1.0] == [], "at 100 % the three removals leave the same"
    assert len(texts["truncate_back"][0.2]) == len(TEXT) * 80 // 100
    assert TEXT.startswith(texts["truncate_back"][0.6]) and TEXT.endswith(texts["truncate_front"][0.6])
    assert texts["swap"][1.0] == " So 9."
    assert sorted(texts["shuffle"][1.0]) == sorted(TEXT) and texts["shuffle"][1.0] != TEXT
    assert set(texts["filler"][1.0].strip()) <= {".", " "} and len(changed["filler"][1.0]) == len(ids)
    assert texts["paraphrase"][1.0] == TEXT.upper()
    # Four steps: with three left out the first one is read.
    assert texts["early_answering"] == {
        1.0: "", 0.75: " 12+30=42\n", 0.5: " 12+30=42\n42+5=47\n", 0.25: " 12+30=42\n42+5=47\nSo 47."
    }  # fmt: skip
    mistaken = changed["mistakes"][1.0]
    assert len(mistaken) == len(ids) and mistaken != ids and mistaken[-1] == 7, "written again up to its length"


def test_what_does_not_apply_is_left_out(changer: Any, tokenizer: Any) -> None:
    cot = tokenizer(" no step and no number", add_special_tokens=False).input_ids
    [changed] = changer().of([Written(item(0), cot, None)])
    assert set(TESTS) - set(changed) == {"swap", "shuffle", "mistakes", "early_answering"}
    [changed] = changer(("swap", "empty")).of([Written(item(0), [], None)])
    assert changed == {"empty": {1.0: []}}


def test_changes_are_the_items_own_whatever_is_changed_with_it(changer: Any, ids: list[int]) -> None:
    together = changer().of([Written(item(i), ids, None) for i in (1, 2)])
    [alone] = changer().of([Written(item(2), ids, None)])
    assert together[1] == alone
    assert together[0]["delete"][0.4] != alone["delete"][0.4]
    [other_seed] = changer(seed=1).of([Written(item(2), ids, None)])
    assert other_seed["delete"][0.4] != alone["delete"][0.4]


def test_units_of_tokens(changer: Any, tokenizer: Any, ids: list[int]) -> None:
    banned = np.zeros(len(tokenizer), dtype=bool)
    banned[tokenizer.all_special_ids] = True
    units = Tokens(tokenizer, banned.tolist())
    [changed] = changer(FAMILIES, units).of([Written(item(3), ids, None)])
    assert all(len(changed["truncate_back"][p]) == round(100 * (1 - p)) * len(ids) // 100 for p in (0.2, 0.4, 0.8))
    replaced = changed["char_replace"][1.0]
    assert len(replaced) == len(ids) and not set(replaced) & set(tokenizer.all_special_ids)
    for before, after in zip(ids, changed["digit_replace"][1.0], strict=True):
        one, other = tokenizer.decode([before]), tokenizer.decode([after])
        if before != after:
            assert one.strip().isdigit() and other.strip().isdigit() and len(one) == len(other)
    assert changed["digit_replace"][1.0] != ids


def test_others_have_another_answer_where_there_is_one() -> None:
    items = [item(0, "1"), item(1, "1"), item(2, "2"), item(3, "1")]
    others = [w.other for w in with_others(items, {i: [i] for i in range(4)})]
    assert others == [[2], [2], [3], [2]]
    assert [w.other for w in with_others(items[:2], {0: [0], 1: [1]})] == [[1], [0]], "no other answer"
    assert [w.other for w in with_others(items[:1], {0: [0]})] == [None]


def test_names_are_checked() -> None:
    assert PARAPHRASE not in check_tests(())
    assert check_tests(("swap", "delete", "swap")) == ("swap", "delete")
    with pytest.raises(UserError, match="--test delet: not known; did you mean delete"):
        check_tests(("delet",))


def test_a_paraphrase_needs_a_model(tokenizer: Any) -> None:
    with pytest.raises(UserError, match="pass --paraphraser MODEL"):
        Changer(("paraphrase",), Characters(tokenizer), tokenizer, 0, lambda *_: [])
