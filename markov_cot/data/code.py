"""A dataset of the user's own code: a function that returns rows, as a file of theirs would hold them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from markov_cot.config.schema import Data
from markov_cot.data import jsonl
from markov_cot.data.dataset import one
from markov_cot.data.kinds import kind_of_rows
from markov_cot.data.reader import Reader, place_of
from markov_cot.data.reading import Row
from markov_cot.data.splits import Published, Role, Splits, assign_own
from markov_cot.utils.errors import UserError
from markov_cot.utils.plugins import import_attribute
from markov_cot.utils.text import first_line

ROLES: tuple[Role, ...] = ("train", "validation", "test")


def load_code(config: Data) -> Splits:
    """Return the splits of what `config.dataset` (`package.module:attribute`) returns for `config.args`.

    That is rows (`question`, `answer`, optionally `choices`, `passage`, `id`), or such rows by split: {"train": rows,
    "validation": rows, "test": rows}, of which all but train may be missing.

    Raises `UserError` when it cannot be imported, raises, or returns something else.
    """
    name = config.dataset
    function = import_attribute(name, "dataset")
    try:
        found: Any = function(**config.args)
        by_role: dict[Any, list[Any]] = {
            role: list(rows) for role, rows in (found if isinstance(found, Mapping) else {"train": found}).items()
        }
    except Exception as error:  # whatever the user's code raises
        raise UserError(f"dataset {name}: raised {type(error).__name__}: {first_line(error)}; fix it") from error
    if unknown := [role for role in by_role if role not in ROLES]:
        raise UserError(f"dataset {name}: returned a split {unknown[0]!r}; splits are {', '.join(ROLES)}")
    reader, label = Reader(config), name.partition(":")[2]
    rows = {role: list(_rows(by_role[role])) for role in ROLES if role in by_role}
    kind = config.kind or kind_of_rows(
        ((place_of(row, f"dataset {name}, {role}"), row) for role, each in rows.items() for row in each),
        f"dataset {name}",
    )
    splits = []
    for role in ROLES:
        if role in rows:
            where = f"dataset {name}, {role}"
            problems = reader.read(rows[role], one(jsonl.from_row), role, label, where, kind=kind)
            splits.append(reader.published(Published(role, role, problems), where))
    assigned = assign_own(splits)
    return Splits(label, assigned.train, assigned.validation, assigned.test, name, reader.skipped, assigned.note)


def _rows(values: Iterable[Any]) -> Iterable[Row]:
    for number, value in enumerate(values, 1):
        try:
            # As a file would give it, so that tuples, numpy's numbers and the like are what they would be there.
            yield Row(number, "row", json.loads(json.dumps(value)))
        except (TypeError, ValueError) as error:
            yield Row(number, "row", fault=f"is no mapping of plain values ({first_line(error)})")
