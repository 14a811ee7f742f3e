"""The folder of Python wheels that the image installs, fetched beforehand by this machine's pip.

It refuses to show half a wheelhouse: one is filled aside and appears by a single rename.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from stacks.hospital.image.failure import ImageFailure
from stacks.hospital.image.inputs import TAG_DIGITS, listed
from stacks.hospital.image.programs import carry_out

PYTHON = "3.11"
"""Debian bookworm's, whatever this machine has."""
GLIBC_MINOR = 36
"""Debian bookworm's glibc 2.36: wheels for this one and older ones run there."""
INSTALLER = "pip==26.0"
"""Installs the wheels inside the build; it does not stay in the image."""
FETCH_S = 300.0
SAME_BYTES = {"SOURCE_DATE_EPOCH": "1577836800"}
"""Wheels that are built here have equal bytes whenever they are built: layers stay the same."""
LEGACY = ("manylinux1", "manylinux2010", "manylinux2014")

Hear = Callable[[str], None]


def cache_folder() -> Path:
    """Where this program keeps what it need not fetch twice."""
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home) / "hospital-chaos"


def platforms(machine: str) -> tuple[str, ...]:
    """Every wheel platform that runs on Debian bookworm on such a machine."""
    modern = (f"manylinux_2_{minor}_{machine}" for minor in range(GLIBC_MINOR, 4, -1))
    return (*modern, *(f"{name}_{machine}" for name in LEGACY))


def source_only(requirements: str) -> tuple[str, ...]:
    """The requirements marked `# source`: published without a wheel, so one is built here."""
    marked = (line.split("#") for line in requirements.splitlines() if not line.startswith("#"))
    return tuple(
        parts[0].strip() for parts in marked if len(parts) > 1 and parts[1].strip() == "source"
    )


def place(requirements: str, folder: Path) -> Path:
    """Where the wheels for these requirements and this machine lie, or would lie."""
    recipe = "\n".join((PYTHON, platform.machine(), INSTALLER, *listed(requirements)))
    return folder / hashlib.sha256(recipe.encode()).hexdigest()[:TAG_DIGITS]


def wheelhouse(requirements: str, folder: Path, fresh: bool, hear: Hear) -> Path:
    """The folder of wheels for these requirements, below `folder`; raises ImageFailure."""
    found = place(requirements, folder)
    if found.is_dir() and not fresh:
        return found
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".filling-", dir=folder) as filling:
            _fetch(requirements, platform.machine(), Path(filling) / "wheels", hear)
            if found.is_dir():
                shutil.rmtree(found)
            (Path(filling) / "wheels").rename(found)
    except OSError as error:
        raise ImageFailure(f"wheels cannot be kept under {folder}: {error}") from None
    return found


def _fetch(requirements: str, machine: str, target: Path, hear: Hear) -> None:
    target.mkdir()
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    built = source_only(requirements)
    ready = [one for one in listed(requirements) if one not in built]
    if built:
        hear(f"building wheels of {len(built)} packages that are published as source only")
        building = [*pip, "wheel", "--no-deps", "--wheel-dir", str(target), *built]
        carry_out(building, FETCH_S, environment=SAME_BYTES)
        foreign = [one.name for one in target.iterdir() if not one.name.endswith("-any.whl")]
        if foreign:
            raise ImageFailure(f"{', '.join(foreign)}: built for this machine, not for any")
    hear(f"fetching {len(ready) + 1} wheels")
    wanted = [word for one in platforms(machine) for word in ("--platform", one)]
    only = ["--only-binary=:all:", "--python-version", PYTHON, "--implementation", "cp"]
    carry_out(
        [*pip, "download", "--no-deps", "--dest", str(target), *only, *wanted, INSTALLER, *ready],
        FETCH_S,
    )
