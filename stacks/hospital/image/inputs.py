"""Everything that the image is made from, and the digest that names the image.

It refuses to look twice: files are read once, so that an edit during a build cannot make an image
whose name tells of other contents.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
HERE = Path(__file__).resolve().parent
REPOSITORY = "hospital-chaos/hospital"
TAG_DIGITS = 12
TEMPLATE_CODE = (
    "stacks/__init__.py",
    "stacks/hospital/__init__.py",
    "stacks/hospital/cluster_template.py",
    "stacks/hospital/postgres.py",
)
"""What makes PostgreSQL's template: a layer of its own, older than the rest of the code."""
CODE = ("chaos/__init__.py", "chaos/toxiproxy", "stacks")
"""What runs in containers: the services and the embedded proxy, not the harness."""
LEFT_OUT = (
    "stacks/hospital/claims",
    "stacks/hospital/traffic",
    "stacks/hospital/bad_input",
    "stacks/hospital/image",
    "stacks/hospital/Dockerfile",
)
"""Judging, callers and this program run beside the containers: a change there is none here."""
GUARD = "stacks/hospital/imaging/orthanc_guard.c"
CLOCK = "chaos/runtime/wall_clock.c"  # preloaded where a fault sets a service's clock


@dataclass(frozen=True, slots=True)
class Inputs:
    """The image's inputs: each name in the build's context with its contents."""

    files: Mapping[str, bytes]

    @property
    def digest(self) -> str:
        """SHA-256 over names and contents, as hex."""
        total = hashlib.sha256()
        for name, contents in sorted(self.files.items()):
            total.update(f"\0{name}\0".encode())
            total.update(hashlib.sha256(contents).digest())
        return total.hexdigest()

    def text(self, name: str) -> str:
        """The contents of one input."""
        return self.files[name].decode()

    @property
    def tag(self) -> str:
        """The image's name; equal inputs have equal names."""
        return f"{REPOSITORY}:{self.digest[:TAG_DIGITS]}"

    def write(self, context: Path) -> None:
        """Lay the inputs out as a build context, for all to read whatever our own umask is."""
        for name, contents in self.files.items():
            target = context / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(contents)
            target.chmod(0o644)
            for folder in target.relative_to(context).parents[:-1]:
                (context / folder).chmod(0o755)


def inputs(root: Path = ROOT) -> Inputs:
    """The inputs as they lie under `root`, which holds `chaos` and `stacks`; raises OSError."""
    here = root / HERE.relative_to(ROOT)
    files = {
        "Dockerfile": here.parent / "Dockerfile",
        "packages.txt": here / "packages.txt",
        "requirements.txt": here / "requirements.txt",
        "guard/orthanc_guard.c": root / GUARD,
        "guard/wall_clock.c": root / CLOCK,
    }
    files |= {f"template/{name}": root / name for name in TEMPLATE_CODE}
    files |= {f"code/{name}": root / name for name in sorted(_code(root))}
    return Inputs({name: path.read_bytes() for name, path in files.items()})


def _code(root: Path) -> Iterator[str]:
    for part in CODE:
        found = (root / part).rglob("*") if (root / part).is_dir() else [root / part]
        for path in found:
            name = path.relative_to(root).as_posix()
            if path.is_file() and _goes_in(name):
                yield name


def _goes_in(name: str) -> bool:
    parts = name.split("/")
    if any(part == "__pycache__" or part.startswith(".") for part in parts):
        return False
    if name.endswith((".pyc", ".md", "~")):
        return False
    return not any(name == one or name.startswith(f"{one}/") for one in LEFT_OUT)


def listed(text: str) -> tuple[str, ...]:
    """The entries of a list file: one a line, `#` begins a comment."""
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return tuple(line for line in lines if line)
