"""The scanners CT1, MR1, CR1 and US1: examine, keep images on their own disk, send, ask, delete.

    radiology ──POST /examinations──▶ scanner ──(minutes)──▶ images on disk ──C-STORE──▶ router
    router ──storage commitment──▶ only then are an image's bytes deleted

It refuses to need anything else to work: without the worklist the radiographer enters the patient
by hand under a number of the downtime block; without the router images wait here.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import evt

from stacks.hospital.admission import PRIORITIES, Admission, Lane
from stacks.hospital.bugs import planted
from stacks.hospital.health import Check, Degraded
from stacks.hospital.imaging import commitment, modalities_http
from stacks.hospital.imaging import modalities_book as book
from stacks.hospital.imaging.association import (
    COMMITMENT,
    SUCCESS,
    VERIFICATION,
    AssociationError,
    Listening,
    associate,
    caller_of,
    contexts,
    known_callers,
    known_peers,
    listen,
    title_of,
)
from stacks.hospital.imaging.buffer import BOUNDS, IDLE_S, Carrier, Route
from stacks.hospital.imaging.buffer_threads import Desk, Duty, run_with_threads
from stacks.hospital.imaging.instances import (
    STORAGE,
    Encoded,
    Examination,
    encode,
    instance,
    pixel_digest,
)
from stacks.hospital.imaging.modalities_ris import WORKLIST_S, Scheduled, Teller, choose, worklist
from stacks.hospital.log import Log, describe
from stacks.hospital.settings import Settings, SettingsError
from stacks.hospital.store import Store, StoreError
from stacks.hospital.web import Face, Refusal

ROUTER, RIS = "DICOM_ROUTER", "RIS"
EXAMINATION_S = 180.0  # hospital seconds from the first image to the last
LOOK_S = 0.05  # real seconds between two looks at the running examinations
BATCH = 50  # images kept in one transaction
WORKLIST_THREADS = 8
CAPACITY = {"CT": 391_680, "MR": 82_944, "US": 13_824, "CR": 2_074}
"""Images of 24 hours at the peak hour: studies a day x images x 12 % x 24 (an 850-bed hospital)."""
ASK_LOOK_S, ASK_PAUSE_S = 1.0, 1.0
PROCESSING_FAILURE, NOT_AUTHORISED = 0x0110, 0x0124
LANE = Lane(slots=64, waiting=1000, wait_s=4.0, retry_after_s=1)
"""A patient who lies on the table is not shed by class: all wait alike."""


class Scanners:
    """The scanners' book with its ends; its handlers run in the listener's threads."""

    def __init__(self, store: Store, settings: Settings, log: Log) -> None:
        self.store, self.log = store, log
        self.desk = Desk(store)
        self.title = title_of(settings.name)
        self.capacities = _capacities(settings)
        self.ris: Route | None = None
        self.teller: Teller | None = None
        self.carriers: dict[str, Carrier] = {}
        self.router: Route | None = None
        self._pace_s = settings.real_s(EXAMINATION_S)
        self._threads = ThreadPoolExecutor(WORKLIST_THREADS, thread_name_prefix="worklist")
        self.asker = Duty("commitment", self._ask, log, self._release)
        self._open: Any = None
        self._asked_at = 0.0
        self.peers = known_peers(settings.environment)
        if RIS in self.peers:
            self.ris = Route(RIS, self.peers[RIS], self.title)
            self.teller = Teller(self.ris, self.desk, log)
        if ROUTER in self.peers:
            self.router = Route(ROUTER, self.peers[ROUTER], self.title)
            for title in map(book.scanner_of, STORAGE):
                route = Route(ROUTER, self.peers[ROUTER], title)
                self.carriers[title] = Carrier(route, book.Scanner(title, self.desk), log)

    def duties(self) -> list[Duty]:
        """Every thread that the service runs."""
        found = [one.duty for one in self.carriers.values()]
        if self.teller is not None:
            found.append(self.teller.duty)
        return [*found, self.asker] if self.router is not None else found

    # -- examinations ---------------------------------------------------------------------------

    async def examine(self, asked: bytes, one: Examination, instances: int) -> bool:
        """Begin an examination; False when it is known. Raises: Refusal 409, 503, 507."""
        try:
            if self.store.read(lambda connection: book.known(connection, one.exam, asked)):
                return False
            entry = await self._scheduled(one)
            began = replace(one, started_at=time.time())
            if entry is not None:
                began = replace(began, accession=entry.accession, study=entry.study)
                if entry.placer and not one.placer:
                    began = replace(began, placer=entry.placer)
            new = await self.store.write(
                lambda c: book.begin(c, asked, began, instances, self.capacities)
            )
        except book.Conflict as error:
            raise Refusal(409, "conflict", str(error)) from None
        except book.Full as error:
            self.log.warn_once_per(10.0, "buffer_full", reason=str(error))
            raise Refusal(507, "no-store", str(error)) from None
        except StoreError as error:
            raise Refusal(503, "transient", f"{error}; start it again") from None
        if self.teller is not None:
            self.teller.duty.ring()
        return new

    async def _scheduled(self, one: Examination) -> Scheduled | None:
        """The worklist's entry; None is manual entry under a downtime number."""
        reason = "there is no worklist"
        if self.ris is not None:
            route = replace(self.ris, calling=book.scanner_of(one.modality))
            loop = asyncio.get_running_loop()
            try:
                async with asyncio.timeout(WORKLIST_S):
                    entries = await loop.run_in_executor(
                        self._threads, worklist, route, one.patient, one.modality
                    )
                return choose(entries, one.placer)
            except TimeoutError:
                reason = f"no answer within {WORKLIST_S} s"
            except (AssociationError, ValueError, RuntimeError) as error:
                reason = describe(error)
        self.log.warn_once_per(5.0, "worklist_away", reason=reason)
        if planted("modality-needs-worklist"):
            text = f"not on the worklist, which is away ({reason})"
            raise Refusal(409, "business-rule", text)
        return None

    async def acquire(self, stop: asyncio.Event) -> None:
        """Take the images that are due, until told to stop."""
        while not stop.is_set():
            try:
                while await self._acquire_due() and not stop.is_set():
                    pass
            except StoreError as error:
                self.log.warn_once_per(10.0, "image_not_stored", reason=str(error))
            try:
                async with asyncio.timeout(LOOK_S):
                    await stop.wait()
            except TimeoutError:
                pass

    async def _acquire_due(self) -> bool:
        """One round over the running examinations; True when more is due at once."""
        more = False
        now = time.time()
        for one in self.store.read(book.running):
            passed = (now - one.examination.started_at) / max(self._pace_s, 1e-9)
            due = min(one.instances, int(passed * one.instances)) - one.acquired
            if due <= 0:
                continue
            more = more or due > BATCH
            first = one.acquired + 1
            numbers = range(first, first + min(due, BATCH))
            images = await asyncio.to_thread(_images, one.examination, numbers)
            await self.store.write(
                lambda c, one=one, images=images: book.acquire(c, one, images)  # type: ignore[misc]
            )
            carrier = self.carriers.get(book.scanner_of(one.examination.modality))
            if carrier is not None:
                carrier.duty.ring()
            if first + len(images) > one.instances and self.teller is not None:
                self.teller.duty.ring()
        return more

    # -- commitment -----------------------------------------------------------------------------

    def _ask(self) -> float:
        """Ask for commitment of what was sent; again and again until it is reported."""
        assert self.router is not None
        request = None
        if self.desk.read(book.anything_to_ask):
            request = self.desk.write(book.to_ask)
        if request is None:
            if self._open is not None and time.monotonic() - self._asked_at > IDLE_S:
                self._release()
            return ASK_LOOK_S
        uid, items = request
        if not items:
            empty = commitment.Report(uid, ())
            self.desk.write(lambda c: book.reported(c, empty))
            return 0.0
        try:
            commitment.ask(self._association(self.router), uid, items)
        except AssociationError as error:
            self.log.warn_once_per(10.0, "commitment_not_asked", reason=str(error))
            open_, self._open = self._open, None
            if open_ is not None and open_.is_established:
                open_.abort()
            self.asker.pause(ASK_PAUSE_S)
            return 0.0
        self._asked_at = time.monotonic()
        self.desk.write(lambda c: book.asked(c, uid))
        return 0.0

    def _association(self, route: Route) -> Any:
        if self._open is None or not self._open.is_established:
            self._open = associate(
                route.address, route.called, route.calling, contexts([COMMITMENT]), bounds=BOUNDS,
                handlers=[(evt.EVT_N_EVENT_REPORT, self.report)],
            )  # fmt: skip
        return self._open

    def _release(self) -> None:
        open_, self._open = self._open, None
        if open_ is not None and open_.is_established:
            open_.release()

    def report(self, event: Any) -> tuple[int | Dataset, None]:
        """N-EVENT-REPORT of the router; success only after the commit."""
        caller = caller_of(event)
        if caller not in (ROUTER, self.title):  # our own title: on the association that we opened
            return commitment.refusal(NOT_AUTHORISED, f"{caller} is not our router"), None
        try:
            report = commitment.reported(event.event_information)
            kept, missing = self.desk.write(lambda c: book.reported(c, report))
        except StoreError as error:
            return commitment.refusal(PROCESSING_FAILURE, str(error)), None
        except KeyError:
            reason = "this transaction was never asked"
            self.log.warn("request_refused", caller=caller, reason=reason)
            return commitment.refusal(commitment.INVALID_ARGUMENT, reason), None
        except Exception as error:  # pydicom says anything of a data set that is none
            self.log.warn("request_refused", caller=caller, reason=describe(error))
            return commitment.refusal(commitment.INVALID_ARGUMENT, describe(error)), None
        if missing:
            self.log.warn("images_sent_again", missing=missing, kept=kept)
            for carrier in self.carriers.values():
                carrier.duty.ring()
        return SUCCESS, None

    async def check(self) -> None:
        """Health: router and radiology away are declared degraded modes."""
        trouble = [f"router: {one.trip.trouble}" for one in self.carriers.values()
                   if one.trip.trouble][:1]  # fmt: skip
        if self.teller is not None and self.teller.trip.trouble:
            trouble.append(f"ris: {self.teller.trip.trouble}")
        if trouble:
            raise Degraded("; ".join(trouble))


