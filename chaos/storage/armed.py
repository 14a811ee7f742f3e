"""One fault that is armed on an array: what it makes of an operation, and its counters.

It does nothing itself: it says what shall be done.
"""

from __future__ import annotations

import errno
import fnmatch
import os
import random
import re
import statistics
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from chaos.storage import wire
from chaos.storage.files import Files
from chaos.storage.spec import OPERATIONS, Operation, Spec
from chaos.storage.undo_log import UndoLog
from chaos.storage.waiting import Request

KEPT_MATCHES = 20_000
SECTOR = 512  # a disk writes whole sectors

CLASSES: dict[int, Operation] = {
    **dict.fromkeys(wire.Op, "meta"),
    wire.Op.READ: "read", wire.Op.WRITE: "write", wire.Op.FALLOCATE: "write",
    wire.Op.FSYNC: "fsync", wire.Op.FSYNCDIR: "fsync",
}  # fmt: skip
UNTOUCHED = frozenset({wire.Op.RELEASE, wire.Op.RELEASEDIR, wire.Op.FLUSH})
"""A handle can always be closed: the kernel waits for no answer there."""
MAKING = frozenset({wire.Op.CREATE, wire.Op.MKDIR, wire.Op.MKNOD, wire.Op.SYMLINK, wire.Op.LINK})
CHANGING = MAKING | {
    wire.Op.WRITE, wire.Op.FALLOCATE, wire.Op.UNLINK, wire.Op.RMDIR, wire.Op.RENAME,
    wire.Op.RENAME2, wire.Op.SETATTR,
}  # fmt: skip


@dataclass(slots=True)
class Ruling:
    """What shall become of one request: wait so long, then fail so, or be done (in part)."""

    delay_s: float = 0.0
    error: int = 0
    torn: int = -1  # so many bytes of the write are done before the error; -1: it is not torn
    free: int = -1  # so many bytes are said to be free; -1: the truth
    skipped: bool = False  # answered as done, and not done
    log: UndoLog | None = None
    hit: list[Armed] = field(default_factory=list)  # slow faults that want to know how long it took


