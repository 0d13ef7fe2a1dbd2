"""Splits groups into parts in which every label has its share, as a function of the groups and a seed alone."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

Labels = Mapping[str, int]
"""How often each label occurs."""


def stratified_parts(groups: Mapping[str, Labels], shares: Sequence[float], seed: int = 0) -> dict[str, int]:
    """Return which part each group goes to, whole: part p gets about `shares[p]` of every label.

    Greedy: the groups are placed one by one, the largest first and those of one size in an order drawn with the seed;
    each where it adds least to the chi-squared distance from the targets, sum over parts p and labels c of
    (n_pc - T_pc)^2 / T_pc with T_pc = shares[p] * N_c. No part stays empty while there are as many groups as parts.

    Args:
        groups: of each group, at least one, how often its members have each label.
        shares: of the parts, each above 0; they add up to 1.

    >>> stratified_parts({"a": {"x": 2}, "b": {"x": 1}, "c": {"x": 1}}, [0.5, 0.5])
    {'a': 0, 'b': 1, 'c': 1}
    """
    totals: Counter[str] = Counter()
    for labels in groups.values():
        totals.update(labels)
    filled: list[Counter[str]] = [Counter() for _ in shares]

    def added_distance(part: int, labels: Labels) -> float:
        # (n + g - T)^2 / T - (n - T)^2 / T, without -2 g, which is the same in all parts.
        return sum(g * (2 * filled[part][c] + g) / (shares[part] * totals[c]) for c, g in labels.items() if g)

    found: dict[str, int] = {}
    for name in sorted(groups, key=lambda name: (-sum(groups[name].values()), _drawn(name, seed))):
        labels = groups[name]
        part = min(range(len(shares)), key=lambda part: added_distance(part, labels))
        filled[part].update(labels)
        found[name] = part
    _fill_empty(found, len(shares))
    return {name: found[name] for name in groups}


def _drawn(name: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}:{name}".encode()).digest()


def _fill_empty(found: dict[str, int], parts: int) -> None:
    """Give each empty part the last, and so the smallest, group of the part that has the most."""
    members: dict[int, list[str]] = defaultdict(list)
    for name, part in found.items():
        members[part].append(name)
    for part in range(parts):
        richest = max(members, key=lambda each: len(members[each]))
        if part not in members and len(members[richest]) > 1:
            name = members[richest].pop()
            members[part].append(name)
            found[name] = part
