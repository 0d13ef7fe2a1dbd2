"""A second state of the actor's adapter, put in the place of the first for as long as it is needed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from markov_cot.models.policy import Policy


class AdapterCopy:
    """Values of the adapter's parameters, by name; taken from the policy when made."""

    def __init__(self, policy: Policy) -> None:
        self._parameters = policy.trainable()
        self.values: dict[str, Tensor] = {}
        self.take()

    @torch.no_grad()
    def take(self) -> None:
        """Take the parameters as they are now."""
        self.values = {name: parameter.detach().clone() for name, parameter in self._parameters.items()}

    @torch.no_grad()
    def average(self, decay: float) -> None:
        """Move towards the parameters: decay * values + (1 - decay) * parameters."""
        for name, parameter in self._parameters.items():
            self.values[name].lerp_(parameter.detach(), 1 - decay)

    def load(self, values: Mapping[str, Tensor]) -> None:
        """Take other values, of the same names and shapes."""
        self.values = {name: values[name].to(self.values[name], copy=True) for name in self.values}

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Within it, and without gradient, the policy's parameters have these values."""
        assert not torch.is_grad_enabled()
        now = {name: parameter.detach().clone() for name, parameter in self._parameters.items()}
        try:
            self._write(self.values)
            yield
        finally:
            self._write(now)

    def _write(self, values: Mapping[str, Tensor]) -> None:
        for name, parameter in self._parameters.items():
            parameter.detach().copy_(values[name])
