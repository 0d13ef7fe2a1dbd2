"""Settings of the alarms: their levels, how long a level must last, and what a critical alarm does.

A level is reached at `warn` or `critical` after `patience` rows in a row, and at `hard` at once. The defaults are meant
to be left alone; docs/metrics.md explains the keys they look at.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from markov_cot.config.base import Fraction, Group, Named, NotNegative, Positive, PositiveFloat


class Levels(Group):
    """Of one alarm."""

    enabled: bool = True
    """false switches the alarm off."""
    warn: PositiveFloat
    """Level of a warning."""
    critical: PositiveFloat
    """Level at which the run should not continue like this."""
    patience: Positive
    """Rows in a row (of those that have the metric) at a level before it counts."""

    @model_validator(mode="after")
    def _in_order(self) -> Levels:
        for name in type(self).model_fields:
            if name.endswith("warn") and getattr(self, name) > (top := getattr(self, name[:-4] + "critical")):
                raise ValueError(f"{name}: must not be above {name[:-4]}critical, which is {top}")
        return self


class HardLevels(Levels):
    """With a level that counts at once, for rows far apart and for collapses within a step."""

    hard: PositiveFloat
    """One row suffices."""

    @model_validator(mode="after")
    def _hard_is_highest(self) -> HardLevels:
        if self.critical > self.hard:
            raise ValueError(f"critical: must not be above hard, which is {self.hard}")
        return self


class RatioLevels(HardLevels):
    """Drift of the actor from the reference, |ln policy/reference_ratio|, nats per CoT token."""

    warn: PositiveFloat = 1.0
    critical: PositiveFloat = 1.5
    hard: PositiveFloat = 2.3
    patience: Positive = 3
    mean_warn: PositiveFloat = 0.2
    """Of |ln ppo/ratio_mean|, nats, for a warning."""
    mean_critical: PositiveFloat = 0.7
    """The same for critical."""
    max_warn: PositiveFloat = 30.0
    """Of ppo/ratio_max, for a warning."""
    max_critical: PositiveFloat = 1000.0
    """The same for critical."""
    clip_warn: PositiveFloat = 0.35
    """Of ppo/clip_fraction, for a warning."""
    clip_critical: PositiveFloat = 0.7
    """The same for critical."""


class RewardLevels(HardLevels):
    """Fall of the smoothed reward below its own best, or below the base's, nats, beyond what its noise explains."""

    warn: PositiveFloat = 0.75
    critical: PositiveFloat = 1.5
    hard: PositiveFloat = 25.0
    """Below the best or the base, unsmoothed; at least as much again as the base's own magnitude."""
    patience: Positive = 5
    noise: PositiveFloat = 7.0
    """Standard errors of the smoothed reward that are added to `warn` and `critical`."""


class RepetitionLevels(HardLevels):
    """Share of the way from the base's value (0) to nothing but repetition (1)."""

    warn: PositiveFloat = 0.5
    critical: PositiveFloat = 0.8
    hard: PositiveFloat = 0.95
    patience: Positive = 5


class EntropyLevels(HardLevels):
    """Fall of policy/entropy below its start, in e-folds: ln(start / now)."""

    warn: PositiveFloat = 2.5
    critical: PositiveFloat = 4.0
    hard: PositiveFloat = 5.5
    patience: Positive = 5
    rise_warn: PositiveFloat = 0.75
    """Rise above its start, nats per CoT token, for a warning."""
    rise_critical: PositiveFloat = 1.5
    """The same for critical."""
    rise_hard: PositiveFloat = 3.0
    """The same for one row that suffices."""


class KlLevels(HardLevels):
    """policy/kl, nats per CoT token."""

    warn: PositiveFloat = 1.0
    critical: PositiveFloat = 2.0
    hard: PositiveFloat = 4.0
    patience: Positive = 3
    pace: PositiveFloat = 0.01
    """Nats per step by which it may rise for as long as it likes..."""
    rise_warn: PositiveFloat = 0.15
    """...and nats by which its moving average may be above that before a warning."""
    rise_critical: PositiveFloat = 0.3
    """The same for critical."""


class DeadGroupsLevels(Levels):
    """Smoothed share of groups without variance."""

    warn: PositiveFloat = 0.5
    critical: PositiveFloat = 0.95
    patience: Positive = 50
    solved: PositiveFloat = 0.05
    """Where the smoothed reward is within this many nats of its ceiling of 0, the alarm only warns: all is solved."""


class DivergenceLevels(HardLevels):
    """Fall of held-out accuracy beyond its interval, as a share of its peak, while the reward has not fallen."""

    warn: PositiveFloat = 0.15
    critical: PositiveFloat = 0.35
    hard: PositiveFloat = 0.5
    """Whatever the reward does."""
    patience: Positive = 2
    """Validations, not steps."""


