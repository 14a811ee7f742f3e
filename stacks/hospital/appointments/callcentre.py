"""The call centre: answers patients who ring, keeps every call, lists whom a person must call.

    engine ──SIU──▶ book ──▶ POST /calls (a patient rings), GET /call-list (we must ring)

It refuses to rebook, to say anything that its own feed did not tell it, and to answer a call that
it cannot keep.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from starlette.routing import BaseRoute

from stacks.hospital.appointments.channel import Channel, asked, channel, listening, told
from stacks.hospital.appointments.channel_book import CANCELLED, MOVED, UNKNOWN, Said
from stacks.hospital.appointments.channel_phones import out_of_reach
from stacks.hospital.bugs import planted
from stacks.hospital.log import Log
from stacks.hospital.pages import LIMIT_MAX, instant, number
from stacks.hospital.settings import Settings
from stacks.hospital.store import StoreError
from stacks.hospital.web import JSON, Face, Refusal, Request, Response, Route, answer, body, run

LAG_S = 20 * 60.0  # hospital seconds; planted defect only
CARER_CHARS_MAX = 200
CALLS_SCHEMA = """
CREATE TABLE IF NOT EXISTS call (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  appointment TEXT NOT NULL, word TEXT NOT NULL, version INTEGER NOT NULL, at REAL,
  known_at REAL, said_at REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS called (
  appointment TEXT NOT NULL, version INTEGER NOT NULL, carer TEXT NOT NULL, at REAL NOT NULL,
  PRIMARY KEY (appointment, version)
) WITHOUT ROWID;
"""
NOTE = {
    "confirmed": "It stands as far as we know.",
    "cancelled": "It is cancelled; the hospital will call with a new date.",
    "moved": "It was moved to the time given here.",
    "unknown": "We have nothing about it; please ring the clinic before you travel.",
}


class _Call(msgspec.Struct, forbid_unknown_fields=True):
    appointment: str


class _Called(msgspec.Struct, forbid_unknown_fields=True):
    carer: str


class CallCentre:
    """The telephone face over one channel's book."""

    def __init__(self, made: Channel) -> None:
        self._channel = made
        self._store = made.book.store

    async def ring(self, request: Request) -> Response:
        """A patient rings and asks about an appointment."""
        try:
            call = msgspec.json.decode(await body(request), type=_Call)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            wanted = 'the body must be {"appointment": id}'
            raise Refusal(400, "invalid", f"{wanted}: {error}") from None
        appointment = asked(call.appointment)
        book = self._channel.book

        def work(connection: sqlite3.Connection) -> tuple[int, Said | None, float]:
            said, now = book.within(connection, appointment), time.time()
            row = (
                appointment, said.word if said else UNKNOWN, said.version if said else 0,
                said.at if said else None, said.known_at if said else None, now,
            )  # fmt: skip
            kept = connection.execute(
                "INSERT INTO call (appointment, word, version, at, known_at, said_at)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                row,
            )
            return int(kept.lastrowid or 0), said, now

        try:
            number_, said, said_at = await self._store.write(work)
        except StoreError as error:
            raise Refusal(
                503, "transient", f"the call cannot be kept now: {error}", {"Retry-After": "2"}
            ) from None
        content = told(appointment, said)
        content |= {
            "call": number_, "said_at": instant(said_at), "as_of": self._channel.as_of(),
            "note": NOTE[content["word"]],
        }  # fmt: skip
        return answer(content, 201, media_type=JSON)

    async def calls(self, request: Request) -> Response:
        after, limit = number(request, "after", 0), number(request, "limit", 200, LIMIT_MAX)
        rows = self._store.read(
            lambda connection: connection.execute(
                "SELECT id, appointment, word, version, at, known_at, said_at FROM call"
                " WHERE id > ? ORDER BY id LIMIT ?",
                (after, limit),
            ).fetchall()
        )
        items = [
            {"call": id_, "appointment": appointment, "word": word, "version": version,
             "at": _instant(at), "known_at": _instant(known_at), "said_at": instant(said_at)}
            for id_, appointment, word, version, at, known_at, said_at in rows
        ]  # fmt: skip
        return answer(items, media_type=JSON)

    async def call_list(self, _: Request) -> Response:
        done = self._store.read(
            lambda connection: connection.execute(
                "SELECT appointment, version FROM called"
            ).fetchall()
        )
        called = set(done)
        items = [
            _to_call(one, reason)
            for one in sorted(self._channel.book.every(), key=lambda one: one.at)
            if (reason := _why_call(one)) and (one.appointment, one.version) not in called
        ]
        return answer(items, media_type=JSON)

    async def has_called(self, request: Request) -> Response:
        """A person of the call centre told the patient."""
        appointment = asked(request.path_params["id"])
        try:
            carer = msgspec.json.decode(await body(request), type=_Called).carer.strip()
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Refusal(400, "invalid", f'the body must be {{"carer": name}}: {error}') from None
        if not 0 < len(carer) <= CARER_CHARS_MAX:
            raise Refusal(400, "required", "whoever called the patient gives a name")
        book = self._channel.book

        def work(connection: sqlite3.Connection) -> Said | None:
            said = book.within(connection, appointment)
            if said is None or not _why_call(said):
                return None
            connection.execute(
                "INSERT OR IGNORE INTO called VALUES (?, ?, ?, ?)",
                (appointment, said.version, carer, time.time()),
            )
            return said

        try:
            said = await self._store.write(work)
        except StoreError as error:
            raise Refusal(503, "transient", str(error), {"Retry-After": "2"}) from None
        if said is None:
            raise Refusal(404, "not-found", f"{appointment} is not on the call list")
        return answer(told(appointment, said) | {"called_by": carer}, media_type=JSON)

    def routes(self) -> list[BaseRoute]:
        """What only the call centre shows."""
        return [
            Route("/calls", self.ring, methods=["POST"]),
            Route("/calls", self.calls),
            Route("/call-list", self.call_list),
            Route("/call-list/{id}", self.has_called, methods=["POST"]),
        ]


def _why_call(said: Said) -> str:
    """Why a person must call this patient; empty when nobody must."""
    return out_of_reach(said.phone) if said.word in (CANCELLED, MOVED) else ""


def _to_call(said: Said, reason: str) -> dict[str, Any]:
    return told(said.appointment, said) | {
        "patient": said.patient, "phone": said.phone, "reason": reason,
    }  # fmt: skip


def _instant(unix_s: float | None) -> str | None:
    return None if unix_s is None else instant(unix_s)


@asynccontextmanager
async def callcentre(settings: Settings, log: Log) -> AsyncIterator[Face]:
    """The service: own file, MLLP in, calls and the call list over HTTP."""
    lag_s = settings.real_s(LAG_S) if planted("callcentre-lags") else 0.0
    async with channel(settings, log, CALLS_SCHEMA, lag_s=lag_s) as made:
        async with listening(made, CallCentre(made).routes()) as face:
            yield face


if __name__ == "__main__":
    run(callcentre)
