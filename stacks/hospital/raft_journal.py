"""pysyncobj's journal after a disk that failed: cut behind its last whole entry.

The journal is a mapped file. What an array could not write is missing from its middle while its
head tells of entries beyond, and pysyncobj ends at once, at every start: the member would never
vote again. Entries in front of the damage are an older state of the same log, as after a power cut
(the file is never synced); the other members send the rest.

It refuses to change a journal that is whole.
"""

from __future__ import annotations

import struct
from pathlib import Path

# As pysyncobj.journal has them, which is not imported for it: importing it breaks `socket`.
HEAD_BYTES = 40  # name 24, version 8, format 4, end of the last entry 4
_END_AT = 36
_SIZE = struct.Struct("<I")
_ENTRY = struct.Struct("<QQ")  # index, term; the command follows


def mend(file: Path) -> int:
    """Bytes that were cut off; 0 when it is whole, or not there. Raises OSError."""
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        return 0
    if len(content) < HEAD_BYTES:  # not even a head: a new one is made at the start
        file.unlink()
        return len(content)
    told: int = _SIZE.unpack_from(content, _END_AT)[0]
    end = whole_until(content, told)
    if end >= told:
        return 0
    with file.open("r+b") as handle:
        handle.seek(_END_AT)
        handle.write(_SIZE.pack(end))
    return told - end


def whole_until(content: bytes, told: int) -> int:
    """Where the last whole entry ends, of those up to `told`; indices grow one by one."""
    at, before = HEAD_BYTES, None
    while at < told:
        if at + _SIZE.size + _ENTRY.size > len(content):
            break
        size: int = _SIZE.unpack_from(content, at)[0]
        tail = at + _SIZE.size + size
        if size < _ENTRY.size or tail + _SIZE.size > min(told, len(content)):
            break
        index, _ = _ENTRY.unpack_from(content, at + _SIZE.size)
        if _SIZE.unpack_from(content, tail)[0] != size or before not in (None, index - 1):
            break
        at, before = tail + _SIZE.size, index
    return at
