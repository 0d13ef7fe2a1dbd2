"""Which adapter a model computes with: the one that is trained, none, or one as it was when it was kept."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager
from typing import Final, Literal

from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import AuxiliaryTrainingWrapper
from torch import nn

from markov_cot.models.lora import MergedAdapter
from markov_cot.models.roles import ACTOR, CRITIC, REFERENCE, ROLES, Role

AdapterInUse = Literal["trained", "off", "kept"]
TRAINED: Final = "trained"
OFF: Final = "off"
KEPT: Final = "kept"


def has_other_parts(model: nn.Module) -> bool:
    """Whether an adapter has parts besides its products: modules or tokens of its own."""
    return any(isinstance(module, AuxiliaryTrainingWrapper) for module in model.modules())


class KeptAdapter:
    """A copy of an adapter's values that can take their place for a while. As large as the adapter."""

    def __init__(self, model: nn.Module) -> None:
        """Copies the parameters that are trained."""
        self._pairs = [(p, p.detach().clone()) for p in model.parameters() if p.requires_grad]

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Within it, the model computes with the copy.

        The parameters point to other memory, and nothing is written to. So a graph that was made before stays valid,
        as long as its backward comes after.
        """
        before = [parameter.data for parameter, _ in self._pairs]
        for parameter, values in self._pairs:
            parameter.data = values
        try:
            yield
        finally:
            for (parameter, _), values in zip(self._pairs, before, strict=True):
                parameter.data = values


class AdapterSwitch:
    """Makes a model's forwards a role's."""

    def __init__(self, model: PeftModel, folding: MergedAdapter) -> None:
        self._model, self._folding = model, folding
        self._layers = [m for m in model.modules() if isinstance(m, BaseTunerLayer)]
        self._has_other_parts = has_other_parts(model)
        self._kept: KeptAdapter | None = None
        self._kept_for: frozenset[Role] = frozenset()
        self.in_use: AdapterInUse = TRAINED
        """Which adapter forwards are computed with now."""

    def keep_for(self, roles: Collection[Role]) -> None:
        """From now on, these frozen roles compute with the adapter as it is now, instead of with none."""
        assert ACTOR not in roles
        self._kept, self._kept_for = KeptAdapter(self._model) if roles else None, frozenset(roles)

    @property
    def frozen_roles(self) -> tuple[Role, ...]:
        """The frozen roles that do not compute the same."""
        same = (CRITIC in self._kept_for) == (REFERENCE in self._kept_for)
        return (CRITIC,) if same else (CRITIC, REFERENCE)

    @contextlib.contextmanager
    def acting_as(self, role: Role, folded: Callable[[], AbstractContextManager[None]]) -> Iterator[None]:
        """Within it, forwards are the role's; the actor's are computed within `folded()`.

        May be nested, but one role's not in another's.
        """
        assert role in ROLES, role
        adapter = self._adapter_of(role)
        if adapter == self.in_use != TRAINED:
            yield
            return
        assert self.in_use == TRAINED, (role, self.in_use)
        self.in_use = adapter
        try:
            with {TRAINED: folded, OFF: self._off, KEPT: self._as_kept}[adapter]():
                yield
        finally:
            self.in_use = TRAINED

    def _adapter_of(self, role: Role) -> AdapterInUse:
        if role == ACTOR:
            return TRAINED
        return KEPT if role in self._kept_for else OFF

    @contextlib.contextmanager
    def _off(self) -> Iterator[None]:
        if self._has_other_parts:
            with self._model.disable_adapter():
                yield
            return
        # PEFT's own switch walks through all modules and changes which parameters ask for gradients.
        self._set_disabled(True)
        try:
            yield
        finally:
            self._set_disabled(False)

    def _set_disabled(self, disabled: bool) -> None:
        for layer in self._layers:
            layer._disable_adapters = disabled

    @contextlib.contextmanager
    def _as_kept(self) -> Iterator[None]:
        assert self._kept, "see keep_for"
        # Not folded: an update asks for the reference's logits a few at a time, within the actor's folded weights.
        with self._kept.in_place(), self._folding.apart():
            yield
