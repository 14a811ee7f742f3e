"""One undo step as data, and how a step fails.

It knows no step; see steps.py for the list.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PATIENCE_S = 0.001  # between two looks at something that is about to change

Step = Mapping[str, Any]


class StepFailed(RuntimeError):
    """One undo step could not be done or not be verified; says why and what to do by hand."""
