"""All faults of an array: armed, ended and remembered, and what they make of one operation.

It does nothing itself: it says what shall be done, and keeps count.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable

from chaos.storage import wire
from chaos.storage.armed import CLASSES, UNTOUCHED, Armed, Ruling
from chaos.storage.damage import rot
from chaos.storage.files import Files
from chaos.storage.spec import Spec, SpecError
from chaos.storage.waiting import Request

MOST_ARMED = 64
KEPT_RECORDS = 256  # of faults that are over


class Faults:
    """All faults of one array; `armed` is empty most of the time, and looked at first."""

    def __init__(self, files: Files) -> None:
        self.files = files
        self.armed: tuple[Armed, ...] = ()
        self.on_change: Callable[[], None] = lambda: None
        self._over: dict[str, Armed] = {}
        self._lock = threading.Lock()

    # ------------------------------------------------------------ ordering

    def arm(self, spec: Spec) -> Armed:
        """Arm one fault; SpecError when its name is taken."""
        with self._lock:
            if any(fault.spec.name == spec.name for fault in self.armed):
                raise SpecError(f"a fault {spec.name!r} is armed already; clear it first")
            if len(self.armed) >= MOST_ARMED:
                raise SpecError(f"{MOST_ARMED} faults are armed, that is enough; clear some")
            watched = [f.spec for f in self.armed if f.log]
            if spec.kind == "unsynced" and not all(apart(w, spec) for w in watched):
                raise SpecError(f"{spec.name}: syncs of these files are watched already")
            fault = Armed(spec, self.files)
            if spec.kind == "rot":
                fault.seen, fault.flipped = rot(self.files.root, fault.concerns, spec)
                fault.acted = len(fault.flipped)
            self.armed = (*self.armed, fault)
        self.on_change()
        return fault

    def clear(self, names: list[str] | None, how: str = "cleared") -> list[str]:
        """End these faults (all with None); returns the names of those that were armed."""
        with self._lock:
            ended = [f for f in self.armed if names is None or f.spec.name in names]
            self.armed = tuple(f for f in self.armed if f not in ended)
            for fault in ended:
                fault.over = how
                self._over.pop(fault.spec.name, None)
                self._over[fault.spec.name] = fault
                if len(self._over) > KEPT_RECORDS:
                    self._over.pop(next(iter(self._over)))
        for fault in ended:
            if fault.log:
                fault.log.close()
        self.on_change()
        return [fault.spec.name for fault in ended]

    def power_cut(self, name: str) -> Armed:
        """Take back everything that the fault saw written and not synced; the array is gone then,
        until the fault is cleared."""
        for fault in self.armed:
            if fault.spec.name == name and fault.log:
                fault.lost = fault.log.roll_back()
                fault.gone = True
                time.sleep(1.5 * wire.SEEN_VALID_NS / 1e9)  # until the kernel believes no old name
                return fault
        raise SpecError(f"no fault {name!r} of kind unsynced is armed: there is nothing to lose")

    def records(self) -> list[Armed]:
        """Every fault of which something is known, those that are over first."""
        return [*self._over.values(), *self.armed]

    # ------------------------------------------------------------ time

    def next_end(self) -> float:
        """When the next fault ends by itself, on the clock of time.monotonic."""
        return min((fault.ends for fault in self.armed), default=float("inf"))

    def end_due(self) -> None:
        """End those whose time is over."""
        now = time.monotonic()
        due = [fault.spec.name for fault in self.armed if fault.ends <= now]
        if due:
            self.clear(due, "expired")

    # ------------------------------------------------------------ ruling

    def rule(self, request: Request) -> Ruling:
        """What shall become of a request; called once for each, when it comes."""
        ruling = Ruling()
        if request.op in UNTOUCHED:
            return ruling
        operation = CLASSES.get(request.op, "meta")
        paths = self._paths(request)
        for fault in self.armed:
            fault.rule(request, operation, paths, ruling)
        return ruling

    def hanging(self, request: Request) -> Armed | None:
        """A fault that keeps the request waiting now; counted once for each request."""
        if request.op in UNTOUCHED:
            return None
        operation = CLASSES.get(request.op, "meta")
        paths: list[bytes] | None = None
        for fault in self.armed:
            if fault.spec.kind == "hung":
                paths = self._paths(request) if paths is None else paths
                if fault.hangs(operation, paths):
                    if request.hung_by is not fault:
                        fault.seen += 1
                        fault.count(operation)
                    return fault
        return None

    def _paths(self, request: Request) -> list[bytes]:
        """The names that a request is about."""
        op, body, files = request.op, request.body, self.files
        try:
            if op in NAMED:
                names = bytes(body[NAMED[op] :]).split(b"\0")
                found = [files.child(request.number, names[0])]
                if op in (wire.Op.RENAME, wire.Op.RENAME2):
                    (folder,) = wire.RENAME_IN.unpack_from(body)
                    found.append(files.child(folder, names[1]))
                return found
            return list(files.tree.nodes[request.number].paths[-1:])
        except (OSError, KeyError, IndexError):
            return []


NAMED: dict[int, int] = {
    wire.Op.LOOKUP: 0, wire.Op.UNLINK: 0, wire.Op.RMDIR: 0, wire.Op.SYMLINK: 0,
    wire.Op.MKDIR: wire.MKDIR_IN.size, wire.Op.MKNOD: wire.MKNOD_IN.size,
    wire.Op.CREATE: wire.CREATE_IN.size, wire.Op.LINK: wire.LINK_IN.size,
    wire.Op.RENAME: wire.RENAME_IN.size, wire.Op.RENAME2: wire.RENAME2_IN.size,
}  # fmt: skip
"""Where in the body the name stands, for operations on something in a folder."""


def apart(one: Spec, other: Spec) -> bool:
    """Whether two filters surely never meet: they begin with different names."""
    first, second = (re.split(r"[*?[]", spec.path)[0] for spec in (one, other))
    return not first.startswith(second) and not second.startswith(first)
