"""The DICOM router: takes images from the modalities, owes each to every archive until committed.

    modalities ──C-STORE──▶ own disk ──▶ pacs-a, pacs-b  (and emergency-viewer while bypassing)
    modalities ◀──commitment report── when an archive has committed and the other is owed on disk

It refuses to acknowledge an image before its own commit, to change an image's bytes, to promise
what no archive keeps, and to let one destination hold up another.
"""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import evt

from stacks.hospital.bugs import planted
from stacks.hospital.health import Check, Degraded
from stacks.hospital.imaging import commitment, router_book, router_http
from stacks.hospital.imaging.archive_scp import FURTHER_STORAGE
from stacks.hospital.imaging.association import (
    COMMITMENT,
    OUT_OF_RESOURCES,
    SUCCESS,
    VERIFICATION,
    AssociationError,
    Listening,
    caller_of,
    contexts,
    known_callers,
    known_peers,
    listen,
    received,
    title_of,
)
from stacks.hospital.imaging.buffer import BOUNDS, Carrier, Route
from stacks.hospital.imaging.buffer_threads import Desk, Duty, run_with_threads
from stacks.hospital.imaging.instances import STORAGE, Encoded, decode
from stacks.hospital.imaging.router_bypass import Bypass
from stacks.hospital.imaging.router_commitment import Asker
from stacks.hospital.imaging.router_recent import KEPT_H, Keeping
from stacks.hospital.log import Log, describe
from stacks.hospital.settings import Address, Settings
from stacks.hospital.store import Store, StoreError
from stacks.hospital.web import Face

VIEWER, MODALITIES = "EMERGENCY_VIEWER", "MODALITIES"
SCANNERS = frozenset({"CT1", "MR1", "CR1", "US1", MODALITIES})
URGENT = frozenset({"STAT", "HIGH"})
NOT_UNDERSTOOD, OTHER_IMAGE_HERE, NOT_AUTHORISED = 0xC000, 0xC110, 0x0124
IMAGE_BYTES_MAX = 64 * 1024 * 1024
FREE_BYTES_MIN = 100 * 1024 * 1024  # below this the sender keeps its images
DISK_LOOK_S = 1.0
REPORTS = 20  # looked at per step
REPORT_LOOK_S, REPORT_PAUSE_S = 1.0, 2.0
LATE_S = 3.0  # planted defect only


class Router:
    """The router's book with its ends; its handlers run in the listener's threads."""

    def __init__(self, store: Store, settings: Settings, log: Log) -> None:
        self.store, self.log = store, log
        self.desk = Desk(store)
        self.title = title_of(settings.name)
        self.peers = known_peers(settings.environment)
        self.archives = sorted(one for one in self.peers if one.startswith("PACS"))
        self.destinations: dict[str, router_book.Destination] = {}
        self.carriers: dict[str, Carrier] = {}
        self.askers: list[Asker] = []
        self.refused = 0
        self._folder = settings.data_dir
        self._disk_at, self._free = 0.0, FREE_BYTES_MIN
        self._late: list[tuple[float, router_book.Arrival]] = []
        self._late_lock = threading.Lock()
        self.reporting = Duty("reports", self._report, log)
        for name in [*self.archives, *([VIEWER] if VIEWER in self.peers else [])]:
            self._connect(name, self.peers[name])
        viewer = self.carriers.get(VIEWER)
        archives = [self.carriers[name] for name in self.archives]
        self.bypass = Bypass(self.desk, archives, viewer, settings, log)
        self.keeping = Keeping(self.desk, settings.real_s(KEPT_H * 3600.0), log)
        self._late_duty = Duty("late", self._write_late, log)

    def _connect(self, name: str, where: Address) -> None:
        destination = router_book.Destination(name, self.desk, commits=name != VIEWER)
        self.destinations[name] = destination
        route = Route(name, where, self.title)
        self.carriers[name] = Carrier(route, destination, self.log)
        if name != VIEWER:
            self.askers.append(Asker(route, destination, self.log, self.reporting.ring))

    def duties(self) -> list[Duty]:
        """Every thread that the service runs."""
        late = [self._late_duty] if planted("router-acks-before-disk") else []
        return [
            *(one.duty for one in self.carriers.values()), *(one.duty for one in self.askers),
            self.bypass.duty, self.keeping.duty, self.reporting, *late,
        ]  # fmt: skip

    # -- images in ------------------------------------------------------------------------------

    def store_image(self, event: Any) -> int | Dataset:
        """C-STORE: success only after the commit."""
        encoded = received(event)
        try:
            arrival = _read(encoded)
        except Exception as error:  # pydicom says anything of a data set that is none
            return self._refuse(event, NOT_UNDERSTOOD, describe(error), encoded.sop_uid)
        if self._disk_full():
            return self._refuse(event, OUT_OF_RESOURCES, "the disk is full", encoded.sop_uid)
        if planted("router-acks-before-disk"):
            with self._late_lock:
                self._late.append((time.time() + LATE_S, arrival))
            return SUCCESS
        try:
            self._take(arrival)
        except router_book.Differs as error:
            return self._refuse(event, OTHER_IMAGE_HERE, str(error), encoded.sop_uid)
        except StoreError as error:
            return self._refuse(event, OUT_OF_RESOURCES, str(error), encoded.sop_uid)
        return SUCCESS

    def _take(self, arrival: router_book.Arrival) -> None:
        names = list(self.archives)
        if arrival.urgent and self.bypass.on and VIEWER in self.carriers:
            names.append(VIEWER)
        if self.desk.write(lambda connection: router_book.take(connection, arrival, names)):
            for name in names:
                self.carriers[name].duty.ring()

    def _disk_full(self) -> bool:
        if (now := time.monotonic()) - self._disk_at > DISK_LOOK_S:
            self._disk_at, self._free = now, shutil.disk_usage(self._folder).free
        return self._free < FREE_BYTES_MIN

    def _refuse(self, event: Any, status: int, reason: str, image: str = "") -> Dataset:
        self.refused += 1
        self.log.warn(
            "request_refused", caller=caller_of(event), status=f"{status:04X}", reason=reason,
            image=image,
        )  # fmt: skip
        return commitment.refusal(status, reason)

    def _write_late(self) -> float:
        """Planted defect only: what was acknowledged in memory gets to disk a moment later."""
        with self._late_lock:
            due = [one for at, one in self._late if at <= time.time()]
        for arrival in due:
            try:
                self._take(arrival)
            except router_book.Differs as error:
                self.log.warn("image_differs", reason=str(error))
        with self._late_lock:
            self._late = self._late[len(due) :]
        return 0.1

    # -- commitment -----------------------------------------------------------------------------

    def promise(self, event: Any) -> tuple[int | Dataset, None]:
        """N-ACTION of a modality: kept on disk until its report was delivered."""
        if event.action_type != commitment.REQUEST:
            return self._refuse(event, commitment.NO_SUCH_ACTION, "only action 1 is known"), None
        caller, vouched = caller_of(event), planted("router-acks-before-disk")
        try:
            uid, items = commitment.requested(event.action_information)
            self.desk.write(lambda c: router_book.promise(c, uid, caller, items, vouched))
        except StoreError as error:
            return self._refuse(event, 0x0110, str(error)), None
        except Exception as error:
            return self._refuse(event, commitment.INVALID_ARGUMENT, describe(error)), None
        self.reporting.ring()
        return SUCCESS, None

    def archive_reports(self, event: Any) -> tuple[int | Dataset, None]:
        """N-EVENT-REPORT of an archive on an association of its own."""
        name = caller_of(event)
        asker = next((one for one in self.askers if one.name == name), None)
        if asker is None:
            return self._refuse(event, NOT_AUTHORISED, f"{name} is no archive of ours"), None
        return asker.reported(event), None

    def _report(self) -> float:
        """Deliver the reports that can be given."""
        found = self.desk.read(lambda c: router_book.ready(c, VIEWER, REPORTS))
        for one in found:
            called = one.caller if one.caller in self.peers else MODALITIES
            where = self.peers.get(called)
            if where is None:
                self.log.warn_once_per(10.0, "nobody_to_report_to", caller=one.caller)
                return REPORT_PAUSE_S
            try:
                commitment.deliver(where, called, self.title, one.report, BOUNDS)
            except AssociationError as error:
                self.log.warn_once_per(10.0, "report_waits", caller=called, reason=str(error))
                return REPORT_PAUSE_S
            self.desk.write(lambda c, id_=one.id: router_book.reported(c, id_))  # type: ignore[misc]
        return 0.0 if len(found) == REPORTS else REPORT_LOOK_S

    async def check(self) -> None:
        """Health: a destination away is a declared degraded mode, images are held here."""
        trouble = [f"{k.lower()}: {v.trip.trouble}" for k, v in self.carriers.items()
                   if v.trip.trouble]  # fmt: skip
        if self.bypass.on:
            trouble.append("bypass to the emergency viewer is on")
        if trouble:
            raise Degraded("; ".join(trouble))


