"""Small records of tensors that travel between the stages of a step.

Shapes: P problems, G samples per problem, B = P*G sequences (problem-major), L CoT tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

from torch import Tensor

# Annotations that say a tensor's shape. The tests check them; where jaxtyping is not installed they are plain tensors.
if TYPE_CHECKING or find_spec("jaxtyping") is None:
    BoolB = Tensor
    FloatB = Tensor
    FloatBL = Tensor
    FloatNV = Tensor
    IntBL = Tensor
else:
    from jaxtyping import Bool, Float, Int

    BoolB = Bool[Tensor, " B"]
    FloatB = Float[Tensor, " B"]
    FloatBL = Float[Tensor, "B L"]
    FloatNV = Float[Tensor, "*N V"]
    IntBL = Int[Tensor, "B L"]


@dataclass(frozen=True, slots=True)
class Rollouts:
    """What the actor wrote for one step's questions."""

    contexts: list[list[int]]
    """P question contexts (token ids)."""
    cot_BL: IntBL
    """Sampled CoT token ids, int64."""
    behaviour_logp_BL: FloatBL
    """Log-probability (nats) of each token as the decoder that drew it computed it, at least float32."""
    samples: int
    """G."""


@dataclass(frozen=True, slots=True)
class Advantages:
    """What the loss needs to know of the rewards; constants as far as gradients are concerned."""

    advantage_B: FloatB
    """A_i; 0 in dead groups."""
    sigma_B: FloatB
    """sigma_g of the sequence's group (nats), never below the floor."""
    live_B: BoolB
    """bool: whether the sequence's group has enough variance to learn from."""

    def take(self, part: slice | Tensor) -> Advantages:
        """Those of some of the sequences, by slice or by index."""
        return Advantages(self.advantage_B[part], self.sigma_B[part], self.live_B[part])


@dataclass(frozen=True, slots=True)
class CotScores:
    """Per-token quantities of CoTs under the actor, with gradient, and the reference, without."""

    logp_BL: FloatBL
    """log u(c_t), nats."""
    reference_logp_BL: FloatBL
    """log u'(c_t), nats."""
    kl_BL: FloatBL
    """KL divergence of actor from reference at each position, or its sample estimate, nats."""
    entropy_BL: FloatBL
    """Entropy of the actor at each position, nats."""
