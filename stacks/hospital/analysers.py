"""The analysers' line: measures barcoded tubes and holds each result until the LIS has it.

    laboratory ──POST /specimens──▶ line ──(minutes)──▶ result on own disk ──ORU^R01──▶ lis

It refuses to need anything else to work: with everything down, tubes are measured, results are
shown on the console and criticals on the local printer. Nothing is deleted.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import msgspec

from stacks.hospital import analysers_http, criticals
from stacks.hospital.admission import PRIORITIES, Admission, Lane
from stacks.hospital.analysers_http import Tube
from stacks.hospital.analytes import measure, share
from stacks.hospital.bugs import planted
from stacks.hospital.courier import Courier
from stacks.hospital.health import Check, Degraded
from stacks.hospital.log import Log
from stacks.hospital.queue import QUEUE_SCHEMA, DurableQueue, push
from stacks.hospital.settings import Settings
from stacks.hospital.store import Store, StoreError
from stacks.hospital.web import Face, Refusal, run
from stacks.hospital.wire.hl7 import Header, Report, Value, build, new_control_id
from stacks.hospital.wire.mllp import MllpClient

STAT_RUN_S = 8 * 60.0  # hospital seconds on the line
ROUTINE_RUN_S = 15 * 60.0
RUN_SPREAD = 0.2  # ± share of the run time
LOOK_S = 0.1  # real seconds between two looks at the line
BATCH = 200  # specimens that finish in one transaction
BUFFER_MAX = 100  # planted defect only
LIS = "lis"
LANE = Lane(slots=64, waiting=1000, wait_s=4.0, retry_after_s=1)
"""A tube in a technician's hand is not shed by class: all wait alike."""
ANALYSERS_SCHEMA = (
    QUEUE_SCHEMA
    + criticals.CRITICALS_SCHEMA
    + """
CREATE TABLE IF NOT EXISTS specimen (
  specimen TEXT PRIMARY KEY,
  placer TEXT NOT NULL,
  patient TEXT NOT NULL,
  tests TEXT NOT NULL,
  stat INTEGER NOT NULL,
  critical INTEGER NOT NULL,
  loaded_at REAL NOT NULL,
  due_at REAL NOT NULL,
  finished INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS specimen_due ON specimen (due_at) WHERE finished = 0;
CREATE TABLE IF NOT EXISTS finished (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  specimen TEXT NOT NULL UNIQUE,
  finished_at REAL NOT NULL,
  control_id TEXT NOT NULL,
  vals TEXT NOT NULL
);
"""
)


