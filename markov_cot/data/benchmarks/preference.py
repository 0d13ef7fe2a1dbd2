"""Which of two responses is better: Chatbot Arena's votes, PandaLM's test set, LLMBar.

* arena (arena-human-preference-55k): conversations of users with two models and their votes. Prompt and responses are
  JSON lists of turns; a turn may be null, or end in half a surrogate pair.
* pandalm (Wang et al. 2023, arXiv 2306.05087): 999 pairs of responses to 170 instructions; the answer is what most of
  three annotators chose. It has no other split, so test problems are held out of it.
* llmbar (Zeng et al. 2023, arXiv 2310.07641): 419 pairs of which one follows the instruction; no ties, and meant for
  evaluation only.

A prompt's rows stay in one split, and where one is held out the answers have about the same shares on both sides.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from markov_cot.data.comparison import FIRST, SECOND, TIE, Turn, comparison, with_swapped
from markov_cot.data.dataset import Dataset, RowContext, SplitFiles, find_file, one, split_files
from markov_cot.data.fields import RowError, as_object, field, kind_of, shown, text
from markov_cot.data.hub import Hub
from markov_cot.data.problem import Problem
from markov_cot.data.reading import Row
from markov_cot.data.splits import by_label, group_key
from markov_cot.data.tables import rows_of

ARENA, PANDALM, LLMBAR = "arena", "pandalm", "llmbar"
SUBSETS = (ARENA, PANDALM, LLMBAR)
PARTS = ("Natural", "Neighbor", "GPTInst", "GPTOut", "Manual")
"""LLMBar's; all but the first are its adversarial set."""
_WINNERS = {"winner_model_a": FIRST, "winner_model_b": SECOND, "winner_tie": TIE}
_ANNOTATORS = ("annotator1", "annotator2", "annotator3")
_BY_NUMBER = {0: TIE, 1: FIRST, 2: SECOND}
_PART = "part"
_HUB_IDS = ("lmarena-ai/arena-human-preference-55k", "lmsys/lmsys-arena-human-preference-55k")
_HOMES = {
    ARENA: f"huggingface.co/datasets/{_HUB_IDS[0]}",
    PANDALM: "github.com/WeOpenML/PandaLM",
    LLMBAR: "github.com/princeton-nlp/LLMBar",
}


def from_row(row: Any, place: RowContext) -> Problem:
    """A row of any of the three, which is recognised by its fields."""
    row = as_object(row)
    if "prompt" in row:
        return from_arena(row, place)
    if "instruction" in row:
        return from_pandalm(row, place)
    if "output_1" in row:
        return from_llmbar(row, place)
    raise RowError(
        "has neither `prompt` (arena) nor `instruction` (pandalm) nor `output_1` (llmbar); the row has "
        f"{', '.join(map(str, row)) or 'no fields'}"
    )


def from_arena(row: Mapping[str, Any], place: RowContext) -> Problem:
    """`prompt`, `response_a` and `response_b` are lists of turns; one of three `winner_` columns is 1."""
    prompts, first, second = (_turns(row, name) for name in ("prompt", "response_a", "response_b"))
    if not len(prompts) == len(first) == len(second):
        raise RowError(
            f"prompt has {len(prompts)} turns, response_a {len(first)} and response_b {len(second)}; expected the same"
        )
    turns = [Turn(*turn) for turn in zip(prompts, first, second, strict=True)]
    name = str(row["id"]).strip() if row.get("id") is not None else ""
    return comparison(f"{ARENA}-{name or place.id}", turns, _winner(row))


def from_pandalm(row: Mapping[str, Any], place: RowContext) -> Problem:
    """`instruction` and `input`, one of which may be empty, and what three annotators chose: 1, 2, or 0 for neither."""
    given = (_shown_text(row.get(name), name) for name in ("instruction", "input"))
    prompt = "\n\n".join(part for part in given if part)
    responses = [_shown_text(field(row, name), name) for name in ("response1", "response2")]
    votes = Counter(_numbered(row, name, _BY_NUMBER) for name in _ANNOTATORS)
    [(letter, count)] = votes.most_common(1)
    if count == 1:
        raise RowError(f"{', '.join(_ANNOTATORS)} all differ; there is no majority")
    return comparison(f"{PANDALM}-{row.get('idx', place.id)}", [Turn(prompt, *responses)], letter)


def from_llmbar(row: Mapping[str, Any], place: RowContext) -> Problem:
    """`input`, two outputs, and as `label` the number of the better one."""
    responses = [_shown_text(field(row, name), name) for name in ("output_1", "output_2")]
    letter = _numbered(row, "label", {1: FIRST, 2: SECOND})
    part = str(row.get(_PART, ""))
    name = "-".join(each for each in (LLMBAR, part, str(place.number)) if each)
    return comparison(name, [Turn(text(row, "input"), *responses)], letter, has_tie=False, subject=part)


def _turns(row: Mapping[str, Any], name: str) -> list[str]:
    """A list of turns, or its JSON."""
    value = field(row, name)
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise RowError(f"{name}: {shown(value)} is not a JSON list of turns") from None
    if not isinstance(value, (list, tuple)) or not value:
        raise RowError(f"{name}: expected a list of turns, got {shown(value)}")
    return [_shown_text(turn, f"{name}: turn {number}") for number, turn in enumerate(value, 1)]


