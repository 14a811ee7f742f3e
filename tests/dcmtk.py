"""dcmtk's programs. pynetdicom brings some of the same names and puts them beside this Python."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

OURS = Path(sys.executable).parent


def program(name: str) -> str | None:
    """Where dcmtk's program lies; None when it is not installed."""
    folders = [one for one in os.get_exec_path() if Path(one) != OURS]
    return shutil.which(name, path=os.pathsep.join(folders))


def needed(*names: str) -> pytest.MarkDecorator:
    """Skips, with the reason, where one of these programs is not installed."""
    lacking = [name for name in names if program(name) is None]
    reason = f"dcmtk's {', '.join(lacking)} not installed (apt-get install dcmtk)"
    return pytest.mark.skipif(bool(lacking), reason=reason)
