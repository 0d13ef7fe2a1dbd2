"""The verdicts in one row of a file, for each format that holds some; docs/winrate.md describes them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from markov_cot.analysis.verdicts import Verdict, label_in, vote_of
from markov_cot.data.fields import RowError, field, kind_of, shown, text, text_or_number

ARENA_HARD, ALPACA_EVAL, CSV = "arena-hard", "alpaca-eval", "csv"
OPPONENT = "gpt-4-0314"
"""The baseline of Arena-Hard v0.1, whose judgements do not name it."""
_QUESTION = ("question_id", "question", "uid")
_WINNERS = {"model_a": 1.0, "a": 1.0, "model_b": 0.0, "b": 0.0, "tie": 0.5, "tie (bothbad)": 0.5}
_LABEL_LENGTH = 40

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Reading:
    """How rows are read."""

    opponent: str
    """The baseline of judgements that do not name it."""
    strong: int
    """Votes that a strong verdict counts for."""


@dataclass(frozen=True, slots=True)
class Format:
    """One kind of file."""

    name: str
    family: str
    """What `--format` calls it."""
    fields: tuple[tuple[str, ...], ...]
    """Those that every row has; of each, the names that it may have."""
    read: Callable[[Row, Reading], Iterator[Verdict]]

    def likeness(self, row: Row) -> float:
        """The share of its fields that a row has."""
        return 1 - len(self._missing(row)) / len(self.fields)

    def verdicts(self, row: Row, reading: Reading) -> Iterator[Verdict]:
        """Yield the verdicts in a row. Raises `RowError`, saying why, for a row that cannot be one of this format."""
        if missing := self._missing(row):
            raise RowError(f"no {' and no '.join(missing)}, which {self.name} has in every row")
        for verdict in self.read(row, reading):
            if verdict.first == verdict.second:
                raise RowError(
                    f"{shown(verdict.first)} is held against itself: with one model only there is nothing to compare"
                )
            yield verdict

    def _missing(self, row: Row) -> list[str]:
        return [" or ".join(f"`{name}`" for name in names) for names in self.fields if not set(names) & set(row)]


def _judged(row: Row, reading: Reading) -> Iterator[Verdict]:
    """Arena-Hard: the baseline's answer is shown first in the first game, and second in the second."""
    model = text(row, "model")
    baseline = text(row, "baseline") if "baseline" in row else reading.opponent
    games = row["games"]
    if not isinstance(games, list) or not 1 <= len(games) <= 2:
        raise RowError("games: expected a list of one or two, in the second of which the answers are swapped")
    for number, game in enumerate(games, 1):
        first, second = (baseline, model) if number == 1 else (model, baseline)
        label = _label(game, f"games: number {number}")
        share, votes = vote_of(label or "", reading.strong) or (None, 1)
        yield Verdict(
            question=text_or_number(_any_of(row, _QUESTION), "question"),
            first=first,
            second=second,
            share=share,
            votes=votes,
            baseline=baseline,
            category=_optional(row, "category"),
            judge=_optional(row, "judge"),
            label=_cut(label) if share is None else None,
        )


def _label(game: Any, place: str) -> str | None:
    """The verdict that is kept with a game, or else the one in the judge's text; None where there is neither."""
    if game is None:  # what Arena-Hard v2.0 writes where the judge gave no answer
        return None
    if not isinstance(game, Mapping):
        raise RowError(f"{place}: expected an object, got {kind_of(game)}")
    if "score" not in game and "judgment" not in game:
        raise RowError(f"{place} has neither `score` nor `judgment`")
    score, judgment = game.get("score"), game.get("judgment")
    if isinstance(score, str) and score.strip():
        return score
    if score is not None and not isinstance(score, str):
        raise RowError(f"{place}: score {shown(score)} is not the label of a verdict, such as A>B")
    if isinstance(judgment, Mapping):
        judgment = judgment.get("answer")
    return label_in(judgment) if isinstance(judgment, str) else None