def _shown_text(value: Any, name: str) -> str:
    """A prompt or a response as the model is shown it: empty where it is null, "True" where PandaLM's file has true.

    Half a surrogate pair, which is where a text was cut in the middle of an emoji, is shown as U+FFFD.
    """
    if value is None:
        return ""
    if isinstance(value, (bool, int, float)):
        return str(value)
    if not isinstance(value, str):
        raise RowError(f"{name}: expected text, got {kind_of(value)}")
    return value.strip().encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _winner(row: Mapping[str, Any]) -> str:
    """The letter of the `winner_` column that is 1."""
    marks = {name: str(row[name]).strip().lower() for name in _WINNERS if row.get(name) is not None}
    if not any(marks.values()):
        raise RowError(
            f"has no label in {', '.join(_WINNERS)}, like the rows of Kaggle's test file; take labelled rows"
        )
    known = {"1": True, "1.0": True, "true": True, "0": False, "0.0": False, "false": False}
    won = [name for name in _WINNERS if known.get(marks.get(name, ""))]
    if len(won) != 1 or any(mark not in known for mark in marks.values()):
        found = ", ".join(f"{name} {shown(row.get(name))}" for name in _WINNERS)
        raise RowError(f"{found}: expected 1 in one of them and 0 in the others")
    return _WINNERS[won[0]]


def _numbered(row: Mapping[str, Any], name: str, letters: Mapping[int, str]) -> str:
    value = field(row, name)
    if isinstance(value, bool) or not isinstance(value, int) or value not in letters:
        raise RowError(f"{name}: {shown(value)} is not one of {', '.join(map(str, letters))}")
    return letters[value]


def _files(folder: Path, subsets: tuple[str, ...]) -> list[SplitFiles]:
    """Those of the subsets named, which must all be there, or of the first that is."""
    found = {subset: _FINDERS[subset](folder) for subset in subsets or SUBSETS}
    if not subsets:
        return next(filter(None, found.values()), [])
    if not all(found.values()):
        return []
    # Several have a training split: then their rows make one.
    merged: dict[str, SplitFiles] = {}
    for split in (each for splits in found.values() for each in splits):
        before = merged.get(split.role)
        label = f"{before.label} and {split.label}" if before else split.label
        merged[split.role] = SplitFiles(label, split.role, (*(before.paths if before else ()), *split.paths))
    return list(merged.values())


def _arena_files(folder: Path) -> list[SplitFiles]:
    found = split_files(folder, ("train", "train", _names("train")), ("validation", "validation", _names("validation")))
    test = find_file(folder, *_names("test"))
    return [*found, SplitFiles("test", "test", (test,))] if test and _has_labels(test) else found


def _pandalm_files(folder: Path) -> list[SplitFiles]:
    return split_files(folder, ("testset-v1", "train", ("pandalm_testset-v1.json", "testset-v1.json")))


def _llmbar_files(folder: Path) -> list[SplitFiles]:
    paths = (find_file(folder, *_llmbar_names(part)) for part in PARTS)
    found = tuple(path for path in paths if path)
    return [SplitFiles(LLMBAR, "test", found)] if found else []


def _llmbar_names(part: str) -> tuple[str, ...]:
    """In one folder, or as in the authors' repository."""
    within = part if part == PARTS[0] else f"Adversarial/{part}"
    flat = f"llmbar_{part.lower()}.json" if part == PARTS[0] else f"llmbar_adversarial_{part}.json"
    return (flat, *(f"{above}{within}/dataset.json" for above in ("", "LLMBar/", "Dataset/LLMBar/")))


def _names(split: str) -> tuple[str, ...]:
    return tuple(f"{split}.{ending}" for ending in ("csv", "jsonl", "json"))


def _has_labels(path: Path) -> bool:
    """Whether a file's first row has a label."""
    first = next(rows_of(path), None)
    return first is not None and isinstance(first.value, Mapping) and any(first.value.get(name) for name in _WINNERS)


_FINDERS = {ARENA: _arena_files, PANDALM: _pandalm_files, LLMBAR: _llmbar_files}


def _note(folder: Path, subsets: tuple[str, ...]) -> str:
    """Which of several subsets was read, and a test file without labels, which is left aside."""
    notes = []
    here = [subset for subset in SUBSETS if _FINDERS[subset](folder)]
    if not subsets and len(here) > 1:
        notes.append(f"{here[0]} was read; data.subset={here[1]} reads the other" + "s" * (len(here) > 2))
    read = subsets or here[:1]
    test = find_file(folder, *_names("test"))
    if ARENA in read and test and not _has_labels(test):
        notes.append(f"{test.name} was left aside, because its rows have no winner")
    return "; ".join(notes)


def _rows(path: Path) -> Iterator[Row]:
    """Rows of a file; those of LLMBar with the part that they are of."""
    part = next((part for part in PARTS if part.lower() in (path.parent.name.lower(), _flat_part(path))), None)
    for row in rows_of(path):
        if part and isinstance(row.value, Mapping) and "output_1" in row.value:
            yield Row(row.number, row.unit, {**row.value, _PART: part}, row.fault, row.place)
        else:
            yield row


def _flat_part(path: Path) -> str:
    return path.name.lower().removesuffix(".gz").removesuffix(".json").rpartition("_")[2]


def _hub(subsets: tuple[str, ...]) -> Hub:
    """The hub has the votes alone as a table."""
    if set(subsets) <= {ARENA}:
        return Hub(_HUB_IDS, None, {"train": "train"})
    return Hub((), None, {}, elsewhere=" and ".join(_HOMES[subset] for subset in subsets))


PREFERENCE = Dataset(
    name="preference",
    kind="choice",
    folder="preference",
    files=_files,
    hub=_hub,
    original=one(from_row),
    hub_form=one(from_row),
    file_rows=_rows,
    key=group_key,
    hold_out=by_label,
    swap=with_swapped,
    subsets=SUBSETS,
    several_subsets=True,
    note=_note,
)
