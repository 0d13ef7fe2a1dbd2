"""Turns rows into problems, and says where the first broken one is."""

from __future__ import annotations

from collections.abc import Iterable

from markov_cot.config.schema import Data
from markov_cot.data.dataset import Convert, RowContext, Tokenizer
from markov_cot.data.fields import RowError
from markov_cot.data.problem import Problem
from markov_cot.data.reading import Row
from markov_cot.data.splits import Published
from markov_cot.grading.kinds import Kind
from markov_cot.utils.errors import UserError


def place_of(row: Row, where: str) -> str:
    """Where a row is, for messages."""
    return row.place or f"{where} {row.unit} {row.number}"


class Reader:
    """Turns rows into problems under one set of settings, and counts the broken rows it leaves out."""

    def __init__(self, config: Data, subsets: tuple[str, ...] = (), tokenizer: Tokenizer | None = None) -> None:
        self.skipped = 0
        self._config, self._subsets, self._tokenizer = config, subsets, tokenizer
        self._first_fault = ""

    def read(
        self,
        rows: Iterable[Row],
        convert: Convert,
        split: str,
        file: str,
        where: str,
        suffix: str = "",
        kind: Kind | None = None,
    ) -> list[Problem]:
        """The problems of `rows`. A message names a row as `where`, "line 3", `suffix`; `kind` is that of all rows."""
        problems: list[Problem] = []
        for row in rows:
            place = RowContext(split, row.number, file, self._subsets, self._config, self._tokenizer, kind)
            try:
                if row.fault:
                    raise RowError(row.fault)
                problems += convert(row.value, place)
            except RowError as error:
                message = f"{place_of(row, where)}{suffix}: {error}"
                if not self._config.skip_bad_rows:
                    raise UserError(f"{message}; fix the row or pass --skip-bad-rows") from None
                self.skipped += 1
                self._first_fault = self._first_fault or message
        return problems

    def published(self, found: Published, where: str, advice: str = "") -> Published:
        """`found`, which must not be empty, once all its rows are read."""
        if not found.problems:
            reason = f"every row is broken, the first: {self._first_fault}" if self._first_fault else advice
            raise UserError(f"{where}: gives no problem; {reason or 'is it the right file?'}")
        self._first_fault = ""
        return found
