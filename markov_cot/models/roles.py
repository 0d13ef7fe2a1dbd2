"""Who computes: the trained actor, or a frozen role, which is the same base with the adapter off.

"Critic" is the paper's word for the frozen reader, which also writes the baseline CoTs. The reference is what the KL
penalty is taken to. In a run that starts from an adapter, either may be the base with that adapter instead.
"""

from __future__ import annotations

from typing import Final, Literal

Role = Literal["actor", "critic", "reference"]
ACTOR: Final = "actor"
CRITIC: Final = "critic"
REFERENCE: Final = "reference"
ROLES: Final = (ACTOR, CRITIC, REFERENCE)
WRITERS: Final = (ACTOR, CRITIC)
"""Those that write and answer; the reference only scores."""
