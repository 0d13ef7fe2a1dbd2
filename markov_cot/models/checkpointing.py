"""Gradient checkpointing: layers keep their input alone and are computed again in the backward.

transformers does it in training mode only, in which dropout is at work. So that is the mode in which a layer is called,
and not the one in which it computes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer


class Checkpointing:
    """The layers of a model that checkpoint, if it was set up for that."""

    def __init__(self, model: nn.Module) -> None:
        marked: list[Any] = [m for m in model.modules() if getattr(m, "gradient_checkpointing", False)]
        # Some families still do it in the model around the layers.
        self._modules = [m for m in marked if isinstance(m, GradientCheckpointingLayer)] or marked

    @property
    def is_set_up(self) -> bool:
        """Whether there is any layer that checkpoints."""
        return bool(self._modules)

    @contextlib.contextmanager
    def on(self) -> Iterator[None]:
        """Within it, forwards with gradient checkpoint; no cache can be kept."""
        before = [module._gradient_checkpointing_func for module in self._modules]
        for module, checkpoint in zip(self._modules, before, strict=True):
            module._gradient_checkpointing_func = _computing_in_eval_mode(module, checkpoint)
            module.training = True
        try:
            yield
        finally:
            for module, checkpoint in zip(self._modules, before, strict=True):
                module._gradient_checkpointing_func = checkpoint
                module.training = False


def _computing_in_eval_mode(module: nn.Module, checkpoint: Callable[..., Any]) -> Callable[..., Any]:
    """A checkpointing function that computes, both times, with the module in evaluation mode."""

    def checkpoint_in_eval_mode(compute: Callable[..., Any], *args: Any) -> Any:
        def computed(*given: Any) -> Any:
            mode = module.training
            module.training = False
            try:
                return compute(*given)
            finally:
                module.training = mode

        return checkpoint(computed, *args)

    return checkpoint_in_eval_mode