class NonFiniteLevels(Levels):
    """Leaky count of rows with NaN or infinity: every other row takes a tenth off it.

    A loss or gradient norm that is not finite and was not skipped is critical at once.
    """

    warn: PositiveFloat = 1.0
    critical: PositiveFloat = 2.5
    patience: Positive = 1


class LeakLevels(Levels):
    """leak/answer_first, as a share of the way from the base's value to 1."""

    warn: PositiveFloat = 0.5
    critical: PositiveFloat = 0.9
    patience: Positive = 20
    kept_warn: PositiveFloat = 0.8
    """Share of the gain over the base that is left with the reasoning cut away, for a warning."""
    kept_critical: PositiveFloat = 0.95
    """The same for critical."""
    gain: PositiveFloat = 0.5
    """Nats of gain over the base from which the share is worth judging."""


class UnstatedLevels(Levels):
    """Rise of the smoothed reward above its start, nats, while about no CoT states the answer."""

    warn: PositiveFloat = 0.75
    critical: PositiveFloat = 1.5
    """Only where CoTs did state it before."""
    patience: Positive = 5
    none: PositiveFloat = 0.02
    """Smoothed share of CoTs with the answer that counts as none."""
    noise: PositiveFloat = 3.0
    """Standard errors of the smoothed reward that are added to `warn` and `critical`."""
    gone_warn: PositiveFloat = 0.7
    """Fall of that share below its best, as a share of it, while the reward is below its best by more than `noise`
    explains, for a warning."""
    gone_critical: PositiveFloat = 0.9
    """The same for critical."""
    often: PositiveFloat = 0.1
    """Best share from which its fall is worth judging."""


class CompressionLevels(Levels):
    """|ln(cot/compression / its start)|, smoothed, while the reward has fallen."""

    warn: PositiveFloat = 0.25
    critical: PositiveFloat = 0.5
    patience: Positive = 5
    fall: PositiveFloat = 0.5
    """Nats by which the smoothed reward must be below its best..."""
    noise: PositiveFloat = 3.0
    """...and standard errors of it on top."""


class RefusalLevels(Levels):
    """Smoothed cot/refusal, as a share of the way from its start to 1."""

    warn: PositiveFloat = 0.3
    critical: PositiveFloat = 0.6
    patience: Positive = 5


class SymbolsLevels(Levels):
    """Rise of the smoothed cot/symbols above its start."""

    warn: PositiveFloat = 0.05
    critical: PositiveFloat = 0.1
    patience: Positive = 5


class Alarms(Group):
    """What is watched while training, and what happens when an alarm is critical."""

    action: Literal["continue", "stop", "rollback"] = "stop"
    """stop: save, explain, exit code 3. rollback: return to the last healthy checkpoint with a lower learning rate."""
    rollback_lr_factor: Fraction = 0.2
    """The learning rate is multiplied by it at each rollback. A rate that brings a run down is seldom wrong by 2."""
    rollback_limit: NotNegative = 3
    """Rollbacks before a critical alarm stops the run."""
    release: Fraction = 0.8
    """Hysteresis: an alarm eases only below this share of its level..."""
    clear_rows: Positive = 10
    """...for this many rows in a row."""
    own: tuple[Annotated[str, AfterValidator(Named("alarm", ()))], ...] = ()
    """Alarms of your own, each an `Alarm` as package.module:attribute, or a function that returns one."""
    own_args: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Keyword arguments of such a function, by its name: {mine:alarm: {share: 0.5}}."""
    ratio: RatioLevels = RatioLevels()
    reward: RewardLevels = RewardLevels()
    repetition: RepetitionLevels = RepetitionLevels()
    entropy: EntropyLevels = EntropyLevels()
    kl: KlLevels = KlLevels()
    dead_groups: DeadGroupsLevels = DeadGroupsLevels()
    divergence: DivergenceLevels = DivergenceLevels()
    non_finite: NonFiniteLevels = NonFiniteLevels()
    leak: LeakLevels = LeakLevels()
    unstated: UnstatedLevels = UnstatedLevels()
    compression: CompressionLevels = CompressionLevels()
    refusal: RefusalLevels = RefusalLevels()
    symbols: SymbolsLevels = SymbolsLevels()

    @model_validator(mode="after")
    def _args_are_of_own(self) -> Alarms:
        for name in self.own_args:
            if name not in self.own:
                raise ValueError(f"own_args: {name} is not in alarms.own; add it there, or leave its arguments out")
        return self
