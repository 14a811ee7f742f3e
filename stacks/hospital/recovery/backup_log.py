"""The received log as files: which segments a chain has, their hashes, holes, what may be let go.

It refuses to take a segment for kept before its hash is written down beside it.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import msgspec

from stacks.hospital.recovery.backup_places import append, keep, sync_folder

HASHES = "hashes.jsonl"
_SEGMENT = re.compile(r"[0-9A-F]{24}")
_HISTORY = re.compile(r"[0-9A-F]{8}\.history")
_CHUNK = 1 << 20


class Sealed(msgspec.Struct, frozen=True):
    """A file that was received to its end."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Looked:
    """What a check read, and what is wrong with it."""

    files: int
    bytes: int
    damages: tuple[str, ...]


def sha256_of(path: Path) -> str:
    """Raises OSError."""
    digest = hashlib.sha256()
    with path.open("rb") as source:
        while chunk := source.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def sealed(chain: Path) -> dict[str, Sealed]:
    """Every file whose hash is written down; a torn last line is none."""
    found: dict[str, Sealed] = {}
    try:
        lines = (chain / HASHES).read_bytes().splitlines()
    except FileNotFoundError:
        return found
    for line in lines:
        try:
            one = msgspec.json.decode(line, type=Sealed)
        except msgspec.DecodeError:
            continue
        found[one.name] = one
    return found


def seal(chain: Path, known: dict[str, Sealed]) -> int:
    """Hash what has been received to its end since, protect it; how many files. Raises OSError."""
    new = []
    for path in sorted(chain.iterdir()):
        whole = _SEGMENT.fullmatch(path.name) or _HISTORY.fullmatch(path.name)
        if whole and path.name not in known:
            path.chmod(0o400)
            new.append(Sealed(path.name, path.stat().st_size, sha256_of(path)))
    if not new:
        return 0
    append(chain / HASHES, msgspec.json.Encoder().encode_lines(new))
    sync_folder(chain)
    known.update({one.name: one for one in new})
    return len(new)


def number(name: str, segment_bytes: int) -> int:
    """Which segment it is, counted from the beginning of the log, on whatever timeline."""
    return (int(name[8:16], 16) << 32) // segment_bytes + int(name[16:24], 16)


def segments(chain: Path) -> dict[str, Path]:
    """Segment → its file; the last one may still be partial."""
    found: dict[str, Path] = {}
    for path in sorted(chain.iterdir()):
        name = path.name.removesuffix(".partial")
        if _SEGMENT.fullmatch(name):
            found.setdefault(name, path)
    return found


def check(chain: Path, start: int, end: int) -> Looked:
    """Whether the log is there without a hole from position `start` on, at least to `end`, and
    every sealed file is as it was received. Raises OSError."""
    known, there = sealed(chain), segments(chain)
    if not there:
        return Looked(0, 0, (f"{chain.name}: no log was received",))
    size = next(iter(there.values())).stat().st_size
    damages, files, read = list[str](), 0, 0
    for name, one in known.items():
        path = chain / name
        if _SEGMENT.fullmatch(name) and (number(name, size) + 1) * size <= start:
            continue
        files += 1
        try:
            found = path.stat().st_size
            read += found
            if found != one.bytes:
                damages.append(f"{chain.name}/{name}: {found} bytes instead of {one.bytes}")
            elif sha256_of(path) != one.sha256:
                damages.append(f"{chain.name}/{name}: is not as it was received")
        except FileNotFoundError:
            damages.append(f"{chain.name}/{name}: is gone")
    have = {number(name, size) for name in there}
    wanted = range(start // size, max(*have, (end - 1) // size) + 1)
    missing = [one for one in wanted if one not in have]
    if missing:
        damages.append(f"{chain.name}: {len(missing)} segments are missing, first {missing[0]:x}")
    return Looked(files, read, tuple(damages))


def drop_unfinished(chain: Path) -> int:
    """Remove segments that were begun and into which nothing was received; how many.

    One that found no space when it was begun is too short, and pg_receivewal, which makes a
    segment whole before it fills it, would refuse it for ever. Only while it does not run; one
    that holds any log stays, however long it is. Raises OSError.
    """
    blank = [one for one in chain.glob("*.partial") if one.stat().st_size and _is_blank(one)]
    for one in blank:
        one.unlink()
    return len(blank)


def _is_blank(path: Path) -> bool:
    with path.open("rb") as source:
        while chunk := source.read(_CHUNK):
            if chunk.strip(b"\0"):
                return False
    return True


def let_go(chain: Path, start: int) -> int:
    """Remove segments that no kept base needs, which all begin at `start` or later."""
    there = segments(chain)
    if not there:
        return 0
    size = next(iter(there.values())).stat().st_size
    old = [path for name, path in there.items() if (number(name, size) + 1) * size <= start]
    kept = [one for name, one in sealed(chain).items() if chain / name not in old]
    if old:
        keep(chain / HASHES, msgspec.json.Encoder().encode_lines(kept), 0o600)
        for path in old:
            path.unlink(missing_ok=True)
    return len(old)
