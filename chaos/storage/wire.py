"""The kernel's FUSE protocol: numbers and layouts, version 7.31 and later (Linux 5.4).

Pure: it opens nothing. Source: include/uapi/linux/fuse.h of the Linux kernel.
"""

from __future__ import annotations

import os
import struct
from enum import IntEnum


class Op(IntEnum):
    """What the kernel asks for."""

    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    SETATTR = 4
    READLINK = 5
    SYMLINK = 6
    MKNOD = 8
    MKDIR = 9
    UNLINK = 10
    RMDIR = 11
    RENAME = 12
    LINK = 13
    OPEN = 14
    READ = 15
    WRITE = 16
    STATFS = 17
    RELEASE = 18
    FSYNC = 20
    FLUSH = 25
    INIT = 26
    OPENDIR = 27
    READDIR = 28
    RELEASEDIR = 29
    FSYNCDIR = 30
    CREATE = 35
    INTERRUPT = 36
    DESTROY = 38
    BATCH_FORGET = 42
    FALLOCATE = 43
    RENAME2 = 45
    LSEEK = 46


VERSION, OLDEST_MINOR, MINOR = 7, 31, 31
ROOT = 1  # the node of the mounted folder itself

MAX_WRITE = 1 << 20  # bytes of one write; the kernel splits longer ones
MAX_PAGES = MAX_WRITE // 4096
REQUEST_BYTES = MAX_WRITE + (64 << 10)  # the longest request: a write and its headers

ASYNC_READ, BIG_WRITES = 1 << 0, 1 << 5
PARALLEL_DIROPS, HAS_MAX_PAGES, INIT_EXT = 1 << 18, 1 << 22, 1 << 30
DIRECT_IO_MMAP = 1 << 4  # of the second word of flags, Linux 6.6: FUSE_DIRECT_IO_ALLOW_MMAP

OPEN_DIRECT_IO = 1 << 0  # no page cache: every read and write comes to us
OPEN_NO_FLUSH = 1 << 5

SET_MODE, SET_UID, SET_GID, SET_SIZE, SET_ATIME, SET_MTIME = (1 << n for n in range(6))
SET_HANDLE, SET_ATIME_NOW, SET_MTIME_NOW = 1 << 6, 1 << 7, 1 << 8

FSYNC_DATA_ONLY = 1
WRITE_FROM_CACHE = 1

HEADER = struct.Struct("<IIQQIIIHH")  # length, op, unique, node, uid, gid, pid, extensions
ANSWER = struct.Struct("<IiQ")  # length, -errno, unique
INIT_IN = struct.Struct("<IIII")
INIT_OUT = struct.Struct("<IIIIHHIIHHI28x")
ATTR = struct.Struct("<QQQqqqIIIIIIIIII")
NODE = struct.Struct("<QQQQII")  # node, generation, validity of name and attributes
VALID = struct.Struct("<QI4x")
IO_IN = struct.Struct("<QQII")  # handle, offset, size, flags (of reads and writes)
IO_IN_BYTES = 40
WRITTEN = struct.Struct("<I4x")
OPEN_IN = struct.Struct("<II")
OPENED = struct.Struct("<QII")
CREATE_IN = struct.Struct("<IIII")
SETATTR_IN = struct.Struct("<II6Q8I")
MKNOD_IN = struct.Struct("<IIII")
MKDIR_IN = struct.Struct("<II")
RENAME_IN = struct.Struct("<Q")
RENAME2_IN = struct.Struct("<QII")
LINK_IN = struct.Struct("<Q")
HANDLE_IN = struct.Struct("<QI")
FALLOCATE_IN = struct.Struct("<QQQI4x")
LSEEK_IN = struct.Struct("<QqI4x")
LSEEK_OUT = struct.Struct("<q")
FORGET_IN = struct.Struct("<Q")
FORGET_MANY_IN = struct.Struct("<II")
FORGET_ONE = struct.Struct("<QQ")
INTERRUPT_IN = struct.Struct("<Q")
STATFS_OUT = struct.Struct("<5QIIII24x")
DIRENT = struct.Struct("<QQII")

SEEN_VALID_S, SEEN_VALID_NS = 0, 20_000_000
"""How long the kernel may believe what it saw of a file: 20 ms. Long enough that it asks once for
one call, short enough that a fault on looking at files is felt within its 50 ms."""


def attributes(seen: os.stat_result, hidden: int) -> bytes:
    """What the kernel wants to know of a file; `hidden` of its names are ours alone."""
    atime, mtime, ctime = seen.st_atime_ns, seen.st_mtime_ns, seen.st_ctime_ns
    return ATTR.pack(
        seen.st_ino, seen.st_size, seen.st_blocks,
        atime // 1_000_000_000, mtime // 1_000_000_000, ctime // 1_000_000_000,
        atime % 1_000_000_000, mtime % 1_000_000_000, ctime % 1_000_000_000,
        seen.st_mode, seen.st_nlink - hidden, seen.st_uid, seen.st_gid,
        _device(seen.st_rdev), seen.st_blksize, 0,
    )  # fmt: skip


def node(number: int, seen: os.stat_result, hidden: int = 0) -> bytes:
    """The answer to whoever looked up or made a file."""
    valid = (SEEN_VALID_S, SEEN_VALID_S, SEEN_VALID_NS, SEEN_VALID_NS)
    return NODE.pack(number, 0, *valid) + attributes(seen, hidden)


def looked(seen: os.stat_result, hidden: int = 0) -> bytes:
    """The answer to whoever asked for the attributes."""
    return VALID.pack(SEEN_VALID_S, SEEN_VALID_NS) + attributes(seen, hidden)


def entry(number: int, offset: int, name: bytes, kind: int) -> bytes:
    """One line of a folder, padded to eight bytes."""
    gap = -len(name) % 8
    return DIRENT.pack(number, offset, len(name), kind) + name + b"\0" * gap


def _device(number: int) -> int:
    major, minor = os.major(number), os.minor(number)
    return (minor & 0xFF) | (major << 8) | ((minor & ~0xFF) << 12)
