"""Spans of tokens, as a fast tokenizer reports them and as they are found with a slow one."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from markov_cot.data.benchmarks.wiki import windows
from markov_cot.data.problem import Problem
from markov_cot.data.prompts import Prompts
from markov_cot.data.token_spans import encode_with_spans, token_spans
from markov_cot.utils.errors import UserError

TEXT = "x\nAnswer: 47,5 é\n"


class Slowed:
    """A fast tokenizer that reports no spans."""

    is_fast = False

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)

    def __call__(self, text: str, **options: Any) -> Any:
        assert not options.get("return_offsets_mapping"), "slow tokenizers raise NotImplementedError here"
        return self._tokenizer(text, **options)


class Spaceless(Slowed):
    """Drops the space in front of each token it decodes, as SentencePiece does for the first of a text."""

    def decode(self, ids: Any, **options: Any) -> str:
        text: str = self._tokenizer.decode(ids, **options)
        return text.removeprefix(" ")


@pytest.fixture(scope="module")
def bytes_tokenizer() -> Any:
    from transformers import ByT5Tokenizer

    return ByT5Tokenizer()


def test_bytes_of_one_character_share_its_span(bytes_tokenizer: Any) -> None:
    assert not bytes_tokenizer.is_fast
    ids, spans = encode_with_spans(bytes_tokenizer, "aé€b")
    assert ids == [100, 198, 172, 229, 133, 175, 101]
    assert spans == [(0, 1), (1, 2), (1, 2), (2, 3), (2, 3), (2, 3), (3, 4)]


@given(text=st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40))
def test_decoding_finds_whole_characters_as_a_fast_tokenizer_reports_them(tokenizer: Any, text: str) -> None:
    fast_ids, fast = encode_with_spans(tokenizer, text)
    ids, found = encode_with_spans(Slowed(tokenizer), text)
    assert ids == fast_ids
    assert found[0][0] == 0 and found[-1][1] == len(text)
    # A part of a character is reported as that character by both, or as the whole run of parts it comes in.
    assert all(start <= s and e <= end for (start, end), (s, e) in zip(found, fast, strict=True))
    if text.isascii():
        assert found == [tuple(span) for span in fast]


def test_white_space_that_decoding_drops_belongs_to_the_token_after_it(tokenizer: Any) -> None:
    found = token_spans(Spaceless(tokenizer), "What is 12 + 35?")
    assert found[0][0] == 0 and found[-1][1] == 16
    apart = list(dict.fromkeys(found))
    assert all(before[1] == after[0] for before, after in itertools.pairwise(apart)) and len(apart) > 5


def test_contexts_of_a_slow_tokenizer_are_those_of_the_fast_one(tokenizer: Any) -> None:
    problem = Problem("n", "What is 12+35?", "47", "numeric")
    slow, fast = Prompts(Slowed(tokenizer)), Prompts(tokenizer)  # type: ignore[arg-type]
    assert slow.question_context(problem) == fast.question_context(problem)
    assert slow.answer_context(problem, [40, 41]) == fast.answer_context(problem, [40, 41])
    text = "The cat sat on the mat. " * 20
    assert windows(text, Slowed(tokenizer), 12, 6) == windows(text, tokenizer, 12, 6)  # type: ignore[arg-type]


def test_answers_are_cut_out_of_bytes(bytes_tokenizer: Any) -> None:
    problem = Problem("n", "What is 12+35?", "47", "numeric")
    context = Prompts(bytes_tokenizer).answer_context(problem, [9, 9])
    assert bytes_tokenizer.decode(list(context.answer_ids)) == " 47\n"
    assert bytes_tokenizer.decode(list(context.ids)).endswith("\nReasoning:\x06\x06\nAnswer:")


def test_a_slow_tokenizer_that_changes_the_text_is_refused(tokenizer: Any) -> None:
    class Lower(Slowed):
        def decode(self, ids: Any, **options: Any) -> str:
            text: str = self._tokenizer.decode(ids, **options)
            return text.lower()

    with pytest.raises(UserError, match=r"no fast version .* does not give back the text .*tokenizer\.json$") as error:
        encode_with_spans(Lower(tokenizer), TEXT)
    assert "\n" not in str(error.value)
