"""The log of every change, outside the database: append only, each line checked and on disk.

    log = ChangeLog(folder / "changes.log"); log.append([line]); for line in log.after(seq): ...

It refuses to drop or change a line that was written, and to read past a damaged one: only a line
that a crash cut off at the very end is taken away, because nobody was told that it was kept.
"""

from __future__ import annotations

import contextlib
import os
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from stacks.hospital.appointments.scheduling_rows import Change

CRC_DIGITS = 8
LINE_MAX_BYTES = 64 << 20
_decoder = msgspec.json.Decoder(Change)


class LogError(Exception):
    """The log cannot be read or written; the text says where and what to do."""


class ChangeLog:
    """One file; every line `<crc32 in hex> <change as JSON>`. Used by one thread at a time."""

    def __init__(self, path: Path) -> None:
        """Open or begin the log, and take away a line that was cut off. Raises: LogError."""
        self.path = path
        self.last_seq = 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
            self._end = self._scan()
            if self._end < os.fstat(self._file).st_size:
                os.ftruncate(self._file, self._end)
            os.fsync(self._file)
            _sync_folder(path.parent)
            _sync_folder(path.parent.parent)
        except OSError as error:
            raise LogError(f"{path} cannot be used: {error}; look at the disk") from None

    def append(self, lines: Sequence[tuple[int, bytes]]) -> None:
        """Add (seq, change as JSON) lines in order; on disk when this returns. Raises: LogError."""
        data = b"".join(b"%08x %s\n" % (zlib.crc32(line), line) for _, line in lines)
        try:
            if os.fstat(self._file).st_size != self._end:
                os.ftruncate(self._file, self._end)  # what an append before this one left behind
            _write_all(self._file, data)
            os.fsync(self._file)
        except OSError as error:
            with contextlib.suppress(OSError):  # half a line must not stand before the next one
                os.ftruncate(self._file, self._end)
            raise LogError(f"{self.path}: {error}; look at the disk") from None
        self._end += len(data)
        self.last_seq = lines[-1][0]

    def after(self, seq: int) -> Iterator[Change]:
        """Every change with a larger number, in order, but for what is being appended meanwhile.

        Raises: LogError.
        """
        left = self._end
        with self.path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                left -= len(line)
                if left < 0:
                    return
                text = _checked(line)
                if text is None:
                    raise LogError(f"{self.path}: line {number} is damaged; restore the file")
                change = _decoder.decode(text)
                if change.seq > seq:
                    yield change

    def close(self) -> None:
        os.close(self._file)

    def _scan(self) -> int:
        """Where the last whole line ends. Raises: LogError for damage before it."""
        end = damaged_at = number = 0
        with self.path.open("rb") as lines:
            for line in lines:
                number += 1
                text = _checked(line)
                if damaged_at and text is not None:
                    raise LogError(
                        f"{self.path}: line {damaged_at} is damaged and is not the last;"
                        " put a copy of the file in its place and start again"
                    )
                if text is None:
                    damaged_at = damaged_at or number
                    continue
                end += len(line)
                self.last_seq = _decoder.decode(text).seq
        return end


def _checked(line: bytes) -> bytes | None:
    """The JSON of a line, or None when it is not whole."""
    if not line.endswith(b"\n") or len(line) > LINE_MAX_BYTES or line[CRC_DIGITS:][:1] != b" ":
        return None
    text = line[CRC_DIGITS + 1 : -1]
    return text if b"%08x" % zlib.crc32(text) == line[:CRC_DIGITS] else None


def _write_all(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
