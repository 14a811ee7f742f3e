"""Appends events to one journal file, one JSON line each, and nothing else.

It refuses to overwrite an existing file, to share a file with another writer, and to go on after
a write that failed: a journal with a hole in the middle could lie.

Every `append` is one write(2) before it returns, so a SIGKILL of the process loses nothing that
was appended. Nothing is held back in memory, and no thread is needed: the same code runs under
gevent. A power cut is out of scope (only `close` calls fsync).
"""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path
from types import TracebackType

import msgspec

from chaos.journal.events import Event

FILE_MODE = 0o644


class JournalError(RuntimeError):
    """A journal that cannot be written or read: which file, why, and what to do."""


class Writer:
    """One journal file and its only writer; safe to use from several threads or greenlets.

    Raises JournalError when the file exists already or cannot be created. After a failed append
    every later append raises the same error, so that the torn line stays the last one; a
    workload or a run that cannot append cannot write its end either, and that is how the history
    learns that it proves nothing.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._encode = msgspec.json.Encoder().encode
        # An RLock: a signal handler may append while the same thread is appending.
        self._lock = threading.RLock()
        self._failure: str = ""
        try:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            self._fd = os.open(file, flags, FILE_MODE)
        except FileExistsError:
            raise JournalError(
                f"journal {file} exists already; every writer needs a file of its own"
            ) from None
        except OSError as error:
            raise JournalError(f"journal {file} cannot be created: {_why(error)}") from error

    def append(self, event: Event) -> None:
        """Write one event; when this returns, the kernel has it. Raises JournalError."""
        line = self._encode(event) + b"\n"
        with self._lock:
            if self._failure:
                raise JournalError(self._failure)
            try:
                written = os.write(self._fd, line)
            except OSError as error:
                self._fail(_why(error))
            else:
                if written != len(line):
                    self._fail(_why(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))))

    @property
    def failure(self) -> str:
        """Why this journal can no longer be written; empty as long as it can."""
        return self._failure

    def close(self) -> None:
        """Flush to the disk and close; idempotent. Raises JournalError when the disk refuses."""
        with self._lock:
            fd, self._fd = self._fd, -1
            if fd < 0:
                return
            had_failed = bool(self._failure)
            self._failure = self._failure or f"journal {self.file} is closed"
            try:
                os.fsync(fd)
            except OSError as error:
                if not had_failed:
                    raise JournalError(
                        f"journal {self.file} could not be flushed: {_why(error)}"
                    ) from error
            finally:
                os.close(fd)

    def _fail(self, why: str) -> None:
        self._failure = f"journal {self.file} cannot be written: {why}"
        raise JournalError(self._failure)

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _why(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return (
            "the disk is full; this run can prove nothing any more: "
            "free some space or choose another place with --out, then run again"
        )
    return error.strerror or str(error)
