"""What the hospital still owes itself: queues, tubes, reports, images, notices, replication.

It refuses to wait for ever: for a backlog that does not shrink any more, it says so and goes on.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any

import httpx
import msgspec
import psycopg

from stacks.hospital import postgres
from stacks.hospital.records import Record
from stacks.hospital.settings import Address
from stacks.hospital.traffic.config import Config

DATABASES = ("ehr-db-a", "ehr-db-b")
QUEUES = (
    "gam", "engine", "ehr-a", "ehr-b", "scheduling", "modalities", "dicom-router", "ris",
)  # fmt: skip
ASK_S = 4.0
CONNECT_S = 2
EVERY_S = 0.5
QUIET_LOOKS = 2  # so many looks in a row must find nothing
EXAMINATION_MIN = 3.0  # hospital minutes; a running examination may have no image yet
# The longest step that the laboratory takes by itself is ten hospital minutes (corrections).
STALL_S, STALL_MIN = 10.0, 12.0
MARKS = {"X-Priority": "P1", "X-Ward": "audit"}
REPORTS_SQL = b"""
SELECT key, body->>'status' FROM resource WHERE type = 'DiagnosticReport'
"""
LSN_SQL = b"""
SELECT pg_is_in_recovery(), CASE WHEN pg_is_in_recovery()
  THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END - '0/0'::pg_lsn