def _read(encoded: Encoded) -> router_book.Arrival:
    """What the router needs of an image. Raises: whatever pydicom says, ValueError."""
    if not 0 < len(encoded.data) <= IMAGE_BYTES_MAX:
        raise ValueError(f"a data set has 1 to {IMAGE_BYTES_MAX} bytes")
    found = decode(encoded, pixels=False)
    if str(found.get("SOPInstanceUID", "")) != encoded.sop_uid:
        raise ValueError("SOPInstanceUID differs from the request's")
    if str(found.get("SOPClassUID", "")) != encoded.sop_class:
        raise ValueError("SOPClassUID differs from the request's")
    if not (study := str(found.get("StudyInstanceUID", "") or "")):
        raise ValueError("StudyInstanceUID is missing")
    return router_book.Arrival(
        encoded, study, str(found.get("PatientID", "") or ""),
        str(found.get("RequestedProcedurePriority", "")) in URGENT,
        hashlib.sha256(encoded.data).hexdigest(),
    )  # fmt: skip


@asynccontextmanager
async def router(settings: Settings, log: Log) -> AsyncIterator[Face]:
    """The service: own file, C-STORE in, one carrier per destination, commitment both ways."""
    store = Store(settings.data_dir / "router.db", router_book.ROUTER_SCHEMA)
    works = Router(store, settings, log)
    extra = known_callers(settings.environment)
    callers = None if extra is None else extra | SCANNERS | frozenset(works.peers)
    asked = contexts([VERIFICATION, *STORAGE.values(), *FURTHER_STORAGE, COMMITMENT])
    scp = listen(
        Listening(
            works.title, settings.bind("dicom"), asked,
            [
                (evt.EVT_C_STORE, works.store_image),
                (evt.EVT_N_ACTION, works.promise),
                (evt.EVT_N_EVENT_REPORT, works.archive_reports),
            ],
            callers, BOUNDS,
        ),
        log,
    )  # fmt: skip

    async def wind_up(stop: asyncio.Event) -> None:
        await stop.wait()
        await asyncio.to_thread(scp.stop)

    background: list[Callable[[asyncio.Event], Awaitable[None]]] = [wind_up]
    background.extend(duty.run for duty in works.duties())
    checks: dict[str, Check] = {"store": store.check, "destinations": works.check}
    yield Face(routes=router_http.routes(works), checks=checks, background=background)
    await store.close()


if __name__ == "__main__":
    run_with_threads(router)
