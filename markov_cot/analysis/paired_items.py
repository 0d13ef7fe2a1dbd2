"""Items that two sides have in common: which metric of a task decides, and the change of a metric over them."""

from __future__ import annotations

from collections.abc import Sequence

from markov_cot.analysis.changed_items import Change, paired_shares, paired_values

LOWER_IS_BETTER = (
    "loss", "perplexity", "word_perplexity", "byte_perplexity", "bits_per_byte", "nats_per_word", "nats_per_byte",
    "nats_per_token", "brier_score", "ece", "wer", "cer", "ter", "repetition",
)  # fmt: skip
PREFERRED = (
    "acc_norm,", "exact_match,flexible-extract", "exact_match,strict-match", "exact_match,", "acc,", "nats_per_",
)  # fmt: skip
"""How the keys of metrics begin that count for their task, the first of those there are."""


def deciding_metric(shared: Sequence[str], primary: str, wanted: Sequence[str] = ()) -> str:
    """Return the metric that decides about a task: the first that is wanted, the file's own, or the first preferred.

    >>> deciding_metric(["acc,none", "acc_norm,none"], "")
    'acc_norm,none'
    """
    if named := [metric for metric in shared if is_named(metric, wanted)]:
        return named[0]
    if primary in shared:
        return primary
    preferred = (metric for start in PREFERRED for metric in shared if f"{metric},".startswith(start))
    return next(preferred, shared[0])


def is_named(metric: str, wanted: Sequence[str]) -> bool:
    """Return whether a metric is among those wanted, by its key or its name."""
    return metric in wanted or metric.split(",")[0] in wanted


def paired_change(metric: str, pairs: Sequence[tuple[float, float]], groups: Sequence[str]) -> tuple[Change, bool]:
    """Return the change of a metric over pairs of an item's scores, and whether it is a share.

    `groups` says of each item what it belongs to with others. Scores that are right or wrong get Tango's interval and
    McNemar's exact test, others Student's.
    """
    values = {value for pair in pairs for value in pair}
    if values <= {0.0, 1.0}:
        return paired_shares([(bool(before), bool(after)) for before, after in pairs]), True
    is_share = metric.split(",")[0] not in LOWER_IS_BETTER and min(values) >= 0 and max(values) <= 1
    return paired_values(pairs, groups), is_share
