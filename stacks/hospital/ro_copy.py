"""The read-only copy of the inpatients' charts, on other storage and in another room.

    ehr-db (standby first) ──every 5 hospital minutes──▶ snapshot file ──HTTP──▶ wards

It refuses every write, with the reason and where to go, and to look younger than it is: each
answer says READ-ONLY and as of when. It goes on answering when everything else is away.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime

import msgspec
from starlette.exceptions import HTTPException
from starlette.routing import Mount, Router
from starlette.types import Message, Receive, Scope, Send

from stacks.hospital import copy_snapshot
from stacks.hospital.bugs import planted
from stacks.hospital.copy_snapshot import Damaged, Line, Snapshot, tagged
from stacks.hospital.copy_source import RECENT_HOSPITAL_S, Reading, Source, SourceAway
from stacks.hospital.ehr.pair import Pair
from stacks.hospital.health import Degraded, Unready
from stacks.hospital.log import Log, describe
from stacks.hospital.pages import export
from stacks.hospital.settings import Settings
from stacks.hospital.web import JSON, Face, Refusal, Request, Response, Route, answer, outcome, run

REFRESH_HOSPITAL_S = 300.0
REFRESH_LEAST_S = 0.5
RETRY_S = 1.0
LATE_ROUNDS = 3
"""So many refreshes may be missed before health calls the copy degraded."""
MARK = "READ-ONLY"


class Copy:
    """The snapshot that is served now, and the work of replacing it by a younger one."""

    def __init__(self, settings: Settings, source: Source, log: Log) -> None:
        self.every_s = max(REFRESH_LEAST_S, settings.real_s(REFRESH_HOSPITAL_S))
        self._folder, self._source, self._log = settings.data_dir, source, log
        self._first_patients: set[str] | None = None
        self.trouble = ""
        self.snapshot: Snapshot | None = None
        try:
            self.snapshot = Snapshot(settings.data_dir)
        except Damaged as error:
            log.info("no_snapshot_yet", reason=str(error))

    def held(self) -> Snapshot:
        """The snapshot to answer from; Refusal 503 before the first one."""
        if self.snapshot is None:
            raise Refusal(503, "transient", f"the copy is not filled yet: {self.trouble}",
                          {"Retry-After": "1"})
        return self.snapshot

    @property
    def as_of(self) -> float | None:
        """Unix seconds up to which the copy is complete; None before the first snapshot."""
        if self.snapshot is not None and planted("copy-stale-marked-now"):
            return time.time()
        return self.snapshot.as_of if self.snapshot else None

    async def keep_fresh(self, stop: asyncio.Event) -> None:
        """Background work: refresh on schedule; after a failure try again every RETRY_S."""
        while not stop.is_set():
            began = time.monotonic()
            if not (self.snapshot is not None and planted("copy-stale-marked-now")):
                await self._refresh()
            pause = min(self.every_s, RETRY_S) if self.trouble else self.every_s
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, began + pause - time.monotonic())):
                    await stop.wait()

    async def _refresh(self) -> None:
        try:
            reading = await self._source.read()
            if self.snapshot is not None and reading.as_of <= self.snapshot.as_of:
                raise SourceAway(f"{reading.source} has nothing newer than the copy")
            reading = self._without_new_patients(reading)
            await asyncio.to_thread(copy_snapshot.write, self._folder, reading, time.time())
            self.snapshot = Snapshot(self._folder)
            if self.trouble:
                self._log.info("refresh_resumed", source=reading.source)
            self.trouble = ""
        except (SourceAway, OSError, sqlite3.Error, Damaged) as error:
            self.trouble = str(error) if isinstance(error, SourceAway) else describe(error)
            self._log.warn_once_per(10.0, "refresh_failed", reason=self.trouble)

    def _without_new_patients(self, reading: Reading) -> Reading:
        if not planted("copy-misses-new-patients"):
            return reading
        if self._first_patients is None:
            self._first_patients = {row[2] for row in reading.rows}
        known = [row for row in reading.rows if row[2] in self._first_patients]
        return replace(reading, rows=known)

    async def check(self) -> None:
        """Health: no copy is unready; a late one is degraded and goes on being served."""
        as_of = self.as_of
        if as_of is None:
            raise Unready(f"no snapshot yet: {self.trouble}")
        age_s = time.time() - as_of
        if age_s > LATE_ROUNDS * self.every_s + RETRY_S:
            raise Degraded(f"the copy is {age_s:.0f} s old: {self.trouble or 'refresh is late'}")


class Desk:
    """What may be read, and the answer to whoever wants to write."""

    def __init__(self, copy: Copy) -> None:
        self._copy = copy
        self._router = Router(
            [
                Route("/fhir/Patient/{key}/$everything", self._everything),
                Route("/fhir/{type}/{key}", self._resource),
                Route("/census", self._census),
                Route("/snapshot", self._snapshot),
                Route("/export", self._export),
            ],
            default=_nothing_here,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Every answer carries the marker; every write is refused."""
        marks = self._marks()

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *marks]
            await send(message)

        try:
            if scope["method"] in ("GET", "HEAD"):
                await self._router(scope, receive, marked)
            else:
                await self._no_writing(scope["method"])(scope, receive, marked)
        except Refusal as error:
            refused = outcome(error.status, error.code, error.diagnostics, error.headers)
            await refused(scope, receive, marked)
        except HTTPException as error:
            refused = outcome(error.status_code, "not-found", f"{scope['path']} is not here")
            await refused(scope, receive, marked)

    def _marks(self) -> list[tuple[bytes, bytes]]:
        if planted("copy-no-marker"):
            return []
        as_of = self._copy.as_of
        when = _rfc3339(as_of) if as_of is not None else "never"
        return [(b"x-read-only", MARK.encode()), (b"x-as-of", when.encode())]

    def _no_writing(self, method: str) -> Response:
        if planted("copy-accepts-writes"):
            return answer({"resourceType": "OperationOutcome", "issue": []})
        as_of = self._copy.as_of
        when = _rfc3339(as_of) if as_of is not None else "an unknown time"
        return outcome(
            405, "not-supported",
            f"{method} refused: this is a READ-ONLY copy as of {when}; write in the record"
            " (ehr-a, ehr-b) or, while it is down, on the ward's paper forms",
            {"Allow": "GET, HEAD"},
        )  # fmt: skip

    async def _everything(self, request: Request) -> Response:
        mrn = request.path_params["key"]
        lines = self._copy.held().chart(mrn)
        if not lines:
            raise Refusal(404, "not-found", f"{mrn[:64]} is not in this copy of the inpatients")
        return answer(self._bundle(lines))

    async def _resource(self, request: Request) -> Response:
        type_, key = request.path_params["type"], request.path_params["key"]
        line = self._copy.held().find(type_, key)
        if line is None:
            raise Refusal(404, "not-found", f"{type_[:40]} {key[:64]} is not in this copy")
        plain = planted("copy-no-marker")
        shown = line.body.encode() if plain else tagged(line.body, MARK, self._when())
        return answer(shown, 200, {"ETag": f'W/"{line.version}"'})

    async def _census(self, _: Request) -> Response:
        patients = self._copy.held().census()
        return answer({"as_of": self._when(), "patients": patients}, media_type=JSON)

    async def _snapshot(self, _: Request) -> Response:
        held = self._copy.held()
        as_of = self._copy.as_of or held.as_of
        return answer(
            {"as_of": _rfc3339(as_of), "refreshed_at": _rfc3339(held.refreshed_at),
             "age_s": round(max(0.0, time.time() - as_of), 3), "patients": held.patients,
             "source": held.source, "trouble": self._copy.trouble or None},
            media_type=JSON,
        )  # fmt: skip

    async def _export(self, _: Request) -> Response:
        return export(self._copy.held().page)

    def _when(self) -> str:
        as_of = self._copy.as_of
        assert as_of is not None  # whoever asks holds a snapshot
        return _rfc3339(as_of)

    def _bundle(self, lines: list[Line]) -> bytes:
        meta: dict[str, object] = {"lastUpdated": self._when()}
        if not planted("copy-no-marker"):
            meta["tag"] = [{"system": "urn:hospital:tag", "code": MARK}]
        entry = [
            {"fullUrl": f"{one.type}/{one.key}", "resource": msgspec.Raw(one.body.encode())}
            for one in lines
        ]
        return msgspec.json.encode(
            {"resourceType": "Bundle", "type": "searchset", "total": len(lines), "meta": meta,
             "entry": entry}
        )  # fmt: skip


async def _nothing_here(scope: Scope, _: Receive, __: Send) -> None:
    raise HTTPException(404, f"{scope['path']} is not here")


def _rfc3339(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="milliseconds")


@asynccontextmanager
async def ro_copy(settings: Settings, log: Log) -> AsyncIterator[Face]:
    """The service: a watched pair to read from, one snapshot file, one schedule."""
    pair = Pair(settings, log)
    copy = Copy(settings, Source(pair, settings.real_s(RECENT_HOSPITAL_S)), log)
    yield Face(
        routes=[Mount("/", app=Desk(copy))],
        checks={"copy": copy.check},
        background=[pair.watch, copy.keep_fresh],
    )
    await pair.close()


if __name__ == "__main__":
    run(ro_copy)
