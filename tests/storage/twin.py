"""One operation on files, done in two folders: whatever happens in one must happen in the other."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

NAMES = ("a", "b", "c", "d/a", "d/b", "d/e/a", "d", "d/e", "l")
MOST_BYTES = 40_000

name = st.sampled_from(NAMES)
offset = st.integers(0, MOST_BYTES)
size = st.integers(0, 9_000)
number = st.integers(0, 3)  # of an open handle

operation = st.one_of(
    st.tuples(st.just("open"), name, st.sampled_from(["r", "w", "a", "x", "t"])),
    st.tuples(st.just("close"), number),
    st.tuples(st.just("write"), number, offset, size, st.integers(0, 255)),
    st.tuples(st.just("append"), number, size, st.integers(0, 255)),
    st.tuples(st.just("read"), number, offset, size),
    st.tuples(st.just("truncate"), number, offset),
    st.tuples(st.just("truncate_name"), name, offset),
    st.tuples(st.just("fsync"), number),
    st.tuples(st.just("fdatasync"), number),
    st.tuples(st.just("fallocate"), number, offset, st.integers(1, 9_000)),
    st.tuples(st.just("mmap"), number, st.integers(0, 8_000), st.integers(0, 255)),
    st.tuples(st.just("fstat"), number),
    st.tuples(st.just("lock"), number),
    st.tuples(st.just("rename"), name, name),
    st.tuples(st.just("link"), name, name),
    st.tuples(st.just("symlink"), name, name),
    st.tuples(st.just("unlink"), name),
    st.tuples(st.just("mkdir"), name),
    st.tuples(st.just("rmdir"), name),
    st.tuples(st.just("chmod"), name, st.sampled_from([0o600, 0o644, 0o700, 0o751])),
    st.tuples(st.just("utime"), name, st.integers(0, 2_000_000_000_000_000_000)),
    st.tuples(st.just("stat"), name),
    st.tuples(st.just("list"), name),
)
operations = st.lists(operation, min_size=1, max_size=40)
BEGINNING: tuple[tuple[Any, ...], ...] = (
    ("mkdir", "d"), ("mkdir", "d/e"), ("open", "a", "w"), ("write", 0, 3000, 9000, 1),
    ("open", "d/a", "w"), ("open", "a", "a"),
)  # fmt: skip
"""So that most operations find something: two files, one of them open a second time to append."""


@dataclass
class Side:
    """One of the two folders, with the handles that are open in it."""

    root: Path
    handles: list[int] = field(default_factory=list)

    def do(self, what: tuple[Any, ...]) -> Any:
        """The result of an operation, or the name of its error."""
        act: Callable[..., Any] = getattr(self, "_" + what[0])
        try:
            return act(*what[1:])
        except OSError as error:
            return errno.errorcode[error.errno or 0]

    def close(self) -> None:
        while self.handles:
            os.close(self.handles.pop())

    def _handle(self, which: int) -> int:
        if not self.handles:
            raise OSError(errno.EBADF, "none is open")
        return self.handles[which % len(self.handles)]

    def _open(self, path: str, how: str) -> str:
        flags = {
            "r": os.O_RDONLY, "w": os.O_RDWR | os.O_CREAT, "a": os.O_RDWR | os.O_APPEND,
            "x": os.O_RDWR | os.O_CREAT | os.O_EXCL, "t": os.O_RDWR | os.O_TRUNC,
        }[how]  # fmt: skip
        self.handles.append(os.open(self.root / path, flags, 0o640))
        return "open"

    def _close(self, which: int) -> None:
        handle = self._handle(which)
        self.handles.remove(handle)
        os.close(handle)

    def _write(self, which: int, at: int, count: int, byte: int) -> int:
        return os.pwrite(self._handle(which), bytes([byte]) * count, at)

    def _append(self, which: int, count: int, byte: int) -> int:
        return os.write(self._handle(which), bytes([byte]) * count)

    def _read(self, which: int, at: int, count: int) -> bytes:
        return os.pread(self._handle(which), count, at)

    def _truncate(self, which: int, to: int) -> None:
        os.ftruncate(self._handle(which), to)

    def _truncate_name(self, path: str, to: int) -> None:
        os.truncate(self.root / path, to)

    def _fsync(self, which: int) -> None:
        os.fsync(self._handle(which))

    def _fdatasync(self, which: int) -> None:
        os.fdatasync(self._handle(which))

    def _fallocate(self, which: int, at: int, count: int) -> None:
        os.posix_fallocate(self._handle(which), at, count)

    def _mmap(self, which: int, at: int, byte: int) -> bytes:
        handle = self._handle(which)
        length = os.fstat(handle).st_size
        if at >= length:
            raise OSError(errno.EINVAL, "behind the end")
        try:
            with mmap.mmap(handle, length) as memory:
                before = memory[at : at + 4]
                memory[at] = byte
                memory.flush()
        except ValueError:
            raise OSError(errno.EINVAL, "cannot be mapped") from None
        return before + os.pread(handle, 4, at)

    def _fstat(self, which: int) -> Any:
        return shown(os.fstat(self._handle(which)))

    def _lock(self, which: int) -> None:
        handle = self._handle(which)
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.lockf(handle, fcntl.LOCK_UN)

    def _rename(self, old: str, new: str) -> None:
        os.rename(self.root / old, self.root / new)

    def _link(self, old: str, new: str) -> None:
        os.link(self.root / old, self.root / new, follow_symlinks=False)

    def _symlink(self, goal: str, path: str) -> None:
        os.symlink(goal, self.root / path)

    def _unlink(self, path: str) -> None:
        os.unlink(self.root / path)

    def _mkdir(self, path: str) -> None:
        os.mkdir(self.root / path, 0o755)

    def _rmdir(self, path: str) -> None:
        os.rmdir(self.root / path)

    def _chmod(self, path: str, mode: int) -> None:
        os.chmod(self.root / path, mode)

    def _utime(self, path: str, at_ns: int) -> None:
        os.utime(self.root / path, ns=(at_ns, at_ns), follow_symlinks=False)

    def _stat(self, path: str) -> Any:
        return shown(os.lstat(self.root / path))

    def _list(self, path: str) -> list[tuple[str, bool, bool]]:
        with os.scandir(self.root / path) as entries:
            return sorted((e.name, e.is_dir(), e.is_symlink()) for e in entries)


def shown(seen: os.stat_result) -> Any:
    """What both sides must agree on."""
    is_folder = stat.S_ISDIR(seen.st_mode)
    size_seen = 0 if is_folder else seen.st_size
    return seen.st_mode, seen.st_nlink, seen.st_uid, seen.st_gid, size_seen


def tree(root: Path) -> dict[str, Any]:
    """Every name under a folder, with what it is and holds."""
    found: dict[str, Any] = {}
    for folder, folders, files in os.walk(root):
        for entry in (*folders, *files):
            path = Path(folder, entry)
            what = shown(path.lstat())
            content: Any = ""
            if path.is_symlink():
                content = os.readlink(path)
            elif path.is_file():
                content = path.read_bytes()
            found[str(path.relative_to(root))] = (what, content)
    return found
