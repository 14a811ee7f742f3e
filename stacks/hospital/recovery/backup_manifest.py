"""Whether a base backup is, byte for byte, what the database sent: its manifest checked here.

PostgreSQL writes the manifest while it sends; every file's SHA-256 is in it, and the manifest's
own. It refuses to overlook a file that nobody sent.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgspec

from stacks.hospital.recovery.backup_log import Looked, sha256_of
from stacks.hospital.recovery.backup_places import position

NAME = "backup_manifest"
_LAST_LINE = b'"Manifest-Checksum"'


class Unreadable(ValueError):
    """There is no manifest, or it is damaged itself; the text says so."""


def manifest(data: Path) -> dict[str, Any]:
    """The manifest of a base backup. Raises Unreadable."""
    try:
        raw = (data / NAME).read_bytes()
        found = msgspec.json.decode(raw)
        body, _, _ = raw.rpartition(_LAST_LINE)
        if found["Manifest-Checksum"] != hashlib.sha256(body).hexdigest():
            raise Unreadable("the manifest does not fit its own checksum")
        assert isinstance(found, dict)
        return found
    except (OSError, msgspec.DecodeError, KeyError, TypeError) as error:
        raise Unreadable(f"the manifest cannot be read: {error}") from None


def span(found: dict[str, Any]) -> tuple[int, int, int]:
    """(timeline, start, end) of the log that the backup needs to be consistent."""
    ranges = found["WAL-Ranges"]
    last = ranges[-1]
    return last["Timeline"], position(ranges[0]["Start-LSN"]), position(last["End-LSN"])


def check(data: Path) -> Looked:
    """Every file against the manifest; nothing more and nothing less may lie there."""
    try:
        found = manifest(data)
    except Unreadable as error:
        return Looked(0, 0, (f"{data.parent.name}: {error}",))
    damages, read, known = list[str](), 0, {NAME}
    for one in found["Files"]:
        name = one.get("Path") or bytes.fromhex(one["Encoded-Path"]).decode("utf-8", "replace")
        known.add(name)
        path = data / name
        try:
            size = path.stat().st_size
            read += size
            if size != one["Size"]:
                damages.append(f"{data.parent.name}/{name}: {size} bytes instead of {one['Size']}")
            elif sha256_of(path) != one["Checksum"]:
                damages.append(f"{data.parent.name}/{name}: is not what the database sent")
        except OSError as error:
            damages.append(f"{data.parent.name}/{name}: {error.strerror}")
    for path in data.rglob("*"):
        name = path.relative_to(data).as_posix()
        if not path.is_dir() and name not in known:
            damages.append(f"{data.parent.name}/{name}: nobody sent it")
    return Looked(len(found["Files"]), read, tuple(damages))
