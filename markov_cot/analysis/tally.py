"""Verdicts added up by question and pair of models, so that memory does not grow with their number."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, fields

import numpy as np

from markov_cot.analysis.verdicts import Verdict
from markov_cot.utils.errors import UserError

NONE = -1
"""Stands for no model where a model's number is expected."""
_SHOWN = 5

Pair = tuple[int, int, int]
"""Two models, i < j, and which of them the file names as the baseline, or `NONE`."""


@dataclass(frozen=True, slots=True)
class Games:
    """Votes between pairs of models, each field an array [N]: a row is what one unit says of one pair."""

    unit: np.ndarray
    """What resampling draws: the question, or the vote by itself."""
    i: np.ndarray
    j: np.ndarray
    base: np.ndarray
    """Which of the two models is the baseline, or `NONE`."""
    category: np.ndarray
    won: np.ndarray
    """Votes for i; a tie is half a vote."""
    votes: np.ndarray
    copies: np.ndarray
    """How many equal units the row's unit stands for."""

    def only(self, keep: np.ndarray) -> Games:
        """Return a copy of the rows that are marked."""
        return Games(*(getattr(self, each.name)[keep] for each in fields(self)))

    def against(self, baseline: int) -> Games:
        """Return the games of one model, as the baseline of them all."""
        kept = self.only((self.i == baseline) | (self.j == baseline))
        kept.base[:] = baseline
        return kept

    def of(self, model: int) -> Games:
        """Return the games in which a model is measured, turned so that it is i in all of them."""
        mine = self.only(((self.i == model) | (self.j == model)) & (self.base != model))
        turned = mine.j == model
        mine.won[turned] = (mine.votes - mine.won)[turned]
        mine.i[turned], mine.j[turned] = mine.j[turned], mine.i[turned]
        return mine


@dataclass(slots=True)
class Cell:
    """The verdicts on one question and pair."""

    won: float = 0.0
    """Votes for i."""
    votes: int = 0
    first: float = 0.0
    """Sum of i's shares of the verdicts in which its answer was shown first, each one whatever votes it counts for."""
    n_first: int = 0
    second: float = 0.0
    """The same of those in which it was shown second."""
    n_second: int = 0

    def add(self, share: float, votes: int, *, is_first: bool) -> None:
        """Add a verdict that gives i a share of the votes."""
        self.won += share * votes
        self.votes += votes
        if is_first:
            self.first, self.n_first = self.first + share, self.n_first + 1
        else:
            self.second, self.n_second = self.second + share, self.n_second + 1


class Tally:
    """Adds verdicts up. Models, questions and categories are numbered in the order in which they appear."""

    def __init__(self) -> None:
        self._models: dict[str, int] = {}
        self._questions: dict[str, int] = {}
        self._categories: dict[str, int] = {}
        self._category_of: list[int] = []
        self._ballots: Counter[tuple[Pair, int, float]] = Counter()
        """Votes by pair, category and i's share."""
        self._seconds: set[int] = set()
        self.cells: dict[tuple[int, Pair], Cell] = {}
        """By question and pair."""
        self.malformed: Counter[Pair] = Counter()
        """Verdicts that cannot be read."""
        self.labels: Counter[str | None] = Counter()
        """What stands in place of them."""
        self.judges: dict[str, None] = {}

    @property
    def models(self) -> list[str]:
        """Every model's name by its number, the baselines' among them."""
        return list(self._models)

    @property
    def categories(self) -> list[str]:
        """Every category's name by its number; that of questions without one is empty."""
        return list(self._categories)

    @property
    def questions(self) -> int:
        """How many questions have a verdict that can be read."""
        return len(self._questions)

    def add(self, verdict: Verdict) -> None:
        """Add one verdict; a malformed one is counted, and has no vote."""
        first, second = (self._models.setdefault(m, len(self._models)) for m in (verdict.first, verdict.second))
        self._seconds.add(second)
        if verdict.judge:
            self.judges[verdict.judge] = None
        base = NONE if verdict.baseline is None else self._models[verdict.baseline]
        pair = (min(first, second), max(first, second), base)
        if verdict.share is None:
            self.malformed[pair] += 1
            self.labels[verdict.label] += 1
            return
        question = self._questions.setdefault(verdict.question, len(self._questions))
        if question == len(self._category_of):
            self._category_of.append(self._categories.setdefault(verdict.category, len(self._categories)))
        is_first = first < second
        share = verdict.share if is_first else 1 - verdict.share
        self.cells.setdefault((question, pair), Cell()).add(share, verdict.votes, is_first=is_first)
        self._ballots[pair, self._category_of[question], share] += verdict.votes

    def by_pair(self) -> dict[Pair, list[Cell]]:
        """Return the cells of each pair, one a question; none where all its verdicts are malformed."""
        found: dict[Pair, list[Cell]] = {pair: [] for pair in self.malformed}
        for (_, pair), cell in self.cells.items():
            found.setdefault(pair, []).append(cell)
        return found

    def by_question(self) -> Games:
        """Return the votes with questions as units."""
        category = self._category_of
        return _games(
            (question, *pair, category[question], cell.won, cell.votes, 1)
            for (question, pair), cell in self.cells.items()
        )

    def by_vote(self) -> Games:
        """Return the votes as units by themselves; equal ones are one row with so many copies."""
        return _games(
            (number, *pair, category, share, 1, copies)
            for number, ((pair, category, share), copies) in enumerate(self._ballots.items())
        )

    def baseline(self, asked: str | None) -> int | None:
        """Return the model that all others are measured against; None where there is no one such model.

        That is the one asked for, or else the one that files name as the baseline or that has a part in every game; of
        two such, the one that is always shown first. Raises `UserError` where the one asked for has no game.
        """
        pairs = {pair for _, pair in self.cells}
        if asked is not None:
            return self._asked(asked, pairs)
        common = set.intersection(*({i, j} for i, j, _ in pairs))
        if named := {base for _, _, base in pairs} - {NONE}:
            common &= named if len(named) == 1 else set()
        if len(common) > 1:
            common -= self._seconds
        return common.pop() if len(common) == 1 else None

    def _asked(self, asked: str, pairs: Iterable[Pair]) -> int:
        number = self._models.get(asked)
        if number is not None and any(number in pair[:2] for pair in pairs):
            return number
        near = difflib.get_close_matches(asked, self._models, n=1)
        known = ", ".join(self.models[:_SHOWN]) + (", ..." if len(self._models) > _SHOWN else "")
        advice = f"did you mean {near[0]}?" if near else f"name one of the models there: {known}"
        raise UserError(f"--baseline {asked}: has no game in these files; {advice}")


def _games(rows: Iterable[tuple[float, ...]]) -> Games:
    columns = np.array(list(rows), dtype=np.float64).T
    unit, i, j, base, category, copies = columns[[0, 1, 2, 3, 4, 7]].astype(np.int64)
    return Games(unit, i, j, base, category, won=columns[5], votes=columns[6], copies=copies)
