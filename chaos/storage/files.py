"""Every operation on a file system, done on the folder behind the mount.

It decides nothing: whatever the folder's own file system answers is the answer, an error included.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import stat
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from chaos.storage import wire
from chaos.storage.tree import Key, Node, Tree

Body = memoryview
Answer = bytes
NOT_OURS = os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_TRUNC | os.O_DIRECT
"""Flags of an open that the kernel has already done its part for, or that would spoil ours: with
O_APPEND Linux writes at the end whatever the offset says."""
NOREPLACE, EXCHANGE = 1, 2  # flags of renameat2
AT_FDCWD = -100
UNKNOWN_KIND = 0

_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]


class NotDone(Exception):
    """An operation that this file system does not have."""


class Caller(NamedTuple):
    """Who asks; `thread` is the caller's thread, 0 for the kernel itself."""

    uid: int
    gid: int
    thread: int


class Files:
    """The folder `root` as the kernel sees it through the mount."""

    def __init__(self, root: str, direct: bool) -> None:
        """`direct`: every read and write shall come here, past the kernel's page cache."""
        self.root = os.fsencode(os.path.realpath(root))
        seen = os.stat(self.root)
        self.tree = Tree((seen.st_dev, seen.st_ino))
        self.open_flags = wire.OPEN_DIRECT_IO if direct else 0
        self.open: dict[int, Node] = {}  # handle → its node
        self._listed: dict[int, list[tuple[int, bytes, int]]] = {}  # folder handle → its lines
        self.hidden: dict[Key, int] = {}  # names that an undo log keeps of files
        self._me = (os.geteuid(), os.getegid())
        self._moving = threading.RLock()  # held while a file changes its name, here and behind
        self._moves = 0
        self._closing = threading.Lock()
        self._handlers = self.handlers()

    def serve(self, op: int, number: int, caller: Caller, body: Body) -> Answer:
        """Do one operation. OSError is an answer, too; NotDone for one that is not known here."""
        if (handler := self._handlers.get(op)) is None:
            raise NotDone(op)
        before = self._moves
        try:
            return handler(number, caller, body)
        except FileNotFoundError:
            # it may have changed its name between our asking for that and our using it
            with self._moving:
                if self._moves == before:
                    raise
                return handler(number, caller, body)

    def handlers(self) -> dict[int, Callable[[int, Caller, Body], Answer]]:
        """What is done for each of the kernel's operations that have an answer."""
        return {
            wire.Op.LOOKUP: self.lookup, wire.Op.GETATTR: self.getattr,
            wire.Op.SETATTR: self.setattr, wire.Op.READLINK: self.readlink,
            wire.Op.SYMLINK: self.symlink, wire.Op.MKNOD: self.mknod, wire.Op.MKDIR: self.mkdir,
            wire.Op.UNLINK: self.unlink, wire.Op.RMDIR: self.rmdir, wire.Op.RENAME: self.rename,
            wire.Op.RENAME2: self.rename2, wire.Op.LINK: self.link, wire.Op.OPEN: self.open_file,
            wire.Op.READ: self.read, wire.Op.WRITE: self.write, wire.Op.STATFS: self.statfs,
            wire.Op.RELEASE: self.release, wire.Op.FSYNC: self.fsync,
            wire.Op.OPENDIR: self.opendir, wire.Op.READDIR: self.readdir,
            wire.Op.RELEASEDIR: self.release, wire.Op.FSYNCDIR: self.fsync,
            wire.Op.CREATE: self.create, wire.Op.FALLOCATE: self.fallocate,
            wire.Op.LSEEK: self.lseek,
        }  # fmt: skip

    # ------------------------------------------------------------ names

    def path(self, number: int) -> bytes:
        """The node's name inside the array; ENOENT for a file that has none any more."""
        node = self._node(number)
        if not node.paths:
            raise FileNotFoundError(errno.ENOENT, "it has no name any more")
        return node.paths[-1]

    def behind(self, path: bytes) -> bytes:
        """Where that name lies in the folder behind."""
        return self.root + b"/" + path if path else self.root

    def child(self, number: int, name: bytes) -> bytes:
        """The name of something in a folder."""
        parent = self.path(number)
        return parent + b"/" + name if parent else name

    def _node(self, number: int) -> Node:
        node = self.tree.nodes.get(number)
        if node is None:
            raise OSError(errno.ESTALE, "the kernel asks for a node that it had forgotten")
        return node

    def _look(self, path: bytes) -> Answer:
        seen = os.lstat(self.behind(path))
        node = self.tree.found(path, (seen.st_dev, seen.st_ino))
        return wire.node(node.number, seen, self._hidden(node))

    def _hidden(self, node: Node) -> int:
        return self.hidden.get(node.key, 0) if self.hidden else 0

    def lookup(self, number: int, _caller: Caller, body: Body) -> Answer:
        return self._look(self.child(number, _name(body)))

    def getattr(self, number: int, _caller: Caller, _body: Body) -> Answer:
        node = self._node(number)
        return wire.looked(self.stat(node), self._hidden(node))

    def stat(self, node: Node) -> os.stat_result:
        """What the file behind is like, also when it has no name any more."""
        if node.paths:
            seen = os.lstat(self.behind(node.paths[-1]))
            if (seen.st_dev, seen.st_ino) != node.key:
                raise FileNotFoundError(errno.ENOENT, "another file has its name now")
            return seen
        with self._closing:
            if node.handles:
                return os.fstat(node.handles[-1])
        raise FileNotFoundError(errno.ENOENT, "it has no name any more")

    # ------------------------------------------------------------ making and removing

    def mkdir(self, number: int, caller: Caller, body: Body) -> Answer:
        mode, _umask = wire.MKDIR_IN.unpack_from(body)
        path = self.child(number, _name(body[wire.MKDIR_IN.size :]))
        os.mkdir(self.behind(path), mode)
        return self._made(path, caller)

    def mknod(self, number: int, caller: Caller, body: Body) -> Answer:
        mode, device, _umask, _ = wire.MKNOD_IN.unpack_from(body)
        path = self.child(number, _name(body[wire.MKNOD_IN.size :]))
        os.mknod(self.behind(path), mode, device)
        return self._made(path, caller)

    def symlink(self, number: int, caller: Caller, body: Body) -> Answer:
        name, _, goal = bytes(body).partition(b"\0")
        path = self.child(number, name)
        os.symlink(goal.rstrip(b"\0"), self.behind(path))
        return self._made(path, caller)

    def link(self, number: int, _caller: Caller, body: Body) -> Answer:
        (old,) = wire.LINK_IN.unpack_from(body)
        path = self.child(number, _name(body[wire.LINK_IN.size :]))
        os.link(self.behind(self.path(old)), self.behind(path), follow_symlinks=False)
        return self._look(path)

    def readlink(self, number: int, _caller: Caller, _body: Body) -> Answer:
        return os.readlink(self.behind(self.path(number)))

    def unlink(self, number: int, _caller: Caller, body: Body) -> Answer:
        with self._moving:
            path = self.child(number, _name(body))
            os.unlink(self.behind(path))
            self.tree.removed(path)
            self._moves += 1
        return b""

    def rmdir(self, number: int, _caller: Caller, body: Body) -> Answer:
        with self._moving:
            path = self.child(number, _name(body))
            os.rmdir(self.behind(path))
            self.tree.removed(path)
            self._moves += 1
        return b""

    def rename(self, number: int, _caller: Caller, body: Body) -> Answer:
        (folder,) = wire.RENAME_IN.unpack_from(body)
        return self._rename(number, folder, 0, body[wire.RENAME_IN.size :])

    def rename2(self, number: int, _caller: Caller, body: Body) -> Answer:
        folder, flags, _ = wire.RENAME2_IN.unpack_from(body)
        return self._rename(number, folder, flags, body[wire.RENAME2_IN.size :])

    def _rename(self, number: int, folder: int, flags: int, names: Body) -> Answer:
        first, second = bytes(names).split(b"\0")[:2]
        with self._moving:
            self.move(self.child(number, first), self.child(folder, second), flags)
            self._moves += 1
        return b""

    def move(self, old: bytes, new: bytes, flags: int = 0) -> None:
        """Rename in the folder behind, as renameat2 does."""
        if not flags:
            same = self._same_file(old, new)
            os.rename(self.behind(old), self.behind(new))
            if not same:  # two names of one file: rename() leaves both
                self.tree.renamed(old, new)
            return
        done = _libc.renameat2(
            AT_FDCWD, self.behind(old), AT_FDCWD, self.behind(new), ctypes.c_uint(flags)
        )
        if done != 0:
            raise OSError(ctypes.get_errno(), "renameat2")
        (self.tree.swapped if flags & EXCHANGE else self.tree.renamed)(old, new)

    def _same_file(self, one: bytes, other: bytes) -> bool:
        try:
            return os.path.samestat(os.lstat(self.behind(one)), os.lstat(self.behind(other)))
        except FileNotFoundError:
            return False

    def _made(self, path: bytes, caller: Caller) -> Answer:
        if (caller.uid, caller.gid) != self._me:
            self._give(self.behind(path), caller)
        return self._look(path)

    def _give(self, path: bytes, caller: Caller) -> None:
        """As root we serve everybody: what somebody makes is his, and of his folder's group where
        that is set so."""
        group = caller.gid
        parent = os.stat(os.path.dirname(path))
        if parent.st_mode & stat.S_ISGID:
            group = parent.st_gid
        mode = os.lstat(path).st_mode
        os.chown(path, caller.uid, group, follow_symlinks=False)
        if not stat.S_ISLNK(mode) and mode & (stat.S_ISUID | stat.S_ISGID):
            os.chmod(path, stat.S_IMODE(mode))

    # ------------------------------------------------------------ attributes

    def setattr(self, number: int, _caller: Caller, body: Body) -> Answer:
        (
            valid, _, _handle, size, _owner, atime, mtime, _ctime, atime_ns, mtime_ns, _ctime_ns,
            mode, _, uid, gid, _,
        ) = wire.SETATTR_IN.unpack_from(body)  # fmt: skip
        node = self._node(number)
        place: bytes | int = self._place(node)
        if valid & (wire.SET_UID | wire.SET_GID):
            owner = uid if valid & wire.SET_UID else -1
            group = gid if valid & wire.SET_GID else -1
            if isinstance(place, int):
                os.fchown(place, owner, group)
            else:
                os.chown(place, owner, group, follow_symlinks=False)
        if valid & wire.SET_MODE:
            os.chmod(place, stat.S_IMODE(mode))
        if valid & wire.SET_SIZE:
            self.truncate(node, size)
        if valid & (wire.SET_ATIME | wire.SET_MTIME):
            seen = self.stat(node)
            now = time.time_ns()
            first, second = _signed(atime) * 10**9 + atime_ns, _signed(mtime) * 10**9 + mtime_ns
            first = now if valid & wire.SET_ATIME_NOW else first
            second = now if valid & wire.SET_MTIME_NOW else second
            times = (
                first if valid & wire.SET_ATIME else seen.st_atime_ns,
                second if valid & wire.SET_MTIME else seen.st_mtime_ns,
            )
            if isinstance(place, int):
                os.utime(place, ns=times)
            else:
                os.utime(place, ns=times, follow_symlinks=False)
        return wire.looked(self.stat(node), self._hidden(node))

    def truncate(self, node: Node, size: int) -> None:
        """Cut the file or fill it up with zeros, through a handle that may write if any."""
        for handle in reversed(node.handles):
            with contextlib.suppress(OSError):
                os.ftruncate(handle, size)
                return
        os.truncate(self._place(node), size)

    def _place(self, node: Node) -> bytes | int:
        if node.paths:
            return self.behind(node.paths[-1])
        if node.handles:
            return node.handles[-1]
        raise FileNotFoundError(errno.ENOENT, "it has no name any more")

    def own_handle(self, node: Node) -> int:
        """A handle of our own to read and write the file, whether it has a name or not."""
        with self._closing:
            for handle in node.handles:
                with contextlib.suppress(OSError):
                    return os.open(f"/proc/self/fd/{handle}", os.O_RDWR | os.O_CLOEXEC)
        place = self.behind(self.path(node.number))
        return os.open(place, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)

    def statfs(self, _number: int, _caller: Caller, _body: Body) -> Answer:
        return self.packed_statfs(os.statvfs(self.root))

    def packed_statfs(self, seen: os.statvfs_result, free: int | None = None) -> Answer:
        """What `df` shows; `free` blocks instead of the real number, when given."""
        left, usable = (seen.f_bfree, seen.f_bavail) if free is None else (free, free)
        return wire.STATFS_OUT.pack(
            seen.f_blocks, left, usable, seen.f_files, seen.f_ffree,
            seen.f_bsize, seen.f_namemax, seen.f_frsize, 0,
        )  # fmt: skip

    # ------------------------------------------------------------ files

    def open_file(self, number: int, _caller: Caller, body: Body) -> Answer:
        flags, _ = wire.OPEN_IN.unpack_from(body)
        node = self._node(number)
        place = self._place(node)
        name = place if isinstance(place, bytes) else f"/proc/self/fd/{place}".encode()
        follow = 0 if isinstance(place, int) else os.O_NOFOLLOW
        return self._opened(node, os.open(name, flags & ~NOT_OURS | follow | os.O_CLOEXEC))

    def create(self, number: int, caller: Caller, body: Body) -> Answer:
        flags, mode, _umask, _ = wire.CREATE_IN.unpack_from(body)
        path = self.child(number, _name(body[wire.CREATE_IN.size :]))
        behind = self.behind(path)
        wanted = flags & ~NOT_OURS | os.O_CREAT | (flags & os.O_EXCL) | os.O_NOFOLLOW
        handle = os.open(behind, wanted | os.O_CLOEXEC, mode)
        try:
            if (caller.uid, caller.gid) != self._me:
                self._give(behind, caller)
            seen = os.fstat(handle)
        except OSError:
            os.close(handle)
            raise
        node = self.tree.found(path, (seen.st_dev, seen.st_ino))
        return wire.node(node.number, seen) + self._opened(node, handle)

    def _opened(self, node: Node, handle: int) -> Answer:
        self.open[handle] = node
        node.handles.append(handle)
        return wire.OPENED.pack(handle, self.open_flags, 0)

    def read(self, _number: int, _caller: Caller, body: Body) -> Answer:
        handle, offset, size, _ = wire.IO_IN.unpack_from(body)
        return os.pread(handle, size, offset)

    def write(self, _number: int, _caller: Caller, body: Body) -> Answer:
        handle, offset, size, _ = wire.IO_IN.unpack_from(body)
        data = body[wire.IO_IN_BYTES : wire.IO_IN_BYTES + size]
        return wire.WRITTEN.pack(os.pwrite(handle, data, offset))

    def fsync(self, _number: int, _caller: Caller, body: Body) -> Answer:
        handle, flags = wire.HANDLE_IN.unpack_from(body)
        (os.fdatasync if flags & wire.FSYNC_DATA_ONLY else os.fsync)(handle)
        return b""

    def release(self, _number: int, _caller: Caller, body: Body) -> Answer:
        handle, _ = wire.HANDLE_IN.unpack_from(body)
        node = self.open.pop(handle, None)
        if node is not None:
            self._listed.pop(handle, None)
            with self._closing:
                node.handles.remove(handle)
                os.close(handle)
        return b""

    def fallocate(self, _number: int, _caller: Caller, body: Body) -> Answer:
        handle, offset, length, mode = wire.FALLOCATE_IN.unpack_from(body)
        if _libc.fallocate(handle, mode, offset, length) != 0:
            raise OSError(ctypes.get_errno(), "fallocate")
        return b""

    def lseek(self, _number: int, _caller: Caller, body: Body) -> Answer:
        handle, offset, whence = wire.LSEEK_IN.unpack_from(body)
        return wire.LSEEK_OUT.pack(os.lseek(handle, offset, whence))

    # ------------------------------------------------------------ folders

    def opendir(self, number: int, _caller: Caller, _body: Body) -> Answer:
        node = self._node(number)
        handle = os.open(self.behind(self.path(number)), os.O_RDONLY | os.O_DIRECTORY)
        self.open[handle] = node
        node.handles.append(handle)
        return wire.OPENED.pack(handle, 0, 0)

    def readdir(self, _number: int, _caller: Caller, body: Body) -> Answer:
        handle, offset, size, _ = wire.IO_IN.unpack_from(body)
        if offset == 0 or handle not in self._listed:
            self._listed[handle] = _lines(handle)
        page = bytearray()
        for place, (number, name, kind) in enumerate(self._listed[handle][offset:], offset + 1):
            line = wire.entry(number, place, name, kind)
            if len(page) + len(line) > size:
                break
            page += line
        return bytes(page)


def _lines(handle: int) -> list[tuple[int, bytes, int]]:
    me = os.fstat(handle)
    lines = [(me.st_ino, b".", stat.S_IFDIR >> 12), (me.st_ino, b"..", stat.S_IFDIR >> 12)]
    with os.scandir(handle) as entries:
        for entry in entries:
            kind = UNKNOWN_KIND
            if entry.is_symlink():
                kind = stat.S_IFLNK >> 12
            elif entry.is_dir(follow_symlinks=False):
                kind = stat.S_IFDIR >> 12
            elif entry.is_file(follow_symlinks=False):
                kind = stat.S_IFREG >> 12
            lines.append((entry.inode(), os.fsencode(entry.name), kind))
    return lines


def _name(body: Body) -> bytes:
    return bytes(body).partition(b"\0")[0]


def _signed(seconds: int) -> int:
    return seconds - (1 << 64) if seconds >= 1 << 63 else seconds
