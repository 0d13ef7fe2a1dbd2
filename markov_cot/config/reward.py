"""Settings of the reward: which reader answers from the CoT, and what becomes of its log-probs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from markov_cot.config.base import Fraction, Group, Named, Positive, Weight

BASE, ACTOR, LAGGED = "base", "actor", "lagged"
OWN_READERS = (BASE, ACTOR, LAGGED)
"""Readers that are the trained model itself in one of its states; any other name is another model's."""
FORMER_READERS = {"critic": BASE, "actor": ACTOR}
"""By what `reward.answerer` called them, which `reward.reader` was before."""
Dtype = Literal["auto", "float32", "bfloat16", "float64"]
Device = Literal["auto", "cpu", "cuda", "mps"]


class Reward(Group):
    """How probable the reader finds the true answer after a CoT."""

    reader: str | tuple[str, ...] = BASE
    """Who scores the reward and answers in validation and evaluation: base (frozen), actor, lagged (the actor of some
    steps ago), another model (a folder or a hub id), or a list of them, of which the first answers."""
    combine: Literal["mean", "min", "softmin"] = "mean"
    """Of several readers' rewards."""
    reader_dtype: Dtype = "auto"
    """Of other models' weights; auto: bfloat16 on a GPU, else float32."""
    reader_device: Device = "auto"
    """Of other models; auto: the trained model's."""
    lag_every: Positive = 10
    """lagged: the reader is the actor as it was at the last multiple of so many steps."""
    lag_decay: Fraction | None = None
    """lagged: instead, the reader's adapter is the actor's exponential average with this decay."""
    answers: Literal["first", "best"] = "first"
    """Of a question with several accepted answers: the first, or whichever the reader finds most probable."""
    reduction: Literal["mean", "sum"] = "mean"
    """Over the answer's tokens."""
    function: Annotated[str, AfterValidator(Named("reward", ("answer_logprob",)))] = "answer_logprob"
    """The answer's log-prob (the paper's), or your own function of a RewardBatch."""
    args: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments of your own reward."""
    form: Annotated[str, AfterValidator(Named("reward form", ("logprob", "prob", "mean_prob", "gain")))] = "logprob"
    """logprob: reduced over the answer's tokens. prob: the answer's probability. mean_prob: the mean over its tokens of
    theirs. gain: logprob less that after an empty CoT. Or your own function of the tokens' log-probs."""
    form_args: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments of your own form."""
    copy_penalty: Weight = 0.0
    """Nats taken off the reward of a CoT that copies all of its 4-grams from the question or the passage; of one that
    copies some, its share of that."""
    baseline_every: Positive = 10
    """Steps between scorings of the baseline CoT; it cancels in group advantages and is for reporting."""

    @property
    def readers(self) -> tuple[str, ...]:
        """The readers' names, the one that answers first."""
        return (self.reader,) if isinstance(self.reader, str) else self.reader

    @model_validator(mode="before")
    @classmethod
    def _by_its_former_name(cls, values: Any) -> Any:
        if not isinstance(values, Mapping) or "answerer" not in values:
            return values
        former = values["answerer"]
        if "reader" in values:
            raise ValueError("answerer: is the former name of reward.reader, which is given, too; leave it out")
        if former not in FORMER_READERS:
            raise ValueError(f"answerer: is the former name of reward.reader and was critic or actor, not {former!r}")
        rest = {key: value for key, value in values.items() if key != "answerer"}
        return rest | {"reader": FORMER_READERS[former]}

    @model_validator(mode="after")
    def _readers_are_there(self) -> Reward:
        if not self.readers or not all(name.strip() for name in self.readers):
            raise ValueError("reader: give base, actor, lagged, a model, or a list of them")
        if twice := next((name for name in self.readers if self.readers.count(name) > 1), None):
            raise ValueError(f"reader: has {twice} twice; give each reader once")
        return self
