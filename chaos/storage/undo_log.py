"""What a power cut takes away: how to bring each file back to what was last synced.

It changes nothing until `roll_back`. What counts as durable is what ext4 and XFS give: fsync of a
file makes its content durable, and every earlier change of names and folders with it (one journal,
in order). Content of other files stays at risk. What was there when the log began is durable.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import stat
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from chaos.storage import wire
from chaos.storage.files import Answer, Body, Caller, Files
from chaos.storage.tree import Key, Node

CHUNK = 1 << 20  # bytes copied at a time
SPILL = "old-content"


@dataclass(slots=True)
class _Piece:
    """What was at `offset` before: `size` bytes that lie at `kept` in the spill file. `written` is
    how many bytes took their place."""

    offset: int
    kept: int
    size: int
    length: int  # of the whole file, before
    written: int


@dataclass(slots=True)
class _Dirty:
    """One file with content that is not synced; `handle` is our own, for its inode."""

    handle: int
    path: bytes
    pieces: list[_Piece] = field(default_factory=list)


class UndoLog:
    """Undo of everything since the last sync. All changes go through `do`, one at a time."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._lock = threading.RLock()
        self._dirty: dict[Key, _Dirty] = {}
        self._names: list[tuple[Callable[[], None], bytes]] = []  # undo of a change of names
        self._cut = False
        self._closed = False
        self._count = 0
        self._end = 0
        self._hidden: dict[Key, int] = {}
        self._folder = tempfile.mkdtemp(dir=os.path.dirname(files.root), prefix=b".shadow-")
        self._spill = os.open(self._kept(SPILL.encode()), os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)

    def do(self, op: int, number: int, caller: Caller, body: Body, skip_sync: bool) -> Answer:
        """Do one operation so that it can be undone; `skip_sync`: syncs say yes and do nothing."""
        with self._lock:
            if self._cut:
                raise OSError(errno.EIO, "the power is cut")
            if self._closed:  # the fault ended while this one was on its way
                return self._files.serve(op, number, caller, body)
            if op in (wire.Op.FSYNC, wire.Op.FSYNCDIR):
                if skip_sync:
                    return b""
                answer = self._files.serve(op, number, caller, body)
                self._synced(self._files.open.get(wire.HANDLE_IN.unpack_from(body)[0]))
                return answer
            undo, path = self._before(op, number, body)
            answer = self._files.serve(op, number, caller, body)
            if undo:
                self._names.append((undo, path))
            if op == wire.Op.WRITE and not skip_sync:
                handle = wire.IO_IN.unpack_from(body)[0]
                if fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_DSYNC:
                    self._synced(self._files.open.get(handle))
            return answer

    def roll_back(self) -> dict[str, int]:
        """Undo everything that is not synced: how many files, bytes and changes of names."""
        with self._lock:
            self._cut = True
            lost = {"files": len(self._dirty), "bytes": 0, "names": len(self._names)}
            for dirty in self._dirty.values():
                for piece in reversed(dirty.pieces):
                    lost["bytes"] += piece.written
                    self._put_back(dirty.handle, piece)
                os.fsync(dirty.handle)
            for undo, _ in reversed(self._names):
                undo()
            self._names.clear()
            self._forget_all()
            return lost

    def close(self) -> None:
        """Forget everything: what is there stays there."""
        with self._lock:
            self._forget_all()
            self._names.clear()
            self._show_all()
            os.close(self._spill)
            shutil.rmtree(self._folder, ignore_errors=True)
            self._closed = True

    # ------------------------------------------------------------ what was before

    def _before(self, op: int, number: int, body: Body) -> tuple[Callable[[], None] | None, bytes]:
        """Note what an operation will overwrite; returns the undo of its change of names."""
        files = self._files
        if op == wire.Op.WRITE:
            handle, offset, size, _ = wire.IO_IN.unpack_from(body)
            self._note(files.open[handle], offset, size)
        elif op == wire.Op.FALLOCATE:
            handle, offset, size, _ = wire.FALLOCATE_IN.unpack_from(body)
            self._note(files.open[handle], offset, size)
        elif op == wire.Op.SETATTR:
            return self._before_setattr(number, body)
        elif op in (wire.Op.RENAME, wire.Op.RENAME2):
            return self._before_rename(op, number, body)
        elif op in (wire.Op.UNLINK, wire.Op.RMDIR):
            path = files.child(number, _first(body))
            return self._bring_back(path), path
        else:
            skip = {
                wire.Op.CREATE: wire.CREATE_IN.size, wire.Op.MKDIR: wire.MKDIR_IN.size,
                wire.Op.MKNOD: wire.MKNOD_IN.size, wire.Op.LINK: wire.LINK_IN.size,
            }.get(wire.Op(op), 0)  # fmt: skip
            path = files.child(number, _first(body[skip:]))
            if not os.path.lexists(files.behind(path)):
                return lambda: self._remove(path), path
        return None, b""

    def _before_setattr(self, number: int, body: Body) -> tuple[Callable[[], None] | None, bytes]:
        valid, _, _, size, *_ = wire.SETATTR_IN.unpack_from(body)
        node = self._files.tree.nodes[number]
        before = self._files.stat(node)
        if valid & wire.SET_SIZE:
            self._note(node, min(size, before.st_size), max(0, before.st_size - size))
        if valid & (wire.SET_MODE | wire.SET_UID | wire.SET_GID) and node.paths:
            place = self._files.behind(node.paths[-1])

            def undo() -> None:
                with contextlib.suppress(OSError):
                    os.chown(place, before.st_uid, before.st_gid, follow_symlinks=False)
                    if not stat.S_ISLNK(before.st_mode):
                        os.chmod(place, stat.S_IMODE(before.st_mode))

            return undo, node.paths[-1]
        return None, b""

    def _before_rename(
        self, op: int, number: int, body: Body
    ) -> tuple[Callable[[], None] | None, bytes]:  # fmt: skip
        if op == wire.Op.RENAME:
            (folder,), flags, names = wire.RENAME_IN.unpack_from(body), 0, body[8:]
        else:
            folder, flags, _ = wire.RENAME2_IN.unpack_from(body)
            names = body[wire.RENAME2_IN.size :]
        first, second = bytes(names).split(b"\0")[:2]
        files = self._files
        old, new = files.child(number, first), files.child(folder, second)
        if flags:
            return lambda: files.move(new, old, flags & ~1), new
        replaced = self._bring_back(new) if os.path.lexists(files.behind(new)) else None

        def undo() -> None:
            files.move(new, old)
            if replaced:
                replaced()

        return undo, new

    def _bring_back(self, path: bytes) -> Callable[[], None]:
        """Keep what is about to lose its name; returns what gives it back."""
        files = self._files
        behind = files.behind(path)
        seen = os.lstat(behind)
        if stat.S_ISDIR(seen.st_mode):

            def make() -> None:
                os.mkdir(behind, stat.S_IMODE(seen.st_mode))
                os.chown(behind, seen.st_uid, seen.st_gid)

            return make
        self._count += 1
        kept = self._kept(b"%d" % self._count)
        os.link(behind, kept, follow_symlinks=False)
        key = (seen.st_dev, seen.st_ino)
        self._hide(key, 1)

        def restore() -> None:
            files.tree.removed(path)
            os.rename(kept, behind)
            self._hide(key, -1)

        return restore

    def _hide(self, key: Key, more: int) -> None:
        """So many more names of the file are ours alone."""
        for counts in (self._hidden, self._files.hidden):
            counts[key] = counts.get(key, 0) + more
            if not counts[key]:
                del counts[key]

    def _show_all(self) -> None:
        for key, count in list(self._hidden.items()):
            self._hide(key, -count)

    def _remove(self, path: bytes) -> None:
        behind = self._files.behind(path)
        is_folder = os.path.isdir(behind) and not os.path.islink(behind)
        (os.rmdir if is_folder else os.unlink)(behind)
        self._files.tree.removed(path)

    def _note(self, node: Node, offset: int, size: int) -> None:
        """Keep what is in that part of the file now."""
        dirty = self._dirty.get(node.key)
        if dirty is None:
            place = self._files.own_handle(node)
            dirty = self._dirty[node.key] = _Dirty(place, node.paths[-1] if node.paths else b"")
        length = os.fstat(dirty.handle).st_size
        piece = _Piece(offset, self._end, max(0, min(size, length - offset)), length, size)
        done = 0
        while done < piece.size:
            part = os.pread(dirty.handle, min(CHUNK, piece.size - done), offset + done)
            if not part:
                break
            os.pwrite(self._spill, part, self._end + done)
            done += len(part)
        piece.size = done
        self._end += done
        dirty.pieces.append(piece)

    def _put_back(self, handle: int, piece: _Piece) -> None:
        done = 0
        while done < piece.size:
            part = os.pread(self._spill, min(CHUNK, piece.size - done), piece.kept + done)
            done += os.pwrite(handle, part, piece.offset + done)
        os.ftruncate(handle, piece.length)

    # ------------------------------------------------------------ what is durable

    def _synced(self, node: Node | None) -> None:
        if node is not None and (dirty := self._dirty.pop(node.key, None)):
            os.close(dirty.handle)
        if self._names:
            self._names.clear()
            self._show_all()
            self._empty_folder()
        if not self._dirty and self._end:
            os.ftruncate(self._spill, 0)
            self._end = 0

    def _empty_folder(self) -> None:
        for name in os.listdir(self._folder):
            if name != SPILL.encode():
                os.unlink(self._kept(name))

    def _forget_all(self) -> None:
        for dirty in self._dirty.values():
            os.close(dirty.handle)
        self._dirty.clear()

    def _kept(self, name: bytes) -> bytes:
        return self._folder + b"/" + name


def _first(body: Body) -> bytes:
    return bytes(body).partition(b"\0")[0]
