"""Wikipedia continuation (WikiText-2, Merity et al. 2016): read a window of an article, predict the text after it.

Splits are by article: all windows of an article are on one side. The text stays as published (" @-@ ", "<unk>").
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from markov_cot.data.dataset import Dataset, RowContext, SplitFiles, Tokenizer, split_files
from markov_cot.data.fields import kind_of
from markov_cot.data.hub import Hub
from markov_cot.data.problem import Problem
from markov_cot.data.reading import Row, read_text
from markov_cot.data.token_spans import token_spans

_HEADING = re.compile(r"= [^=](?:.*[^=])? =")


def from_article(article: Any, place: RowContext) -> Sequence[Problem]:
    """The windows of one article, which is its text, heading included."""
    if place.tokenizer is None:
        raise ValueError("wiki: its windows are counted in tokens, so it needs the model's tokenizer")
    # Of the words alone, because the two forms differ in the space on blank lines.
    name = f"{title(article)}-{zlib.crc32(' '.join(article.split()).encode()):08x}"
    cuts = windows(article, place.tokenizer, place.data.context_tokens, place.data.target_tokens)
    return [
        Problem(f"{name}-{number}", "", target, "continuation", passage=context)
        for number, (context, target) in enumerate(cuts)
    ]


def windows(text: str, tokenizer: Tokenizer, context_tokens: int, target_tokens: int) -> list[tuple[str, str]]:
    """Context and target of each whole window, one window after the other, cut out of `text` by character offsets.

    A cut that would fall into a word moves back to the word's start, so that a target never starts with half a word
    (it is put after a space); contexts and targets are then shorter by less than a word, and never longer. White
    space at the ends of both is dropped.
    """
    starts = [start for start, _ in token_spans(tokenizer, text)]
    size = len(starts)
    starts.append(len(text))
    found, first = [], 0
    while first + context_tokens + target_tokens <= size:
        middle = _word_start(text, starts, first, first + context_tokens)
        last = _word_start(text, starts, middle, middle + target_tokens)
        context, target = text[starts[first] : starts[middle]].strip(), text[starts[middle] : starts[last]].strip()
        if context and target:
            found.append((context, target))
        first = last
    return found


def articles(lines: Sequence[str], unit: str) -> Iterator[Row]:
    """One row for each article, numbered by its first line. It starts at a line " = Title = " between blank lines:
    formulas that were torn apart look like headings, too, but stand inside a paragraph."""
    padded = ["", *lines, ""]
    headings = [
        number - 1
        for number in range(1, len(padded) - 1)
        if _HEADING.fullmatch(padded[number].strip())
        and not padded[number - 1].strip()
        and not padded[number + 1].strip()
    ]
    for first, last in pairwise([0, *headings, len(lines)]):
        if text := "\n".join(lines[first:last]).strip():
            yield Row(first + 1, unit, text)


def title(article: str) -> str:
    """The article's heading, or "untitled"."""
    line = article.split("\n", 1)[0].strip()
    return line.strip("= ") if _HEADING.fullmatch(line) else "untitled"


def article_of(problem: Problem) -> str:
    """The part of a problem's id that all windows of its article share."""
    return problem.id.rpartition("-")[0]


def _word_start(text: str, starts: Sequence[int], after: int, token: int) -> int:
    """The last token up to `token`, and after `after`, that starts a word; `token` in text without spaces."""
    for candidate in range(token, after, -1):
        at = starts[candidate]
        if at == len(text) or text[at].isspace() or (at and text[at - 1].isspace()):
            return candidate
    return token


def _file_rows(path: Path) -> Iterator[Row]:
    return articles(read_text(path).split("\n"), "line")


def _hub_rows(rows: Iterable[Row]) -> Iterator[Row]:
    """The hub has one row for each line."""
    lines = []
    for row in rows:
        line = row.value.get("text") if isinstance(row.value, Mapping) else None
        if not isinstance(line, str):
            yield replace(row, fault=row.fault or f"text: expected text, got {kind_of(line)}")
        lines.append(line.rstrip("\n") if isinstance(line, str) else "")
    yield from articles(lines, "row")


def _files(folder: Path, subsets: tuple[str, ...]) -> list[SplitFiles]:
    return split_files(
        folder,
        ("train", "train", _names("train")),
        ("valid", "validation", _names("valid")),
        ("test", "test", _names("test")),
    )


def _names(split: str) -> tuple[str, ...]:
    """The raw text is preferred to the one with rare words replaced."""
    return tuple(
        f"{prefix}{split}.{form}{suffix}"
        for form in ("raw", "tokens")
        for prefix in ("wiki.", "")
        for suffix in ("", ".txt")
    )


WIKI = Dataset(
    name="wiki",
    kind="continuation",
    folder="wikitext2",
    files=_files,
    hub=lambda subsets: Hub(
        ("Salesforce/wikitext",),
        "wikitext-2-raw-v1",
        {"train": "train", "validation": "validation", "test": "test"},
        ("wikitext-2-v1",),
    ),
    original=from_article,
    hub_form=from_article,
    file_rows=_file_rows,
    hub_rows=_hub_rows,
    key=article_of,
    when_empty="no article is as long as data.context_tokens + data.target_tokens; lower them",
)
