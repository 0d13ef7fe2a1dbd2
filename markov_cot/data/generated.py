"""The datasets this project makes itself, as endless as a run needs."""

from __future__ import annotations

import json
from functools import partial

from markov_cot.config.schema import Data
from markov_cot.data import synthetic
from markov_cot.data.splits import Splits
from markov_cot.grading.kinds import Kind
from markov_cot.utils.errors import UserError

SIZES = {"train": 100_000, "validation": 2_000, "test": 2_000}
KINDS: dict[str, Kind] = {"arithmetic": "numeric", "words": "numeric", "choices": "choice"}


def load_generated(data: Data) -> Splits:
    """The splits of `data.dataset`, one of `KINDS`."""
    generator, settings = _generator(data)
    train, validation, test = (synthetic.Generated(generator, split, size) for split, size in SIZES.items())
    for problems in (train, validation, test):
        try:
            problems[0]
        except ValueError:
            raise UserError(
                f"{data.dataset}: data.terms {list(data.terms)} and data.high {data.high} allow too few different sums "
                "for three splits; raise one of them"
            ) from None
    parameters = json.dumps({"generator": data.dataset, "settings": settings, "sizes": SIZES})
    return Splits(data.dataset, train, validation, test, "generated", parameters=parameters)


def _generator(data: Data) -> tuple[synthetic.Generator, dict[str, object]]:
    """The function that makes one problem, and the settings it uses."""
    if data.dataset == "arithmetic":
        generator = partial(synthetic.arithmetic, terms=data.terms, high=data.high, negative=data.negative)
        return generator, generator.keywords
    return {"words": synthetic.words, "choices": synthetic.choices}[data.dataset], {}
