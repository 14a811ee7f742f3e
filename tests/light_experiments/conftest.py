"""What the light experiments run on."""

from __future__ import annotations

import pytest

from chaos.stack import Stack
from tests.light_stack import light_stack


@pytest.fixture
def stack() -> Stack:
    """Four tiny services in two rooms."""
    return light_stack()
