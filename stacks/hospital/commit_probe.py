"""Whether one database node acknowledges writes now: one real commit, asked of that node itself.

It refuses to call a commit acknowledged that came with a warning (a cancelled wait for the
standby says success), and to wait longer than its bound: then it hangs up.
"""

from __future__ import annotations

import select
import time
from dataclasses import dataclass

import psycopg
from psycopg import pq

from stacks.hospital import postgres
from stacks.hospital.settings import Address

COMMIT_S = 3.0
CONNECT_S = 2
TABLE = """
CREATE TABLE IF NOT EXISTS commit_probe (node text PRIMARY KEY, commits bigint NOT NULL)
"""
COMMIT = """
INSERT INTO commit_probe AS known VALUES ('{node}', 1)
ON CONFLICT (node) DO UPDATE SET commits = known.commits + 1
RETURNING substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)
"""


@dataclass(frozen=True, slots=True)
class Commit:
    """One attempt: `text` is the timeline (hexadecimal) when acknowledged, else the reason."""

    began: float
    ended: float
    ok: bool
    text: str


class _Refused(Exception):
    """The node did not acknowledge; the text says why."""

    def __init__(self, text: str, state: str = "") -> None:
        super().__init__(text)
        self.state = state


class CommitProbe:
    """Asks one node again and again; not for several threads."""

    def __init__(self, node: str, address: Address) -> None:
        self._sql = COMMIT.format(node=node).encode()
        self._dsn = postgres.dsn(
            address, connect_timeout_s=CONNECT_S, application_name="commit-probe"
        )
        self._connection: psycopg.Connection | None = None
        self._warnings: list[str] = []

    def attempt(self) -> Commit:
        """One commit; never raises, and takes CONNECT_S + COMMIT_S at most."""
        began = time.monotonic()
        try:
            timeline = self._commit()
            ok, text = True, timeline
        except (_Refused, psycopg.Error, OSError) as error:
            ok, text = False, _line(error)
        return Commit(began, time.monotonic(), ok, text)

    def close(self) -> None:
        """Hang up."""
        if self._connection is not None:
            self._connection.pgconn.finish()
            self._connection = None

    def _commit(self) -> str:
        pgconn = self._connected()
        self._warnings.clear()
        try:
            timeline = _ask(pgconn, self._sql)
        except _Refused as error:
            if error.state != "42P01":  # the table is not there yet
                raise
            _ask(pgconn, TABLE.encode())
            timeline = _ask(pgconn, self._sql)
        if self._warnings:
            raise _Refused(f"acknowledged with a warning: {self._warnings[0]}")
        return timeline

    def _connected(self) -> pq.abc.PGconn:
        old = self._connection
        if old is None or old.pgconn.status != pq.ConnStatus.OK:
            self.close()
            self._connection = psycopg.connect(self._dsn, autocommit=True)
            self._connection.add_notice_handler(self._noticed)
        assert self._connection is not None
        return self._connection.pgconn

    def _noticed(self, notice: psycopg.errors.Diagnostic) -> None:
        if notice.severity_nonlocalized == "WARNING":
            self._warnings.append(notice.message_primary or "?")


def _ask(pgconn: pq.abc.PGconn, sql: bytes) -> str:
    """Send one statement and read its result within COMMIT_S, or hang up (without cancelling)."""
    end = time.monotonic() + COMMIT_S
    value = failure = state = ""
    pgconn.send_query(sql)
    while True:
        while pgconn.is_busy():
            readable, _, _ = select.select([pgconn.socket], [], [], max(0, end - time.monotonic()))
            if not readable:
                pgconn.finish()
                raise _Refused(f"no acknowledgement within {COMMIT_S:g} s")
            pgconn.consume_input()
        result = pgconn.get_result()
        if result is None:
            break
        if result.status == pq.ExecStatus.TUPLES_OK:
            value = (result.get_value(0, 0) or b"").decode()
        elif result.status == pq.ExecStatus.FATAL_ERROR:
            failure = result.error_message.decode("utf-8", "replace")
            state = (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode()
    if failure:
        raise _Refused(failure, state)
    return value


def _line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
