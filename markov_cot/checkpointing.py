"""Gradient checkpointing: layers keep their input alone and are computed again in the backward.

transformers does it in training mode only. So within `on`, that is the mode of the layers it applies to and of nothing
else, and whatever would be random in it is taken out.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer


class Checkpointing:
    """The layers of a model that checkpoint, if it was set up for that."""

    def __init__(self, model: nn.Module) -> None:
        """Takes dropout out of them in place: in training mode it would be at work (OPT's layers call it themselves)."""
        marked = [m for m in model.modules() if getattr(m, "gradient_checkpointing", False)]
        # Some families still do it in the model around the layers.
        self._layers = [m for m in marked if isinstance(m, GradientCheckpointingLayer)] or marked
        for module in marked:
            for name, value in vars(module).items():
                if "drop" in name and isinstance(value, float):
                    setattr(module, name, 0.0)

    @property
    def is_set_up(self) -> bool:
        """Whether there is any layer that checkpoints."""
        return bool(self._layers)

    @contextlib.contextmanager
    def on(self) -> Iterator[None]:
        """Within it, forwards with gradient checkpoint; no cache can be kept."""
        for layer in self._layers:
            layer.training = True
        try:
            yield
        finally:
            for layer in self._layers:
                layer.training = False
