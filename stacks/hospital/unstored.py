"""How a system says over HL7 that it cannot store a message now.

It refuses to blame a message for the disk: 206 (nothing can be stored) never makes its sender
suspect the message, 207 (this one was not) does when it happens again and again.
"""

from __future__ import annotations

from stacks.hospital.store import StoreError, Unwritable
from stacks.hospital.wire.hl7 import Hl7Error

NOTHING_CAN_BE, THIS_ONE_WAS_NOT = "206", "207"
"""Table 0357: not performed at the level of storage; an internal error."""


def unstored(error: Exception, text: str) -> Hl7Error:
    """The refusal for a message that was not stored because of `error`."""
    own = isinstance(error, StoreError) and not isinstance(error, Unwritable)
    return Hl7Error(THIS_ONE_WAS_NOT if own else NOTHING_CAN_BE, text)