def _annotated(row: Row, _: Reading) -> Iterator[Verdict]:
    """AlpacaEval: `preference` is 1 where the baseline's output (1) won, 2 where the model's (2) did, or in between.

    In its old form 0 is a tie. Anything else is dropped there, and is malformed here.
    """
    preference = _number(row["preference"], "preference")
    won = 0.5 if preference == 0 else None if preference is None else preference - 1
    valid = won is not None and 0 <= won <= 1
    baseline = text(row, "generator_1")
    yield Verdict(
        question=text(row, "instruction"),
        first=baseline,
        second=text(row, "generator_2"),
        share=1 - won if won is not None and valid else None,
        baseline=baseline,
        category=_optional(row, "dataset"),
        judge=_optional(row, "annotator"),
        label=None if valid or preference is None else _cut(f"{preference:g}"),
    )


def _battle(row: Row, reading: Reading) -> Iterator[Verdict]:
    """A vote: `winner` is a side, a tie, a model's name or a label; or `score` is A's share of the vote."""
    model_a, model_b = text(row, "model_a"), text(row, "model_b")
    given = _any_of(row, ("winner", "score"))
    if "winner" in row:
        share, votes = _winner(given, model_a, model_b, reading.strong) or (None, 1)
    else:
        score = _number(given, "score")
        share, votes = (score if score is not None and 0 <= score <= 1 else None), 1
    yield Verdict(
        question=text_or_number(_any_of(row, _QUESTION), "question"),
        first=model_a,
        second=model_b,
        share=share,
        votes=votes * _count(row),
        category=_optional(row, "category"),
        judge=_optional(row, "judge"),
        label=_cut(given) if share is None else None,
    )


def _winner(given: Any, model_a: str, model_b: str, strong: int) -> tuple[float, int] | None:
    if _is_nan(given):
        raise RowError("winner is NaN; write model_a, model_b or tie, or leave it empty where there was no verdict")
    if given is None:
        return None
    if not isinstance(given, str):
        raise RowError(f"winner: expected model_a, model_b or tie, got {kind_of(given)}")
    winner = given.strip()
    by_word = _WINNERS.get(winner.lower())
    by_name = float(winner == model_a) if winner in (model_a, model_b) else None
    if None not in (by_word, by_name) and by_word != by_name:
        raise RowError(
            f"winner {shown(winner)} is the name of one model and the place of the other; write model_a or model_b"
        )
    share = by_word if by_name is None else by_name
    return vote_of(winner, strong) if share is None else (share, 1)


def _count(row: Row) -> int:
    """How many equal votes a row stands for."""
    given = row.get("votes")
    if given is None or given == "":
        return 1
    number = _number(given, "votes")
    if number is None or number < 1 or not number.is_integer():
        raise RowError(f"votes {shown(given)} is not a whole number from 1")
    return int(number)


def _number(value: Any, name: str) -> float | None:
    """A number, also as the text of a cell; None for nothing. Raises `RowError` for NaN, infinity and other texts."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise RowError(f"{name}: expected a number, got {kind_of(value)}")
    try:
        number = float(value)
    except (ValueError, OverflowError):
        raise RowError(f"{name} {shown(value)} is not a number") from None
    if not math.isfinite(number):
        raise RowError(f"{name} is {number}, which says nothing; leave it empty where there was no verdict")
    return number


def _is_nan(value: Any) -> bool:
    return (isinstance(value, float) and math.isnan(value)) or (
        isinstance(value, str) and value.strip().lower() == "nan"
    )


def _any_of(row: Row, names: tuple[str, ...]) -> Any:
    return field(row, next(name for name in names if name in row))


def _optional(row: Row, name: str) -> str:
    value = row.get(name)
    return "" if value is None else str(value)


def _cut(label: Any) -> str | None:
    """What stood in place of a verdict, short enough to be shown; None for nothing."""
    words = "" if label is None else str(label).strip()
    return words[:_LABEL_LENGTH] or None


FORMATS = (
    Format("arena-hard-v0.1", ARENA_HARD, (("question_id",), ("model",), ("games",)), _judged),
    Format("arena-hard-v2.0", ARENA_HARD, (("uid",), ("model",), ("baseline",), ("games",)), _judged),
    Format("arena-hard-battles", ARENA_HARD, (_QUESTION, ("model_a",), ("model_b",), ("winner", "score")), _battle),
    Format(
        "alpaca-eval", ALPACA_EVAL, (("instruction",), ("generator_1",), ("generator_2",), ("preference",)), _annotated
    ),
)
VOTES = Format("csv", CSV, (_QUESTION, ("model_a",), ("model_b",), ("winner", "score")), _battle)
"""Of CSV files."""