class Line:
    """The tubes that run, and the results that they give."""

    def __init__(self, store: Store, settings: Settings, log: Log) -> None:
        self.store = store
        self.log = log
        self.queue = DurableQueue(store)
        self.courier: Courier | None = None
        self._settings = settings
        self._bell = asyncio.Event()

    async def load(self, tube: Tube) -> bool:
        """Put a tube on the line; False when it is there already. Raises: Refusal 409, 503."""
        now = time.time()
        run_s = STAT_RUN_S if tube.stat else ROUTINE_RUN_S
        run_s *= 1 + RUN_SPREAD * (2 * share(tube.specimen, "run") - 1)
        tests = msgspec.json.encode(tube.tests).decode()
        row = (tube.specimen, tube.placer, tube.patient, tests, tube.stat, tube.critical)

        def work(connection: sqlite3.Connection) -> bool:
            known = connection.execute(
                "SELECT specimen, placer, patient, tests, stat, critical FROM specimen"
                " WHERE specimen = ?",
                (tube.specimen,),
            ).fetchone()
            if known is not None and known != row:
                raise Refusal(409, "conflict", f"specimen {tube.specimen[:64]!r} differs from the"
                              " tube with this barcode that is on the line")  # fmt: skip
            if known is not None:
                return False
            connection.execute(
                "INSERT INTO specimen (specimen, placer, patient, tests, stat, critical,"
                " loaded_at, due_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (*row, now, now + self._settings.real_s(run_s)),
            )
            return True

        try:
            return await self.store.write(work)
        except StoreError as error:
            raise Refusal(503, "transient", f"{error}; load the tube again") from None

    async def measure(self, stop: asyncio.Event) -> None:
        """Finish tubes whose time has come, until told to stop."""
        while not stop.is_set():
            stands = planted("stops-when-lis-down") and self._lis_away()
            if not stands:
                try:
                    while await self._finish_due() == BATCH:
                        pass
                except StoreError as error:
                    self.log.warn_once_per(10.0, "result_not_stored", reason=str(error))
            try:
                async with asyncio.timeout(LOOK_S):
                    await stop.wait()
            except TimeoutError:
                pass

    def _lis_away(self) -> bool:
        return self.courier is not None and self.courier.trip.failures > 0

    async def _finish_due(self) -> int:
        now = time.time()
        rows = self.store.read(
            lambda connection: connection.execute(
                "SELECT specimen, placer, patient, tests, stat, critical FROM specimen"
                " WHERE finished = 0 AND due_at <= ? ORDER BY due_at LIMIT ?",
                (now, BATCH),
            ).fetchall()
        )
        if not rows:
            return 0
        held = self.queue.depth(LIS).waiting if planted("drops-when-buffer-100") else 0

        def work(connection: sqlite3.Connection) -> None:
            for number, (specimen, placer, patient, tests, stat, critical) in enumerate(rows):
                values = measure(specimen, msgspec.json.decode(tests, type=list[str]), critical)
                report = Report(specimen, placer, patient, "final", values, bool(stat), now)
                control_id = _finish(connection, report)
                if planted("drops-when-buffer-100") and held + number >= BUFFER_MAX:
                    continue
                header = Header(control_id, sender="ANALYSERS", receiver="LIS", at=now)
                push(connection, LIS, control_id, build(header, report), 0 if stat else 1)

        await self.store.write(work)
        self.queue.notify(LIS)
        return len(rows)

    async def forget_held(self) -> None:
        """Planted defect only: what was held in memory is gone."""
        await self.store.write(lambda connection: connection.execute("DELETE FROM queue") and None)

    async def check(self) -> None:
        """Health: the LIS away is a declared degraded mode, results are held here."""
        if self.courier is not None and self.courier.trip.trouble:
            held = self.queue.depth(LIS).waiting
            raise Degraded(f"lis: {self.courier.trip.trouble}; {held} results are held here")


def _finish(connection: sqlite3.Connection, report: Report) -> str:
    control_id = new_control_id()
    connection.execute("UPDATE specimen SET finished = 1 WHERE specimen = ?", (report.specimen,))
    connection.execute(
        "INSERT INTO finished (specimen, finished_at, control_id, vals) VALUES (?, ?, ?, ?)",
        (report.specimen, report.issued_at, control_id, encode_values(report.values)),
    )
    if report.critical:
        criticals.enter(connection, report.specimen, report.placer, report.mrn)
    return control_id


def encode_values(values: tuple[Value, ...]) -> str:
    """Values as they lie in a store."""
    return msgspec.json.encode(values).decode()


@asynccontextmanager
async def analysers(settings: Settings, log: Log) -> AsyncIterator[Face]:
    """The service: own file, the line, a courier to the LIS, console and printer over HTTP."""
    store = Store(settings.data_dir / "analysers.db", ANALYSERS_SCHEMA)
    line = Line(store, settings, log)
    in_memory = planted("buffer-in-memory")
    if in_memory:
        await line.forget_held()
    background: list[Callable[[asyncio.Event], Awaitable[None]]] = [line.measure]
    link = settings.optional_link(LIS, "mllp")
    if link is not None:
        line.courier = Courier(
            line.queue, LIS, [MllpClient(link)], log,
            on_recovered=line.forget_held if in_memory else None,
        )  # fmt: skip
        background.append(line.courier.run)
    checks: dict[str, Check] = {"buffer": store.check, LIS: line.check}
    yield Face(
        routes=analysers_http.routes(line), checks=checks, background=background,
        admission=Admission([LANE] * len(PRIORITIES)),
    )  # fmt: skip
    await store.close()


if __name__ == "__main__":
    run(analysers)
