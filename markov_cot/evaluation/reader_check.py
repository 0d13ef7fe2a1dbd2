"""Whether a reader can read at all: what it answers after a CoT that states the answer, and after an empty one.

The first is the reader's *ceiling*, the second its *floor*. Where the ceiling is low, or the floor close to it, the
reward is mostly noise, whatever the CoTs say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markov_cot.data.problem import Problem
from markov_cot.data.prompts import Prompts
from markov_cot.evaluation.answering import answer_from_cots
from markov_cot.evaluation.validation import Score, summarise
from markov_cot.grading.kinds import Kind
from markov_cot.rewards.readers import Readers

_TWICE = " The answer is {answer}.\nSo {answer}."
STATED: dict[Kind, str] = {"numeric": _TWICE, "choice": _TWICE, "text": _TWICE, "continuation": " {answer}"}
"""A CoT that states the answer; in two ways, since a small base may know but one (`nano` knows the second)."""
LEAST_CEILING = 0.5
LEAST_DISTANCE = 0.1
"""Of accuracies; of log-probs in nats per token where there is no accuracy."""
REMEDY = "change prompt.answer, prompt.answer_prefix or prompt.examples, or take another reward.reader"


@dataclass(frozen=True, slots=True)
class ReaderCheck:
    """What the readers make of CoTs that need no reasoning."""

    ceiling: Score
    """Of stated answers."""
    floor: Score
    """Of empty CoTs."""

    def metrics(self) -> dict[str, float]:
        """As logged keys."""
        found = {
            "reader/ceiling_logprob": self.ceiling.answer_logprob,
            "reader/floor_logprob": self.floor.answer_logprob,
        }
        if self.ceiling.accuracy is not None and self.floor.accuracy is not None:
            found |= {"reader/ceiling": self.ceiling.accuracy, "reader/floor": self.floor.accuracy}
        return found

    def warnings(self) -> list[str]:
        """What the user should know before training, if anything: one line, with what to change."""
        n, ceiling, floor = self.ceiling.n, self.ceiling.value, self.floor.value
        has_accuracy = self.ceiling.accuracy is not None
        if has_accuracy and ceiling < LEAST_CEILING:
            return [
                f"the reader gives a stated answer back in {ceiling:.0%} of {n} problems (reader/ceiling), so the "
                f"reward is mostly noise; {REMEDY}"
            ]
        if ceiling - floor < LEAST_DISTANCE:
            what = f"{ceiling:.0%} and {floor:.0%} right" if has_accuracy else f"{ceiling:.2f} and {floor:.2f} nats"
            return [
                f"the reader does about as well with an empty CoT as with a stated answer ({what}, n = {n}; "
                f"reader/floor and reader/ceiling), so CoTs hardly matter to it; {REMEDY}"
            ]
        return []


def check_readers(readers: Readers, problems: Sequence[Problem]) -> ReaderCheck:
    """Measure ceiling and floor on some problems, which are at least one and all of one kind."""
    empty: list[list[int]] = [[] for _ in problems]
    stated = stated_cots(readers.prompts, problems)
    return ReaderCheck(*(summarise(answer_from_cots(readers, problems, cots)) for cots in (stated, empty)))


def stated_cots(prompts: Prompts, problems: Sequence[Problem]) -> list[list[int]]:
    """Return a CoT for each problem that states its first accepted answer, in the actor's tokens."""
    texts = [STATED[problem.kind].format(answer=problem.answer) for problem in problems]
    return [prompts.tokenizer(text, add_special_tokens=False, verbose=False).input_ids for text in texts]
