"""The changed CoTs that each test of a probe asks for.

A share in [0, 1] says how much of the CoT a change is of: a severity, or of early answering the steps left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from markov_cot.analysis.cots import Cot
from markov_cot.analysis.perturbations import FAMILIES, SEVERITIES, draws, perturb
from markov_cot.analysis.steps import make_mistake, step_ids
from markov_cot.analysis.units import Units
from markov_cot.data.catalog import nearest
from markov_cot.evaluation.records import Item
from markov_cot.utils.errors import UserError
from markov_cot.utils.rng import Stream, generator

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

TESTS = {
    "char_replace": "letters and digits become random ones",
    "delete": "units taken out at random places",
    "digit_replace": "digits become random ones",
    "truncate_front": "the beginning taken off",
    "truncate_back": "the end taken off",
    "empty": "no CoT at all",
    "swap": "the CoT of another problem, with another answer",
    "shuffle": "its steps in another order",
    "filler": "as many tokens of ...",
    "early_answering": "its first steps alone",
    "mistakes": "one number wrong, the rest written again from there",
    "paraphrase": "in the words of another model",
}
"""By name, with what becomes of the CoT."""
EARLY, PARAPHRASE, MISTAKES = "early_answering", "paraphrase", "mistakes"
WHOLE = 1.0
FILLER = " ..."

Changed = dict[str, dict[float, list[int]]]
"""By test and share, the changed CoT; of the families also share 0, at which nothing may change. A test that does not
apply to a CoT (no number, one step) is left out."""


@dataclass(frozen=True)
class Written:
    """An item with its CoT, and that of another item."""

    item: Item
    cot: Cot
    """Unchanged: what all effects are relative to."""
    other: Cot | None
    """None where there is no other item."""


@dataclass(frozen=True)
class Begun:
    """A CoT that is to be continued."""

    item: Item
    cot: Cot
    missing: int
    """Tokens."""


@dataclass(frozen=True)
class Changer:
    """Changes CoTs as some tests ask for; the same ones for the same seed, whatever is changed together."""

    tests: Sequence[str]
    units: Units[Any]
    tokenizer: PreTrainedTokenizerFast
    seed: int
    continued: Callable[[Sequence[Begun]], list[list[int]]]
    """Continues CoTs as their writer does."""
    paraphrase: Callable[[Sequence[str]], list[str]] | None = None
    """Puts texts in other words."""

    def __post_init__(self) -> None:
        if PARAPHRASE in self.tests and self.paraphrase is None:
            raise UserError("--test paraphrase: needs another model to do it; pass --paraphraser MODEL")

    def of(self, batch: Sequence[Written]) -> list[Changed]:
        """Return what each of the CoTs becomes."""
        found = [self._alone(written) for written in batch]
        for name, change in ((MISTAKES, self._mistaken), (PARAPHRASE, self._paraphrased)):
            if name in self.tests:
                for changed, cot in zip(found, change(batch), strict=True):
                    if cot is not None:
                        changed[name] = {WHOLE: cot}
        return [{name: changed[name] for name in self.tests if changed.get(name)} for changed in found]

    def _alone(self, written: Written) -> Changed:
        """What can be done to a CoT without a model."""
        units = self.units.split(written.cot)
        changed: Changed = {
            family: {p / 100: self._perturbed(family, written, units, p) for p in (0, *SEVERITIES)}
            for family in FAMILIES
            if family in self.tests
        }
        steps = step_ids(written.cot, self._decode)
        changed["empty"] = {WHOLE: []}
        changed["filler"] = {WHOLE: self._filler(len(written.cot))}
        if written.other is not None:
            changed["swap"] = {WHOLE: list(written.other)}
        if len(steps) > 1:
            changed["shuffle"] = {WHOLE: [token for step in self._shuffled(written, steps) for token in step]}
            changed[EARLY] = {
                (len(steps) - kept) / len(steps): [token for step in steps[:kept] for token in step]
                for kept in range(len(steps))
            }
        return changed

    def _perturbed(self, family: str, written: Written, units: list[Any], severity: int) -> list[int]:
        drawn = draws(self.seed, written.item.index, family, len(units))
        changed = perturb(family, units, severity, drawn, self.units.pool)
        return list(written.cot) if changed == units else self.units.join(changed)

    def _filler(self, length: int) -> list[int]:
        ids = self._encode(FILLER)
        return (ids * -(-length // len(ids)))[:length]

    def _shuffled(self, written: Written, steps: list[list[int]]) -> list[list[int]]:
        order = self._generator(written, 0).permutation(len(steps)).tolist()
        if order == sorted(order):
            order = [*order[1:], order[0]]
        return [steps[i] for i in order]

    def _mistaken(self, batch: Sequence[Written]) -> list[list[int] | None]:
        """A wrong number in place of one that is there, then what the writer makes of it, up to the CoT's length."""
        found: list[list[int] | None] = []
        begun: dict[int, Begun] = {}
        for place, written in enumerate(batch):
            mistake = make_mistake(written.cot, self._decode, self._generator(written, 1).random())
            cot = mistake and [*written.cot[: mistake.kept], *self._encode(mistake.text)]
            found.append(cot)
            if cot is not None and (missing := len(written.cot) - len(cot)) > 0:
                begun[place] = Begun(written.item, cot, missing)
        for (place, each), rest in zip(begun.items(), self.continued(list(begun.values())), strict=True):
            found[place] = [*each.cot, *rest]
        return found

    def _paraphrased(self, batch: Sequence[Written]) -> list[list[int] | None]:
        assert self.paraphrase
        texts = self.paraphrase([self._decode(written.cot) for written in batch])
        return [self._encode(text) for text in texts]

    def _generator(self, written: Written, number: int) -> Any:
        """Of what is drawn besides the families' perturbations."""
        return generator(self.seed, Stream.PERTURBATION, written.item.index, len(FAMILIES) + number)

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False, verbose=False).input_ids
        return ids

    def _decode(self, cot: Cot) -> str:
        text: str = self.tokenizer.decode(cot, clean_up_tokenization_spaces=False)
        return text


def prefixes(cot: Cot, parts: int) -> list[list[int]]:
    """Return the first k / parts of a CoT's tokens, for k = 0 to `parts`."""
    return [list(cot[: k * len(cot) // parts]) for k in range(parts + 1)]


def without_each(cot: Cot) -> list[list[int]]:
    """Return the CoT without its first token, without its second, and so on."""
    return [[*cot[:i], *cot[i + 1 :]] for i in range(len(cot))]


def with_others(items: Sequence[Item], cots: Mapping[int, Cot]) -> list[Written]:
    """Return items with their CoTs and, for each, the CoT of the next item (in a circle) that has another answer.

    Of the next item where all have the same answer; of none where there is one item.
    """
    return [Written(item, cots[item.index], _other_cot(items, i, cots)) for i, item in enumerate(items)]


def _other_cot(items: Sequence[Item], place: int, cots: Mapping[int, Cot]) -> Cot | None:
    if len(items) == 1:
        return None
    own = set(items[place].problem.accepted)
    following = (items[(place + k) % len(items)] for k in range(1, len(items)))
    default = items[(place + 1) % len(items)]
    other = next((each for each in following if own.isdisjoint(each.problem.accepted)), default)
    return cots[other.index]


def check_tests(names: Sequence[str]) -> tuple[str, ...]:
    """Return tests by name, each once. Raises `UserError` for one that is not known."""
    for name in names:
        if name not in TESTS:
            raise UserError(f"--test {name}: not known{nearest(name, TESTS)}")
    return tuple(dict.fromkeys(names)) or tuple(name for name in TESTS if name != PARAPHRASE)
