"""Who computes: the trained actor, or the frozen critic, which is the same base with the adapter off.

"Critic" is the paper's word. The one frozen model is also the KL penalty's reference and the writer of baseline CoTs.
"""

from __future__ import annotations

from typing import Final, Literal

Role = Literal["actor", "critic"]
ACTOR: Final = "actor"
CRITIC: Final = "critic"
ROLES: Final = (ACTOR, CRITIC)
