"""What all tests share."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

# A machine that does something else for a moment is no failure of a property.
settings.register_profile("here", deadline=None)
settings.load_profile("here")

# Experiments with outcomes of every kind, some broken on purpose: tests/test_cli.py and
# tests/adopted run them.
collect_ignore = ["light_experiments", "adopted/shop"]

UMASK = os.umask(0o022)
os.umask(UMASK)


@pytest.fixture(autouse=True)
def same_umask() -> None:
    """Every test has the umask of the test run: importing Patroni's configuration sets another."""
    os.umask(UMASK)
