"""The public names exist, and importing the package loads nothing of the harness."""

from __future__ import annotations

import subprocess
import sys

import chaos


def test_every_public_name_can_be_used() -> None:
    """What `__all__` promises is there."""
    assert all(getattr(chaos, name) is not None for name in chaos.__all__)


def test_importing_the_package_loads_nothing_else() -> None:
    """Child programs of the package must stay free of the harness."""
    code = "import sys, chaos; print([m for m in sys.modules if m.startswith('chaos.')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
