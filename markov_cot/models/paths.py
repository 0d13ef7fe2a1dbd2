"""The faster ways to compute what a plain forward of a whole sequence computes, and which of them a model allows.

Each is tried before it is relied on, and ruled out where it computes something else for the model at hand. With all
of them ruled out, each sequence is read whole, by transformers' and PEFT's own modules, without padding.
"""

from __future__ import annotations

from dataclasses import dataclass, field

ADAPTED, FOLDED, PADDED, SHARED, BY_HAND = "adapted", "folded", "padded", "shared", "by hand"
CHECKPOINTED = "checkpointed"
WAYS = (ADAPTED, FOLDED, PADDED, SHARED, BY_HAND, CHECKPOINTED)
"""Of reading sequences, the ones that others build on first."""
FUSED, STATIC, SHARED_CACHE, OWN_CACHE, EVEN_CACHE, WHOLE = "fused", "static", "shared cache", "cache", "even", "whole"
DECODERS = (FUSED, STATIC, SHARED_CACHE, OWN_CACHE, EVEN_CACHE, WHOLE)
"""Ways of writing tokens, fastest first; the last can do with any model."""

SLOWER = {
    ADAPTED: "adapters are computed by PEFT's own layers",
    FOLDED: "adapters are not folded into the weights",
    PADDED: "sequences of different lengths are read apart",
    SHARED: "prompts are read again for each sample",
    BY_HAND: "layers are computed by transformers' modules",
    CHECKPOINTED: "updates keep all activations",
    FUSED: "tokens are decoded through transformers' modules",
    STATIC: "tokens are decoded without CUDA graphs",
    SHARED_CACHE: "prompts are read again for each sample that is decoded",
    OWN_CACHE: "sequences of different lengths are decoded apart",
    EVEN_CACHE: "every token is decoded by reading its whole sequence again",
}
"""What it means for a run that a path is ruled out."""


@dataclass(slots=True)
class Paths:
    """Which ways are in use."""

    ruled_out: set[str] = field(default_factory=set)
    tried: set[str] = field(default_factory=set)
    """Decoders whose tokens' probabilities were seen to be right."""
    decoder: str = "auto"
    """As in `rollout.decoder`."""
    captures: bool = False
    """Whether the static decoder's forward is made a CUDA graph."""
    checked: bool = False
    """Whether they were compared with the reference on a run's own contexts."""

    def allow(self, path: str) -> bool:
        """Whether it may be used."""
        return path not in self.ruled_out

    @property
    def in_use(self) -> tuple[str, ...]:
        """Those not ruled out."""
        return tuple(path for path in (*WAYS, *DECODERS) if path not in self.ruled_out)
