"""Carries images from a durable buffer to one DICOM destination, in a thread of its own.

    carrier = Carrier(Route("PACS_A", address, "DICOM_ROUTER"), cargo, log)
    Face(background=[carrier.duty.run])

One association is used for many images and given back when nothing waits. Refused for now (A7xx),
no answer, no association → the same image again, with bounded pauses, for ever; refused for good →
parked with a reason. It refuses to forget: what is not settled with the cargo is sent again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from stacks.hospital.imaging.association import (
    AssociationError,
    AssociationLost,
    Bounds,
)
from stacks.hospital.imaging.buffer_threads import QUIET_S, Duty
from stacks.hospital.imaging.buffer_wire import Line, open_line
from stacks.hospital.imaging.instances import RAW_EXPLICIT, STORAGE, Encoded
from stacks.hospital.log import Log
from stacks.hospital.settings import Address

BOUNDS = Bounds(connect_s=2.0, negotiate_s=3.0, answer_s=5.0, idle_s=30.0, stall_s=5.0)
BATCH = 32  # images fetched, and settled in one commit
SETTLE_S = 0.3  # an accepted image is settled at the latest after so long
IDLE_S = 1.5  # an association on which nothing waits is given back
POLL_S = 0.5  # looks into the buffer at least so often, bell or not
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 2.0
DEFER_AFTER = 3  # failures of one image in a row before others go first
CONTEXTS_MAX = 120  # an association has 128 at most
TRANSIENT = frozenset({0x0110, 0x0124, 0x0213})  # processing failure, not authorised, resources


class Load(NamedTuple):
    """One image that waits; `id` is the cargo's own number."""

    id: int
    encoded: Encoded


class Cargo(Protocol):
    """What waits for one destination; every method raises StoreError when the disk refuses."""

    def waiting(self, limit: int) -> list[Load]:
        """The next images in sending order."""

    def sent(self, ids: Sequence[int]) -> None:
        """The destination took them; returns when that is on disk."""

    def park(self, id_: int, reason: str) -> None:
        """The destination refuses this one for good."""

    def defer(self, id_: int) -> None:
        """Let others go before this one."""


@dataclass(frozen=True, slots=True)
class Route:
    """To whom, and as whom."""

    called: str
    address: Address
    calling: str


@dataclass(slots=True)
class Trip:
    """What a carrier is doing now, for /queues and /health; instants are Unix seconds."""

    delivered: int = 0
    failures: int = 0  # failed attempts since the last success
    failing_since: float | None = None
    trouble: str = ""
    associations: int = 0

    def failed(self, reason: str, began_at: float) -> None:
        """Count a failed attempt that began then."""
        self.failures += 1
        self.trouble = reason
        self.failing_since = self.failing_since or began_at

    def succeeded(self) -> None:
        """The destination accepts."""
        self.failures, self.trouble, self.failing_since = 0, "", None


@dataclass(slots=True)
class _Open:
    """The open association and what it was opened for."""

    open: Line | None = None
    kinds: set[tuple[str, str]] = field(default_factory=set)
    used_at: float = 0.0


class Carrier:
    """One thread, one destination, one association."""

    def __init__(
        self, route: Route, cargo: Cargo, log: Log, on_change: Callable[[], None] = lambda: None
    ) -> None:
        self.route = route
        self.trip = Trip()
        self.duty = Duty(f"to-{route.called}-{route.calling}", self._step, log, self._release)
        self._cargo, self._log, self._on_change = cargo, log, on_change
        self._line = _Open()
        self._attempt = 0
        self._suspect, self._suspicion = 0, 0
        self._message_id = 0
        self._began_at = 0.0

    def _step(self) -> float:
        loads = self._cargo.waiting(BATCH)
        if not loads:
            if self._line.open and time.monotonic() - self._line.used_at > IDLE_S:
                self._release()
            return POLL_S
        self._began_at = time.time()
        try:
            self._send(loads)
        except (AssociationError, AssociationLost) as error:
            self._abandon()
            self._failed(str(error))
        except _NotNow as refusal:
            self._failed(str(refusal))
        else:
            return 0.0
        pause = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(self._attempt, 10))
        self._attempt += 1
        self.duty.pause(pause)
        return 0.0

    def _failed(self, reason: str) -> None:
        self.trip.failed(reason, self._began_at)
        self._on_change()
        self._log.warn_once_per(
            QUIET_S, "delivery_failed", destination=self.route.called, reason=reason,
            failures=self.trip.failures,
        )  # fmt: skip

    def _send(self, loads: Sequence[Load]) -> None:
        """Send them one after the other; what was accepted is settled whatever follows."""
        open_ = self._association({(x.encoded.sop_class, x.encoded.transfer_syntax) for x in loads})
        done: list[int] = []
        settled_at = time.monotonic()
        try:
            for load in loads:
                if self.duty.stopping.is_set():
                    return
                if self._one(open_, load):
                    done.append(load.id)
                if time.monotonic() - settled_at > SETTLE_S and done:
                    self._cargo.sent(done)
                    done, settled_at = [], time.monotonic()
        finally:
            if done:
                self._cargo.sent(done)

    def _one(self, open_: Line, load: Load) -> bool:
        self._message_id += 1
        try:
            status = open_.store(load.encoded, self._message_id)
        except ValueError as error:
            self._park(load, str(error))
            return False
        except AssociationLost:
            self._suspects(load)
            raise
        self._line.used_at, self._began_at = time.monotonic(), time.time()
        if status == 0 or status & 0xF000 == 0xB000:
            recovered = self.trip.failures > 0
            self.trip.succeeded()
            self.trip.delivered += 1
            self._attempt = self._suspicion = 0
            if recovered:
                self._log.info("destination_recovered", destination=self.route.called)
                self._on_change()
            return True
        if status & 0xFF00 == 0xA700 or status in TRANSIENT:
            self._suspects(load)
            raise _NotNow(f"{load.encoded.sop_uid} refused for now with {status:04X}")
        self._park(load, f"{self.route.called} refuses it with {status:04X}")
        return False

    def _park(self, load: Load, reason: str) -> None:
        self._cargo.park(load.id, reason)
        self._log.error(
            "image_parked", destination=self.route.called, image=load.encoded.sop_uid, reason=reason
        )

    def _suspects(self, load: Load) -> None:
        """An image that fails again and again does not hold up the others for ever."""
        self._suspicion = self._suspicion + 1 if self._suspect == load.id else 1
        self._suspect = load.id
        if self._suspicion >= DEFER_AFTER:
            self._suspicion = 0
            self._cargo.defer(load.id)

    # -- the association ------------------------------------------------------------------------

    def _association(self, kinds: set[tuple[str, str]]) -> Line:
        line = self._line
        if line.open is not None and not kinds <= line.kinds:
            self._release()
        if line.open is None:
            self.trip.associations += 1
            usual = {(one, RAW_EXPLICIT) for one in STORAGE.values()}
            asked = sorted(usual) + sorted(kinds - usual)[: CONTEXTS_MAX - len(usual)]
            route = self.route
            line.open = open_line(route.address, route.called, route.calling, asked, BOUNDS)
            line.kinds = usual | kinds
            line.used_at = time.monotonic()
        return line.open

    def _release(self) -> None:
        open_, self._line.open = self._line.open, None
        if open_ is not None:
            open_.release()

    def _abandon(self) -> None:
        open_, self._line.open = self._line.open, None
        if open_ is not None:
            open_.abort()


class _NotNow(Exception):
    """The destination says: later."""
