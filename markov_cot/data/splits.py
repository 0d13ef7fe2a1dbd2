"""Which problems are trained on, validated on and tested on. One rule for every published dataset.

* test: the published test split, else the published validation split, else 30 % hashed out of the only split;
* train: the published training split, else the next split that is not the test split;
* validation: the published validation split if neither of them is it, else 10 % hashed out of train.

Hashes are of the question, not of the row's number, so copies of a question are never on two sides. A published
split that repeats a question of another loses it: first train, then validation, never test.

Files of one's own for several splits are used as they are named; see `assign_own`. There problems of one group, or of
one passage where groups are not given, stay together.

Comparisons of responses are held out by label instead of by hash; see `by_label`.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from markov_cot.data.problem import Problem
from markov_cot.data.stratified import stratified_parts

Role = Literal["train", "dev", "validation", "test"]

TEST_PERCENT = 30
VALIDATION_PERCENT = 10
_PROBED = 16

Key = Callable[[Problem], str]
HoldOut = Callable[[Sequence[Problem], Key, int, int], set[str]]
"""(problems, what keeps them together, per cent, a number that makes two calls independent) -> keys to be held out."""


@dataclass(frozen=True, slots=True)
class Published:
    """A split as its authors published it."""

    label: str
    role: Role
    """What it is for; "dev" is a split for few-shot examples beside a validation split (MMLU)."""
    problems: Sequence[Problem]


@dataclass(frozen=True, slots=True)
class Assigned:
    """Three disjoint splits, and how they came about."""

    train: list[Problem]
    validation: list[Problem]
    test: list[Problem]
    note: str


@dataclass(frozen=True)
class Splits:
    """A dataset, loaded."""

    name: str
    train: Sequence[Problem]
    validation: Sequence[Problem]
    """For held-out accuracy and the choice of the best checkpoint."""
    test: Sequence[Problem]
    """For evaluation only."""
    source: str
    """A path, "hub:ID" or "generated"."""
    skipped: int = 0
    """Broken rows left out."""
    note: str = ""
    """What the user should know about where the splits come from; may be empty."""
    parameters: str = ""
    """Of generated problems: all that they are made from."""

    def fingerprint(self) -> str:
        """SHA-256 (hex) of everything a model sees of the problems, in their order.

        Generated problems are covered by their parameters and the first few of each split.
        """
        digest = hashlib.sha256(self.parameters.encode())
        for split in (self.train, self.validation, self.test):
            digest.update(f"\n{len(split)}\n".encode())
            for problem in split[:_PROBED] if self.parameters else split:
                seen = [problem.passage, problem.question, problem.choices, problem.answer, problem.kind]
                seen += [problem.subject, *problem.alternatives]
                digest.update(json.dumps(seen).encode() + b"\n")
        return digest.hexdigest()


def question_key(problem: Problem) -> str:
    """What makes two problems the same question."""
    return "\x1f".join((problem.passage, problem.question, *problem.choices))


def group_key(problem: Problem) -> str:
    """What keeps problems in one split: their group, else their passage, else the question itself."""
    if problem.group:
        return f"group\x1f{problem.group}"
    return f"passage\x1f{problem.passage}" if problem.passage else question_key(problem)


def by_hash(problems: Sequence[Problem], key: Key, percent: int, divisor: int) -> set[str]:
    """Holds out the keys whose hash says so. `divisor` picks the digits of the hash.

    Of groups, which are few and of any size, as many are taken as hold that share of the problems."""
    sizes = Counter(map(key, problems))
    buckets = {k: zlib.crc32(k.encode()) // divisor % 100 for k in sizes}
    ranked = sorted(buckets, key=lambda k: (buckets[k], k))
    if key is group_key and any(problem.group or problem.passage for problem in problems):
        taken = itertools.accumulate(sizes[k] for k in ranked)
        count = sum(before < len(problems) * percent / 100 for before in [0, *taken][: len(ranked)])
    else:
        count = sum(bucket < percent for bucket in buckets.values())
    return set(ranked[: min(max(count, 1), len(ranked) - 1)]) if ranked else set()


def by_label(problems: Sequence[Problem], key: Key, percent: int, divisor: int) -> set[str]:
    """Holds out keys so that every answer has about the same share on both sides; see `stratified_parts`."""
    groups: dict[str, Counter[str]] = {}
    for problem in problems:
        groups.setdefault(key(problem), Counter())[problem.answer] += 1
    parts = stratified_parts(groups, (1 - percent / 100, percent / 100), seed=divisor)
    return {name for name, part in parts.items() if part == 1}


def assign(published: Sequence[Published], key: Key = question_key, hold_out: HoldOut = by_hash) -> Assigned:
    """Makes the three splits out of at least one published split."""
    assert published
    if len(published) == 1:
        return _from_only_split(published[0], key, hold_out)
    test = _first(published, ("test", "validation", "dev"))
    rest = [split for split in published if split is not test]
    train = _first(rest, ("train", "dev", "validation"))
    validation = next((split for split in rest if split.role == "validation" and split is not train), None)

    notes = []
    if train.role != "train":
        notes.append(f"no published training split was found; trains on {train.label}, evaluates on {test.label}")
    elif test.role != "test":
        notes.append(f"no published test split was found; trains on {train.label}, evaluates on {test.label}")
    if validation:
        validating = _without(validation.problems, test.problems, key, validation.label, test.label, notes)
        where = f"{test.label} or {validation.label}"
        training = _without(train.problems, [*test.problems, *validating], key, train.label, where, notes)
    else:
        training = _without(train.problems, test.problems, key, train.label, test.label, notes)
        training, validating = _held_out(training, VALIDATION_PERCENT, 100, key, train.label, notes, hold_out)
        notes.append(f"there is no published validation split, so {VALIDATION_PERCENT} % of {train.label} is held out")
    return Assigned(training, validating, list(test.problems), "; ".join(notes))


def assign_own(published: Sequence[Published], key: Key = group_key) -> Assigned:
    """Makes the three splits out of someone's own files, which are used as they are named.

    A single training file gives all three. Otherwise validation, if there is no file for it, comes out of the training
    file, and nothing takes the place of a test file.
    """
    by_role = {split.role: split for split in published}
    train, validation, test = (by_role.get(role) for role in ("train", "validation", "test"))
    notes: list[str] = []
    if train and not validation and not test:
        notes.append(
            f"{TEST_PERCENT} % of the questions of {train.label} are held out for test and {VALIDATION_PERCENT} % of "
            "the rest for validation"
        )
        training, validating, testing = _three(train, key, notes, by_hash)
        return Assigned(training, validating, testing, "; ".join(notes))
    testing = list(test.problems) if test else []
    validating = _without(validation.problems, testing, key, validation.label, "test", notes) if validation else []
    training = []
    if train:
        where = "test" if not validation else "validation or test"
        training = _without(train.problems, [*testing, *validating], key, train.label, where, notes)
        if not validation:
            training, validating = _held_out(training, VALIDATION_PERCENT, 100, key, train.label, notes, by_hash)
            notes.append(f"there is no validation file, so {VALIDATION_PERCENT} % of train is held out")
    missing = [role for role, split in (("training", train), ("test", test)) if not split]
    notes += [f"there is no {role} file" for role in missing]
    return Assigned(training, validating, testing, "; ".join(notes))


def _from_only_split(only: Published, key: Key, hold_out: HoldOut) -> Assigned:
    if only.role == "test":
        note = f"only the published test split ({only.label}) was found; there is nothing to train on"
        return Assigned([], [], list(only.problems), note)
    notes = [
        f"only one published split ({only.label}) was found; {TEST_PERCENT} % of it is held out for test "
        f"and {VALIDATION_PERCENT} % of the rest for validation"
    ]
    train, validation, test = _three(only, key, notes, hold_out)
    return Assigned(train, validation, test, "; ".join(notes))


def _three(
    only: Published, key: Key, notes: list[str], hold_out: HoldOut
) -> tuple[list[Problem], list[Problem], list[Problem]]:
    """Training, validation and test problems out of one split."""
    rest, test = _held_out(only.problems, TEST_PERCENT, 1, key, only.label, notes, hold_out)
    train, validation = _held_out(rest, VALIDATION_PERCENT, 100, key, only.label, notes, hold_out)
    return train, _without(validation, test, key, only.label, "its test part", notes), test


def _first(published: Sequence[Published], roles: Sequence[Role]) -> Published:
    by_role = {split.role: split for split in published}
    return next((by_role[role] for role in roles if role in by_role), published[0])


def _without(
    problems: Sequence[Problem],
    held_out: Sequence[Problem],
    key: Key,
    label: str,
    where: str,
    notes: list[str],
) -> list[Problem]:
    """The problems of the split `label` but those whose key or question is held out, as `where` says."""
    keys, questions = set(map(key, held_out)), set(map(question_key, held_out))
    kept = [problem for problem in problems if key(problem) not in keys and question_key(problem) not in questions]
    if lost := len(problems) - len(kept):
        notes.append(f"left out of {label}, because {where} has them too: {lost} problem{'s' * (lost > 1)}")
    return kept


def _held_out(
    problems: Sequence[Problem],
    percent: int,
    divisor: int,
    key: Key,
    label: str,
    notes: list[str],
    hold_out: HoldOut,
) -> tuple[list[Problem], list[Problem]]:
    """Splits off about `percent` of the problems; two calls with different divisors are independent. With two or more
    distinct keys something is split off. A question that groups on both sides ask is left to what is split off."""
    out = hold_out(problems, key, percent, divisor)
    held_out = [problem for problem in problems if key(problem) in out]
    rest = [problem for problem in problems if key(problem) not in out]
    return _without(rest, held_out, key, label, "what is held out", notes), held_out
