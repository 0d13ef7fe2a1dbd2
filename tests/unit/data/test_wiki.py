from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from markov_cot.data.benchmarks import wiki
from markov_cot.data.benchmarks.wiki import articles, windows
from markov_cot.utils.errors import UserError

from .conftest import PatternTokenizer


def article(title: str, words: int) -> str:
    return f" \n = {title} = \n \n" + "".join(f" {title}{i}" for i in range(words)) + " \n"


def test_windows_follow_each_other_and_the_rest_is_dropped(word_tokenizer: Any) -> None:
    text = "a b c d e f g h i j k l m"  # 13 words: two windows of 3 + 2, three words left
    assert windows(text, word_tokenizer, 3, 2) == [("a b c", "d e"), ("f g h", "i j")]
    assert windows("a b c d e", word_tokenizer, 3, 2) == [("a b c", "d e")]
    assert windows("a b c d", word_tokenizer, 3, 2) == []


def test_cuts_inside_a_word_move_back_to_its_start(character_tokenizer: Any) -> None:
    """Characters as tokens: 6 of context end inside "cde", so the cut is before it; then 4 of target inside "fgh"."""
    text = "a b cdefgh ij klm nop"
    #       0123456789...        cut after 6 -> "a b " | "cdefgh ..." ; from 4, 8 more end at 12, inside "ij"
    assert windows(text, character_tokenizer, 6, 8) == [("a b", "cdefgh")]


def test_text_without_spaces_is_cut_where_the_count_says(character_tokenizer: Any) -> None:
    assert windows("abcdefghij", character_tokenizer, 3, 2) == [("abc", "de"), ("fgh", "ij")]


def test_several_tokens_of_one_character_do_not_lose_or_repeat_it() -> None:
    """A byte-level tokenizer gives the bytes of one character the same offsets."""

    class Bytes:
        def __call__(self, text: str, **options: bool) -> dict[str, list[tuple[int, int]]]:
            return {"offset_mapping": [(i, i + 1) for i, c in enumerate(text) for _ in c.encode()]}

    (window,) = windows("éèêë", Bytes(), 5, 3)  # type: ignore[arg-type]
    assert "".join(window) == "éèêë"


@given(st.text("ab \n", max_size=80), st.integers(1, 9), st.integers(1, 9))
def test_windows_are_pieces_of_the_text_in_order(text: str, context: int, target: int) -> None:
    end = 0
    for pair in windows(text, PatternTokenizer("."), context, target):
        for piece, most in zip(pair, (context, target), strict=True):
            assert piece == piece.strip() and 0 < len(piece) <= most
        found = re.compile(r"\s*".join(map(re.escape, pair))).search(text, end)
        assert found
        end = found.end()


def test_articles_start_at_headings_that_stand_alone() -> None:
    text = " \n = One = \n \n x \n \n = = Part = = \n \n y \n = 1 henry and C = \n z \n \n = T = \n \n w \n"
    rows = list(articles(text.split("\n"), "line"))
    assert [row.number for row in rows] == [2, 12]
    assert rows[0].value == "= One = \n \n x \n \n = = Part = = \n \n y \n = 1 henry and C = \n z"
    assert [wiki.title(row.value) for row in rows] == ["One", "T"]


def test_text_before_the_first_heading_is_an_article() -> None:
    rows = list(articles(["x", "", "= A =", "", "y"], "line"))
    assert [(row.number, row.value) for row in rows] == [(1, "x"), (3, "= A =\n\ny")]
    assert wiki.title("x") == "untitled"
    assert list(articles([""], "line")) == []


def files(names: tuple[str, str] = ("valid.tokens.txt", "wiki.test.raw")) -> dict[str, str]:
    valid = "".join(article(f"v{i}-", 40) for i in range(20))
    test = "".join(article(f"t{i}-", 40) for i in range(5))
    return {f"wikitext2/{names[0]}": valid, f"wikitext2/{names[1]}": test}


SETTINGS = {"context_tokens": 10, "target_tokens": 5}


def test_original_files(load_files: Any) -> None:
    splits = load_files("wiki", files(), **SETTINGS)
    assert splits.note.startswith("no published training split was found; trains on valid, evaluates on test")
    # 40 words and the 3 of "= title =" are two windows of 15 words each, 13 left over.
    assert len(splits.train) + len(splits.validation) == 40 and len(splits.test) == 10
    first = splits.test[0]
    assert (first.question, first.kind) == ("", "continuation")
    assert re.fullmatch(r"t0--[0-9a-f]{8}-0", first.id)
    assert first.passage.split() == ["=", "t0-", "=", *(f"t0-{i}" for i in range(7))]
    assert first.answer == "t0-7 t0-8 t0-9 t0-10 t0-11"


def test_no_article_is_in_two_splits(load_files: Any) -> None:
    same = article("v3-", 40)  # also in the validation file
    both = files()
    both["wikitext2/wiki.test.raw"] += same
    splits = load_files("wiki", both, **SETTINGS)
    sides = [{wiki.article_of(p) for p in side} for side in (splits.train, splits.validation, splits.test)]
    assert all(sides) and not (sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2])
    assert "left out of valid, because test has them too: 2 problems" in splits.note


def test_raw_text_is_preferred(load_files: Any) -> None:
    more = {"wikitext2/wiki.valid.raw": article("raw", 40), "wikitext2/wiki.train.tokens": article("train", 40)}
    splits = load_files("wiki", files() | more, **SETTINGS)
    assert {wiki.article_of(p).partition("-")[0] for p in splits.validation} == {"raw"}
    assert {wiki.article_of(p).partition("-")[0] for p in splits.train} == {"train"}


def test_hub_form_gives_the_same_problems(load_files: Any, load_hub: Any) -> None:
    """The hub has a row for each line: "" for blank ones, the line with its line end otherwise."""
    both = files()
    tables = {
        split: [{"text": f"{line}\n" if line.strip() else ""} for line in both[f"wikitext2/{name}"].split("\n")]
        for split, name in (("validation", "valid.tokens.txt"), ("test", "wiki.test.raw"))
    }
    from_hub = load_hub("wiki", "Salesforce/wikitext", "wikitext-2-raw-v1", tables, **SETTINGS)
    from_files = load_files("wiki", both, **SETTINGS)
    assert [p.answer for p in from_hub.test] == [p.answer for p in from_files.test]
    assert [p.answer for p in from_hub.train] == [p.answer for p in from_files.train]


def test_a_broken_hub_row_is_named(load_hub: Any) -> None:
    with pytest.raises(UserError, match=r"row 1 of split test: text: expected text, got nothing \(null\)"):
        load_hub("wiki", "Salesforce/wikitext", "wikitext-2-raw-v1", {"test": [{"line": "x"}]})


def test_windows_longer_than_every_article(load_files: Any) -> None:
    with pytest.raises(UserError, match=r"gives no problem; no article is as long as data\.context_tokens"):
        load_files("wiki", files(), context_tokens=100)


def test_the_tokenizer_is_needed(place: Any) -> None:
    with pytest.raises(ValueError, match="needs the model's tokenizer"):
        wiki.from_article("= A =\n\nx", place())
