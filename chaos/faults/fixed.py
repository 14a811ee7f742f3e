"""Sets the fields of frozen faults: when they are made, and in a copy that differs in some.

Faults take their targets as `*services` or `*links`, so they write their own `__init__`.
"""

from __future__ import annotations

import copy
from typing import TypeVar

F = TypeVar("F")


def fix(fault: object, **fields: object) -> None:
    """Give a fault that is just being made its fields."""
    for name, value in fields.items():
        object.__setattr__(fault, name, value)


def changed(fault: F, **fields: object) -> F:
    """A copy of the fault with other values in these fields."""
    other = copy.copy(fault)
    fix(other, **fields)
    return other
