"""The only place that reads the hub."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from markov_cot.data.splits import Role
from markov_cot.utils.hub_access import Access

Table = Iterable[Mapping[str, Any]]
OpenHub = Callable[..., Mapping[str, Table]]
"""(id, config, and `revision` where one is pinned) -> splits."""


class HubError(Exception):
    """The hub, or a dataset on it, could not be read; says why in one line."""


@dataclass(frozen=True)
class Hub:
    """Where a dataset is on the hub."""

    ids: tuple[str, ...]
    """Tried in order."""
    config: str | None
    splits: Mapping[str, Role]
    other_configs: tuple[str, ...] = ()
    """With the same problems: read from disk where `config` is not there."""
    elsewhere: str = ""
    """Where its files are published, where `ids` is empty: a dataset that the hub has not, or not as tables."""

    def __str__(self) -> str:
        return self.ids[0] + (f" ({self.config})" if self.config else "")


def open_hub(dataset_id: str, config: str | None, revision: str | None = None) -> Mapping[str, Table]:
    """Splits of a dataset on the hub, or in the hub's cache on this machine. Never runs a repository's code.

    Raises:
        HubError: whatever the reason.
    """
    import datasets

    access, pinned = Access(), {"revision": revision} if revision else {}
    try:
        with access.using():
            tables: Mapping[str, Table] = datasets.load_dataset(dataset_id, config, **pinned)
    # Networks, disks, repositories and library versions fail in many classes; to the user they are one fault.
    except Exception as error:
        reason = access.explain(error, dataset_id, revision) or " ".join(str(error).split()) or type(error).__name__
        raise HubError(reason if len(reason) <= 200 else f"{reason[:197]}...") from error
    return tables


def open_first(hub: Hub, opener: OpenHub) -> tuple[str, Mapping[str, Table]]:
    """The id that could be read, and its splits. The reasons of all are in the `HubError` when none could."""
    reasons = []
    for dataset_id in hub.ids:
        try:
            return dataset_id, opener(dataset_id, hub.config)
        except HubError as error:
            reasons.append(f"{dataset_id}: {error}")
    raise HubError("; ".join(reasons))