def _images(one: Examination, numbers: range) -> list[tuple[Encoded, str]]:
    found = []
    for number in numbers:
        dataset = instance(one, number)
        found.append((encode(dataset), pixel_digest(dataset)))
    return found


def _capacities(settings: Settings) -> dict[str, int]:
    """BUFFER_INSTANCES, when set, is every scanner's capacity (for a drill of full disks)."""
    text = settings.environment.get("BUFFER_INSTANCES", "")
    if not text:
        return dict(CAPACITY)
    if not (text.isascii() and text.isdecimal()) or len(text) > 9:
        raise SettingsError(f"BUFFER_INSTANCES={text!r} is not a number of images")
    return dict.fromkeys(CAPACITY, int(text))


@asynccontextmanager
async def modalities(settings: Settings, log: Log) -> AsyncIterator[Face]:
    """The service: own file, console on HTTP, one carrier per scanner, reports to radiology."""
    store = Store(settings.data_dir / "modalities.db", book.MODALITIES_SCHEMA)
    scanners = Scanners(store, settings, log)
    extra = known_callers(settings.environment)
    callers = None if extra is None else extra | frozenset(scanners.peers) | {ROUTER}
    listening = Listening(
        scanners.title, settings.bind("dicom"), contexts([VERIFICATION, COMMITMENT]),
        [(evt.EVT_N_EVENT_REPORT, scanners.report)], callers, BOUNDS,
    )  # fmt: skip
    scp = listen(listening, log)

    async def wind_up(stop: asyncio.Event) -> None:
        await stop.wait()
        await asyncio.to_thread(scp.stop)

    background: list[Callable[[asyncio.Event], Awaitable[None]]] = [wind_up, scanners.acquire]
    background.extend(duty.run for duty in scanners.duties())
    checks: dict[str, Check] = {"buffer": store.check, "peers": scanners.check}
    yield Face(
        routes=modalities_http.routes(scanners), checks=checks, background=background,
        admission=Admission([LANE] * len(PRIORITIES)),
    )  # fmt: skip
    await store.close()


if __name__ == "__main__":
    run_with_threads(modalities)
