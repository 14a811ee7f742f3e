"""The record's integrity check: every row of every reachable node read, decoded and compared.

    POST /integrity  runs it     GET /integrity  says how the last one ended

Reading all rows makes PostgreSQL verify its page checksums; each body must be the resource that its
row says; nodes must agree on every row that both hold in the same version; where amcheck may be
used, indexes are verified against their tables. It refuses to pass a node that it could not read
to its end, and to repair anything.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from typing import Any

import msgspec
import psycopg

from stacks.hospital import fhir
from stacks.hospital.ehr.node import Away, Connection, Node
from stacks.hospital.ehr.pair import Pair
from stacks.hospital.log import Log, describe
from stacks.hospital.web import JSON, Refusal, Request, Response, Route, answer

PAGE = 400
STEP_S = 2.4
CHECK_S = 60.0
TAKE_S = 1.0
TROUBLES_MAX = 20
_ROWS = (
    "SELECT row, type, key, version, body::text, body->'meta'->>'versionId' FROM resource"
    " WHERE row > %s ORDER BY row LIMIT %s"
)
_AMCHECK = "SELECT to_regprocedure('bt_index_check(regclass,boolean)')::oid"
_INDEXES = (
    "SELECT c.oid::regclass::text FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid"
    " JOIN pg_am a ON a.oid = c.relam JOIN pg_namespace n ON n.oid = c.relnamespace"
    " WHERE a.amname = 'btree' AND n.nspname = 'public' AND i.indisvalid"
)
_CHECKSUMS = (
    "SELECT current_setting('data_checksums'), coalesce(sum(checksum_failures), 0)::bigint"
    " FROM pg_stat_database"
)
Rows = dict[int, tuple[int, bytes]]
"""Row → its version and the hash of what it holds."""


class Finding(msgspec.Struct, frozen=True):
    """How a check ended; times in Unix seconds."""

    ok: bool
    began_at: float
    ended_at: float
    rows: int
    nodes: dict[str, dict[str, Any]]
    troubles: list[str]


class IntegrityCheck:
    """One check at a time; the last finding is kept in memory and dies with the node."""

    def __init__(self, pair: Pair, log: Log) -> None:
        self._pair, self._log = pair, log
        self._running = asyncio.Lock()
        self.last: Finding | None = None

    def routes(self) -> list[Route]:
        """Run it, or ask for the last finding."""
        return [
            Route("/integrity", self.run, methods=["POST"]),
            Route("/integrity", self.found),
        ]

    async def run(self, _: Request) -> Response:
        """POST /integrity: 200 with the finding, whatever it is; 409 while one runs."""
        if self._running.locked():
            raise Refusal(409, "conflict", "a check is running; ask again for its finding")
        async with self._running:
            self.last = await self.check()
        return answer(self.last, media_type=JSON)

    async def found(self, _: Request) -> Response:
        """GET /integrity"""
        if self.last is None:
            raise Refusal(404, "not-found", "nothing was checked since this node started")
        return answer(self.last, media_type=JSON)

    async def check(self) -> Finding:
        """Every node to its end, then the nodes against each other."""
        began, troubles = time.time(), list[str]()
        nodes: dict[str, dict[str, Any]] = {}
        held: dict[str, Rows] = {}
        for node in self._pair.nodes:
            try:
                async with asyncio.timeout(CHECK_S):
                    held[node.name], nodes[node.name] = await self._node(node, troubles)
            except (Away, psycopg.Error, TimeoutError) as error:
                reason = describe(error) or f"not read to its end within {CHECK_S:g} s"
                troubles.append(f"{node.name} was not read to its end: {reason}")
        troubles += _differences(held)
        rows = max((len(one) for one in held.values()), default=0)
        finding = Finding(
            not troubles, began, time.time(), rows, nodes, troubles[:TROUBLES_MAX]
        )  # fmt: skip
        self._log.info(
            "integrity_checked", ok=finding.ok, rows=rows, troubles=len(troubles),
            first=troubles[0] if troubles else "",
        )  # fmt: skip
        return finding

    async def _node(self, node: Node, troubles: list[str]) -> tuple[Rows, dict[str, Any]]:
        session = await node.take(TAKE_S)
        sound = False
        try:
            rows: Rows = {}
            last = 0
            while True:
                with session.bounded(STEP_S):
                    page = await _fetch(session.connection, _ROWS, last, PAGE)
                if not page:
                    break
                for row in page:
                    rows[row[0]] = (row[3], hashlib.sha256(row[4].encode()).digest()[:16])
                    troubles += [f"{node.name}: row {row[0]}: {why}" for why in _wrong(row)]
                last = page[-1][0]
                await asyncio.sleep(0)
            with session.bounded(STEP_S):
                ((checksums, failures),) = await _fetch(session.connection, _CHECKSUMS)
            if failures:
                troubles.append(f"{node.name}: {failures} pages with a wrong checksum")
            indexes = await _indexes(node, session.connection, troubles)
            sound = True
            return rows, {"rows": len(rows), "data_checksums": checksums, "amcheck": indexes}
        finally:
            await node.give_back(session, sound)


async def _fetch(connection: Connection, sql: str, *values: object) -> list[tuple[Any, ...]]:
    cursor = await connection.execute(sql.encode(), values)
    return await cursor.fetchall()


async def _indexes(node: Node, connection: Connection, troubles: list[str]) -> str:
    """`12 indexes`, or why amcheck was not used; damage goes to `troubles`."""
    ((there,),) = await _fetch(connection, _AMCHECK)
    if there is None:
        return "not installed"
    names = [name for (name,) in await _fetch(connection, _INDEXES)]
    for name in names:
        try:
            await _fetch(connection, "SELECT bt_index_check(%s::regclass, true)", name)
        except psycopg.errors.InsufficientPrivilege:
            return "not allowed to the record's account"
        except (psycopg.errors.IndexCorrupted, psycopg.errors.DataCorrupted) as error:
            troubles.append(f"{node.name}: index {name}: {describe(error)}")
    return f"{len(names)} indexes"


def _wrong(row: tuple[Any, ...]) -> list[str]:
    """What is wrong with one row, in words."""
    _, type_, key, version, body, said = row
    try:
        resource = fhir.decode(body.encode(), type_)
    except fhir.Invalid as error:
        return [f"{type_} {key} is not readable: {error}"]
    found = []
    if fhir.key_of(resource) != key:
        found.append(f"{type_} {key} holds {fhir.key_of(resource)}")
    if said is not None and said != str(version):
        found.append(f"{type_} {key} is version {version} and says {said}")
    return found


def _differences(held: dict[str, Rows]) -> list[str]:
    """Rows that two nodes hold in the same version with different contents."""
    if len(held) < 2:
        return []
    (one, first), (other, second) = held.items()
    return [
        f"{one} and {other} differ in row {row}"
        for row, (version, content) in first.items()
        if row in second and second[row][0] == version and second[row][1] != content
    ]