class Armed:
    """One fault that is armed, with its counters."""

    def __init__(self, spec: Spec, files: Files) -> None:
        self.spec = spec
        self.files = files
        self.began = time.monotonic()
        self.ends = self.began + spec.expires_s if spec.expires_s > 0 else float("inf")
        self.over = ""  # how it ended
        self.seen = 0
        self.acted = 0
        self.by_operation = dict.fromkeys(OPERATIONS, 0)
        self.gone = spec.kind == "gone"
        self.left = spec.free_bytes
        self.flipped: list[dict[str, Any]] = []
        self.lost: dict[str, int] = {}
        self.took_ms: deque[tuple[float, float]] = deque(maxlen=10_000)  # ordered, really
        self.log = UndoLog(files) if spec.kind == "unsynced" else None
        self._operations = frozenset(spec.operations or OPERATIONS)
        self._random = random.Random(f"{spec.seed} {spec.kind}")
        self._free_at = 0.0  # slow: when what was ordered before has passed
        self._glob = re.compile(fnmatch.translate(spec.path)) if spec.path else None
        self._matches: dict[bytes, bool] = {}
        self._lock = threading.Lock()

    def concerns(self, path: bytes) -> bool:
        """Whether the name inside the array is one of its."""
        if self._glob is None:
            return True
        known = self._matches.get(path)
        if known is None:
            if len(self._matches) > KEPT_MATCHES:
                self._matches.clear()
            name = os.fsdecode(path)
            known = self._glob.match(name) is not None or name + "/*" == self.spec.path
            self._matches[path] = known
        return known

    def rule(
        self, request: Request, operation: Operation, paths: list[bytes], so_far: Ruling
    ) -> None:
        """Add this fault's word to the ruling."""
        if not any(map(self.concerns, paths)):
            return
        with self._lock:
            acted = self._rule(request, operation, so_far)
            if acted is not None:
                self.seen += 1
                if acted:
                    self.count(operation)

    def count(self, operation: Operation) -> None:
        self.acted += 1
        self.by_operation[operation] += 1

    def _rule(self, request: Request, operation: Operation, ruling: Ruling) -> bool | None:
        """True: acted upon; False: let pass; None: none of its business."""
        kind = self.spec.kind
        if self.gone:
            ruling.error = self.spec.errno
            return True
        if kind == "slow":
            return self._slow(request, operation, ruling)
        if kind == "failing":
            if operation not in self._operations:
                return None
            if chosen := self._chosen():
                ruling.error = self.spec.errno
            return chosen
        if kind == "torn":
            return self._tear(request, ruling) if request.op == wire.Op.WRITE else None
        if kind == "full":
            return self._fill(request, ruling)
        if kind == "read_only":
            writing = request.op in CHANGING or (
                request.op == wire.Op.OPEN
                and wire.OPEN_IN.unpack_from(request.body)[0] & os.O_ACCMODE != os.O_RDONLY
            )
            if writing:
                ruling.error = errno.EROFS
            return writing
        if kind == "unsynced" and (request.op in CHANGING or operation == "fsync"):
            ruling.log = self.log
            ruling.skipped = ruling.skipped or (self.spec.lying and operation == "fsync")
            return True
        return None  # hung is looked at when the request is about to be done; rot has happened

    def _chosen(self) -> bool:
        """Whether the operation after `seen` others is one of those to act upon."""
        s, number = self.spec, self.seen + 1
        if s.probability:
            return self._random.random() < s.probability
        if s.nth:
            return number == s.nth
        return number % s.every == 0 if s.every else True

    def _slow(self, request: Request, operation: Operation, ruling: Ruling) -> bool | None:
        if operation not in self._operations:
            return None
        s = self.spec
        delay = (s.latency_ms + self._random.uniform(-s.jitter_ms, s.jitter_ms)) / 1e3
        if s.kb_per_s and operation in ("read", "write") and request.op != wire.Op.FALLOCATE:
            size = wire.IO_IN.unpack_from(request.body)[2]
            self._free_at = max(request.came, self._free_at) + size / (s.kb_per_s * 1e3)
            delay += self._free_at - request.came
        ruling.delay_s += delay
        ruling.hit.append(self)
        return True

    def _tear(self, request: Request, ruling: Ruling) -> bool:
        if not self._chosen():
            return False
        size = wire.IO_IN.unpack_from(request.body)[2]
        sectors = (size - 1) // SECTOR
        ruling.torn = self._random.randint(0, sectors) * SECTOR if sectors else 0
        ruling.error = self.spec.errno
        self.gone = self.spec.then == "gone"
        return True

    def _fill(self, request: Request, ruling: Ruling) -> bool | None:
        op = request.op
        if op == wire.Op.STATFS:
            ruling.free = max(0, self.left)
            return False  # a question is not a write that found no space
        if op in (wire.Op.UNLINK, wire.Op.SETATTR):
            self.left += self._given_back(request)
            return None
        if op in MAKING:
            grown, wanted = 0, 1
        elif op == wire.Op.WRITE:
            handle, offset, size, _ = wire.IO_IN.unpack_from(request.body)
            grown = wanted = max(0, offset + size - _size(handle))
        elif op == wire.Op.FALLOCATE:
            handle, offset, size, _ = wire.FALLOCATE_IN.unpack_from(request.body)
            grown = wanted = max(0, offset + size - _size(handle))
        else:
            return None
        if not wanted or wanted <= self.left:
            self.left -= grown
            return False
        ruling.error = errno.ENOSPC
        return True

    def _given_back(self, request: Request) -> int:
        """Bytes that come free by removing or shortening a file."""
        try:
            if request.op == wire.Op.UNLINK:
                name = bytes(request.body).partition(b"\0")[0]
                seen = os.lstat(self.files.behind(self.files.child(request.number, name)))
                return seen.st_size if seen.st_nlink == 1 else 0
            valid, _, _, size, *_ = wire.SETATTR_IN.unpack_from(request.body)
            node = self.files.tree.nodes[request.number]
            return max(0, self.files.stat(node).st_size - size) if valid & wire.SET_SIZE else 0
        except (OSError, KeyError):
            return 0

    def hangs(self, operation: Operation, paths: list[bytes]) -> bool:
        """Whether an operation has to wait until this fault is over."""
        hung = self.spec.kind == "hung" and not self.over and operation in self._operations
        return hung and any(map(self.concerns, paths))

    def record(self, waiting: int = 0) -> dict[str, Any]:
        """What it saw and did, as the control socket tells it."""
        took = list(self.took_ms)
        off = [really - ordered for ordered, really in took]
        return {
            "name": self.spec.name, "kind": self.spec.kind, "over": self.over, "seen": self.seen,
            "acted": self.acted, "by_operation": self.by_operation, "waiting": waiting,
            "gone": self.gone, "flipped": self.flipped, "lost": self.lost,
            "ordered_ms": statistics.median(o for o, _ in took) if took else 0.0,
            "took_ms": statistics.median(r for _, r in took) if took else 0.0,
            "latest_off_ms": max(off, default=0.0),
        }  # fmt: skip


def _size(handle: int) -> int:
    try:
        return os.fstat(handle).st_size
    except OSError:
        return 0
