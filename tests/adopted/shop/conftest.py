"""What the shop's experiments run on."""

from __future__ import annotations

import pytest

from chaos.stack import Stack

from .stack import shop


@pytest.fixture
def stack() -> Stack:
    """The shop."""
    return shop()