"""
LAG_BYTES = 65_536  # heartbeats go on while we look


class Backlog:
    """Looks at everything that may still be under way.

    `note(queue, depth)` is told every depth that was seen, so that a claim need not take the end
    of all work (tubes on the line, corrections) for the end of a backlog.
    """

    def __init__(
        self, config: Config, note: Callable[[str, float], None] = lambda _queue, _depth: None
    ) -> None:
        self._config = config
        self._note = note
        self._client = httpx.Client(timeout=ASK_S, headers=MARKS)
        self._pool = ThreadPoolExecutor(max_workers=8)

    def __enter__(self) -> Backlog:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._client.close()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def drain(self, within_s: float) -> str:
        """Wait until nothing is owed any more; returns '' or, in words, what still is."""
        end = time.monotonic() + within_s
        stall_s = max(STALL_S, self._config.real_s(STALL_MIN * 60) + 2)
        looks = self._quiet_looks()
        quiet, before, moved = 0, [""], time.monotonic()
        while True:
            owed = self.owed()
            now = time.monotonic()
            quiet = 0 if owed else quiet + 1
            if quiet >= looks:
                return ""
            if owed != before:
                before, moved = owed, now
            if owed and now > end:
                return f"not drained within {within_s:g} s: {'; '.join(owed[:5])}"
            if owed and now - moved > stall_s:
                return f"no progress for {stall_s:.0f} s: {'; '.join(owed[:5])}"
            time.sleep(EVERY_S)

    def owed(self) -> list[str]:
        """Everything that is owed now, each in a few words."""
        parts = (
            self._queues, self._laboratory, self._replication, self._imaging, self._notices,
        )  # fmt: skip
        found = [part.result() for part in [self._pool.submit(part) for part in parts]]
        return [text for part in found for text in part]

    # ------------------------------------------------------------ queues

    def _queues(self) -> list[str]:
        return [text for service in QUEUES for text in self._queues_of(service)]

    def _queues_of(self, service: str) -> list[str]:
        found = self._get(service, "/queues")
        if found is None:
            return []
        if isinstance(found, str):
            return [found]
        held = list(depths(found))
        for name, depth in held:
            self._note(f"{service}:{name}", depth)
        return [f"{service} holds {depth:g} for {name}" for name, depth in held if depth]

    # ------------------------------------------------------------ laboratory

    def _laboratory(self) -> list[str]:
        line, lis = self._export("analysers"), self._export("lis")
        owed = [trouble for trouble in (line, lis) if isinstance(trouble, str)]
        if isinstance(line, list):
            tubes = Counter(record.status for record in line if record.kind == "specimen")
            owed += [f"analysers: {tubes[s]} tubes {s}" for s in ("running", "held") if tubes[s]]
        if isinstance(lis, list):
            reports = {r.key: r.status for r in lis if r.kind == "report"}
            early = Counter(s for s in reports.values() if s in ("registered", "preliminary"))
            owed += [f"lis: {count} reports are {status}" for status, count in early.items()]
            owed += self._undelivered(reports)
        return owed

    def _undelivered(self, reports: dict[str, str]) -> list[str]:
        """Reports whose last version the record does not show yet."""
        troubles = []
        for address in self._databases():
            try:
                shown = dict(self._rows(address, REPORTS_SQL))
            except psycopg.Error as error:
                troubles.append(f"the record's database: {_line(error)}")
                continue
            late = sum(1 for key, status in reports.items() if shown.get(key) != status)
            return [f"{late} reports are not in the record"] if late else []
        return troubles

    # ------------------------------------------------------------ imaging, channels

    def _quiet_looks(self) -> int:
        """Where scanners stand, quiet is what outlasts the time between two of their images."""
        if self._config.service("modalities", "http") is None:
            return QUIET_LOOKS
        longest_s = self._config.real_s(EXAMINATION_MIN * 60)
        return QUIET_LOOKS + math.ceil(longest_s / EVERY_S)

    def _imaging(self) -> list[str]:
        """Images that the scanners hold until an archive has committed them."""
        found = self._get("modalities", "/buffer")
        if found is None:
            return []
        if isinstance(found, str):
            return [found]
        counts = {name: int(found.get(name) or 0) for name in ("held", "sent")}
        self._note("modalities:buffer", sum(counts.values()))
        return [f"modalities: {count} images {name}" for name, count in counts.items() if count]

    def _notices(self) -> list[str]:
        """Text messages that are still to be tried."""
        found = self._export("sms")
        if isinstance(found, str):
            return [found]
        pending = sum(r.kind == "notice" and r.status == "pending" for r in found or ())
        return [f"sms: {pending} notices are pending"] if pending else []

    # ------------------------------------------------------------ replication

    def _replication(self) -> list[str]:
        places = []
        for name in DATABASES:
            address = self._config.service(name, "postgres")
            if address is None:
                continue
            try:
                places.append((name, *self._rows(address, LSN_SQL)[0]))
            except psycopg.Error as error:
                return [f"{name} does not answer: {_line(error)}"]
        primaries = [place for place in places if not place[1]]
        if not primaries:
            return ["no database node is primary"] if places else []
        lag = primaries[0][2] - min(place[2] for place in places)
        return [f"the standby is {int(lag)} bytes behind"] if lag > LAG_BYTES else []

    def _databases(self) -> Iterator[Address]:
        for name in DATABASES:
            address = self._config.service(name, "postgres")
            if address is not None:
                yield address

    @staticmethod
    def _rows(address: Address, sql: bytes) -> list[tuple[Any, ...]]:
        dsn = postgres.dsn(address, connect_timeout_s=CONNECT_S, application_name="audit")
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(f"SET statement_timeout = {int(ASK_S * 1e3)}")
            return connection.execute(sql).fetchall()

    # ------------------------------------------------------------ asking

    def _get(self, service: str, path: str) -> dict[str, Any] | str | None:
        """The JSON answer, a trouble in words, or None when there is no such service."""
        address = self._config.service(service, "http")
        if address is None:
            return None
        try:
            answer = self._client.get(f"http://{address}{path}")
            found = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            return f"{service} does not answer: {_line(error)}"
        if answer.status_code != 200 or not isinstance(found, dict):
            return f"{service} answers {answer.status_code}"
        return found

    def _export(self, service: str) -> list[Record] | str | None:
        address = self._config.service(service, "http")
        if address is None:
            return None
        try:
            answer = self._client.get(f"http://{address}/export")
            if answer.status_code != 200:
                return f"{service} answers {answer.status_code}"
            return [msgspec.json.decode(line, type=Record) for line in answer.content.splitlines()]
        except (httpx.HTTPError, msgspec.DecodeError) as error:
            return f"{service} does not answer: {_line(error)}"


def depths(found: Any, name: str = "") -> Iterator[tuple[str, float]]:
    """Every (queue name, depth) in what GET /queues answers, however it is nested."""
    if not isinstance(found, dict):
        return
    if isinstance(found.get("depth"), (int, float)):
        yield name or "queue", float(found["depth"])
        return
    for key, value in found.items():
        yield from depths(value, str(key))


def _line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
