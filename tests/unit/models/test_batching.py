"""Batches of sequences of different lengths, and which of them are read together."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from markov_cot.models import batching
from markov_cot.models.batching import PADDING, alike, pad_left


def test_rows_are_grouped_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "WORTH_TOKENS", 20)
    # 10 + 10 + 12 tokens: 4 of 36 are padding. A row of 30 beside them would make that 58 of 120.
    assert alike([10, 30, 12, 10, 31]) == [[0, 2, 3], [1, 4]]
    # Too few tokens to be worth a forward of their own.
    assert alike([10, 30]) == [[0, 1]]
    assert alike([7, 7, 7]) == [[0, 1, 2]]
    assert alike([]) == []


@given(st.lists(st.integers(1, 2000), max_size=40))
def test_each_row_is_in_one_group_and_little_is_padding(lengths: list[int]) -> None:
    groups = alike(lengths)
    assert sorted(i for group in groups for i in group) == list(range(len(lengths)))
    for group in groups:
        found = sorted(lengths[i] for i in group)
        # Each row's predecessors were either not worth a forward or left it little to pad.
        for n in range(1, len(found)):
            before, padded = sum(found[:n]), (n + 1) * found[n]
            assert before < batching.WORTH_TOKENS or padded - before - found[n] <= PADDING * padded


def test_a_batch_is_cut_to_its_longest_row() -> None:
    batch = pad_left([[1, 2, 3, 4], [5, 6], [7]], 0, torch.device("cpu"))
    cut = batch.take([2, 1]).without_padding_on_the_left()
    assert cut.ids_BT.tolist() == [[0, 7], [5, 6]] and cut.mask_BT.tolist() == [[0, 1], [1, 1]]
