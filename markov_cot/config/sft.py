"""Settings of supervised fine-tuning, the warm start before reinforcement learning."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from markov_cot.config.base import Group, NotNegative, Positive, PositiveFloat, Weight
from markov_cot.config.prompt import fields_of


def _statement(template: str) -> str:
    """Raises `ValueError` for a template of a stated answer that does not hold just that."""
    if template and set(fields_of(template)) != {"answer"}:
        raise ValueError("its field is {answer}, as in 'Answer: {answer}'; leave it empty for no statement")
    return template


class Sft(Group):
    """`markov-cot sft`: learn written CoTs token by token. Its steps, optimizer and validation have settings of their
    own, so that one recipe can describe both ways of training."""

    rows: str | None = None
    """A file of worked questions (question, cot, answer) to learn instead of the data's own worked solutions; those
    that are held out by the data are left out."""
    steps: Positive | None = None
    """Optimizer steps; not given: as many as `epochs` needs."""
    limit: Positive = 10_000
    """Most worked questions to learn; of more, so many are drawn."""
    epochs: PositiveFloat = 2.0
    """Passes over the worked questions, with the repeats of hard ones."""
    batch: Positive = 16
    """Worked questions a step."""
    lr: PositiveFloat = 2e-4
    """Learning rate after the warm-up."""
    warmup_ratio: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the steps in which the learning rate rises linearly to its value."""
    schedule: Literal["constant", "linear", "cosine"] = "cosine"
    """After the warm-up: constant, or falling to zero at the last step."""
    weight_decay: Weight = 0.0
    """AdamW's, of the adapter's matrices."""
    every: NotNegative = 50
    """Steps between validations; 0 switches them off."""
    patience: NotNegative = 0
    """Stop after this many validations without a new best; 0 never stops early."""
    best: Literal["score", "loss"] = "score"
    """What the best checkpoint is best by: the held-out score, as in `train`, or the loss on held-out CoTs."""
    loss_on: Literal["cot_answer", "cot", "all"] = "cot_answer"
    """Which tokens are learnt: the CoT's and the stated answer's, the CoT's alone, or the question's too."""
    bare: Literal["drop", "answer"] = "drop"
    """Questions without a written CoT: are left out, or the stated answer alone is learnt."""
    answer: Annotated[str, AfterValidator(_statement)] = "\nAnswer: {answer}"
    """What follows, within the CoT's tokens, a CoT whose last line does not state the answer; empty for nothing."""
    too_long: Literal["truncate", "drop"] = "truncate"
    """CoTs that do not fit into `rollout.length` tokens with the stated answer: lose their end, or are left out."""
    hard_repeats: Positive = 1
    """Times that a hard question comes in a pass over the data."""
    hard_by: Literal["loss", "failure"] = "loss"
    """Which are hard: those with the largest loss by the base, or those that the base answers wrongly, whose number
    is not known before, so that it needs `steps`."""
    hard_share: Annotated[float, Field(gt=0, le=1)] = 0.25
    """hard_by=loss: what share of the questions is hard."""
    curriculum: bool = False
    """Every pass from easy to hard, by the base's loss."""
