"""A base that is spread over the processes (FSDP2), for those that do not fit one device.

The weights of each decoder layer are sharded; embeddings, output layer and adapter stay whole in every process: logits
are made outside of any forward, and the adapter's gradients are added up in the one exchange of every step.

A forward gathers the layers' weights from all processes, so all must run equally many. Before each, they vote: one
that has nothing more to do in a phase of a step, while others have, runs an empty forward with them.
"""

from __future__ import annotations

from typing import Any

import torch
from peft import PeftModel
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from markov_cot.distributed.process_group import Processes
from markov_cot.utils.errors import UserError


class Sharding:
    """The sharded layers of a model, and the vote."""

    def __init__(
        self, model: PeftModel, decoder: nn.Module, processes: Processes, mesh: DeviceMesh, device: torch.device
    ) -> None:
        """Shard `model` in place, whose layers are `decoder`'s, and move it to `device`.

        Raises `UserError` where its layers are not known.
        """
        self._processes = processes
        self._decoder = decoder
        self._empty = torch.zeros((1, 1), dtype=torch.long, device=device)
        self._voting = True
        whole = {p for p in model.parameters() if p.requires_grad}
        for layer in _layers(model):
            fully_shard(layer, mesh=mesh, reshard_after_forward=True, ignored_params=whole)
        for parameter in model.parameters():
            if not isinstance(parameter, DTensor):
                parameter.data = parameter.data.to(device)
        for module in model.modules():
            for name, buffer in module.named_buffers(recurse=False):
                setattr(module, name, buffer.to(device))
        # The whole decoder manages no weights of its own, but makes its layers one model that knows their order.
        rest = {p for p in self._decoder.parameters() if not isinstance(p, DTensor)}
        fully_shard(self._decoder, mesh=mesh, ignored_params=rest)
        self._decoder.register_forward_pre_hook(self._vote, prepend=True)

    def catch_up(self) -> None:
        """At the end of a phase: runs empty forwards until all processes are at its end."""
        while self._processes.any(False):
            self._voting = False
            try:
                with torch.no_grad():
                    self._decoder(input_ids=self._empty, use_cache=False)
            finally:
                self._voting = True

    def _vote(self, *_: Any) -> None:
        if self._voting:
            self._processes.any(True)


def mesh_of(processes: Processes, device: torch.device) -> DeviceMesh:
    """All processes in a row. For all of them at the same place."""
    return init_device_mesh(device.type, (processes.count,))


def _layers(model: PeftModel) -> list[nn.Module]:
    base = model.get_base_model()
    kinds = set(getattr(base, "_no_split_modules", None) or ())
    layers = [module for module in model.modules() if kinds & {kind.__name__ for kind in type(module).__mro__}]
    if not layers:
        raise UserError(f"model.shard: the layers of {type(base).__name__} are not known; set model.shard=false")
    return layers
