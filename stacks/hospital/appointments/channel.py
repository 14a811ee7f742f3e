"""The chassis of a channel that tells patients: its feed from the engine, its book, what it says.

    engine ──SIU over MLLP──▶ book (own SQLite) ──▶ GET /says, /export, /feed and the channel's own

It refuses to acknowledge a message before it is on disk, and to know anything from another channel:
what its own feed did not tell, it does not know.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from starlette.routing import BaseRoute

from stacks.hospital.appointments.channel_book import (
    BOOK_SCHEMA,
    UNKNOWN,
    Book,
    Changed,
    Said,
)
from stacks.hospital.door import Background
from stacks.hospital.health import Check, Degraded
from stacks.hospital.log import Log
from stacks.hospital.pages import Page, export, instant
from stacks.hospital.records import Record
from stacks.hospital.settings import Settings
from stacks.hospital.store import Store, StoreError
from stacks.hospital.unstored import unstored
from stacks.hospital.web import JSON, NDJSON, Face, Refusal, Request, Response, Route, answer
from stacks.hospital.wire.hl7 import Appointment, Header, Hl7Error, parse
from stacks.hospital.wire.intake import Intake
from stacks.hospital.wire.intake import Refusal as Refused
from stacks.hospital.wire.mllp import MllpServer

SILENT_S = 60 * 60.0
"""Hospital seconds without any news after which a channel says so in its health."""
ASKED_CHARS_MAX = 128

Skips = Callable[[Appointment], bool]


class Channel:
    """One channel: what it heard, how it is fed, and the routes that all channels have."""

    def __init__(
        self, book: Book, settings: Settings, log: Log, skips: Skips | None = None
    ) -> None:
        self.book = book
        self.settings = settings
        self.log = log
        self.intake = Intake(settings.name.upper(), self.receive, on_refusal=self._refused)
        self.says: Callable[[], Sequence[bytes]] = self._says
        self.pages: list[Page] = [self.records]
        self.on_news: Callable[[Appointment], None] = lambda _: None
        self._skips = skips
        self._since = time.time()
        self._lines: dict[str, tuple[Said, bytes]] = {}

    # -- in ---------------------------------------------------------------------------------------

    async def receive(self, _: Header, payload: bytes) -> None:
        """Keep one message of the feed. Raises: Hl7Error."""
        message = parse(payload).body
        if not isinstance(message, Appointment):
            raise Hl7Error("200", f"{self.settings.name} takes appointments (SIU) only")
        if self._skips is not None and self._skips(message):
            return
        try:
            await self.book.hear(message)
        except StoreError as error:
            self.log.warn_once_per(10.0, "store_not_writable", reason=str(error))
            raise unstored(error, "the channel cannot keep it now; send it again") from None
        except Hl7Error as error:
            if error.code == "205":
                await self.book.contradicted()
            raise
        self.on_news(message)

    def _refused(self, refusal: Refused) -> None:
        self.log.warn(
            "message_refused", message=refusal.control_id, sender=refusal.sender,
            kind=refusal.kind, code=refusal.code, reason=refusal.reason,
        )  # fmt: skip

    # -- out --------------------------------------------------------------------------------------

    def _says(self) -> list[bytes]:
        return [self._line(said) for said in self.book.every()]

    def _line(self, said: Said) -> bytes:
        """Every channel is polled every second: what did not change is not written again."""
        known = self._lines.get(said.appointment)
        if known is None or known[0] is not said:
            known = (said, msgspec.json.encode(line(said)))
            self._lines[said.appointment] = known
        return known[1]

    async def said(self, _: Request) -> Response:
        lines = self.says()
        return Response(b"\n".join([*lines, b""]) if lines else b"", 200, None, NDJSON)

    async def fed(self, _: Request) -> Response:
        return answer(self.feed(), media_type=JSON)

    async def everything(self, _: Request) -> Response:
        return export(*self.pages)

    def records(self, after: int, limit: int) -> tuple[list[Record], int]:
        """One page of the export: kind `appointment`, status = the word."""
        page = self.book.page(after, limit)
        records = [
            Record("appointment", one.appointment, one.patient, one.word, one.version, "",
                   stored_at=one.known_at)
            for one in page
        ]  # fmt: skip
        return records, page[-1].seq if page else after

    def feed(self) -> dict[str, Any]:
        """The state of the feed, as /feed and the status page show it."""
        feed, now = self.book.feed(), time.time()
        return {
            "as_of": instant(feed.last_at) if feed.last_at else None,
            "age_s": round(now - feed.last_at, 3) if feed.last_at else None,
            "messages": feed.messages, "repeats": feed.repeats, "late": feed.late,
            "contradictions": feed.contradictions, "refused": self.intake.refused,
        }  # fmt: skip

    def as_of(self) -> str | None:
        """Until when this channel has news from scheduling; None = it never had any."""
        last_at = self.book.feed().last_at
        return instant(last_at) if last_at else None

    async def check_feed(self) -> None:
        """Health: a long silence of the feed is told, and is no reason not to answer."""
        last_at = self.book.feed().last_at
        silent_s = time.time() - max(last_at, self._since)
        if silent_s > self.settings.real_s(SILENT_S):
            since = f"since {instant(last_at)}" if last_at else "ever"
            raise Degraded(
                f"no news from scheduling {since}; silent for {silent_s:.0f} s: look at GET /queues"
                " of the engine"
            )

    def routes(self) -> list[BaseRoute]:
        """What every channel shows."""
        return [
            Route("/says", self.said),
            Route("/feed", self.fed),
            Route("/export", self.everything),
        ]


def line(said: Said) -> dict[str, Any]:
    """One line of GET /says; times in RFC 3339."""
    return {
        "appointment": said.appointment, "patient": said.patient, "word": said.word,
        "at": instant(said.at), "version": said.version, "known_at": instant(said.known_at),
        "service": said.service, "clinic": said.clinic, "decision": said.decision,
    }  # fmt: skip


def told(appointment: str, said: Said | None) -> dict[str, Any]:
    """The answer to somebody who asks about one appointment, without names."""
    if said is None:
        return {"appointment": appointment, "word": UNKNOWN, "at": None, "version": 0,
                "known_at": None}  # fmt: skip
    return {
        "appointment": appointment, "word": said.word, "at": instant(said.at),
        "version": said.version, "known_at": instant(said.known_at), "service": said.service,
        "clinic": said.clinic,
    }  # fmt: skip


def asked(text: str) -> str:
    """An appointment's id as somebody wrote it. Raises: Refusal 400."""
    if not 0 < len(text) <= ASKED_CHARS_MAX or not text.isprintable():
        wanted = f"1 to {ASKED_CHARS_MAX} printable characters"
        raise Refusal(400, "value", f"an appointment's id has {wanted}")
    return text


@asynccontextmanager
async def channel(
    settings: Settings, log: Log, schema: str = "", *, lag_s: float = 0.0, rank: str = "version",
    changed: Changed | None = None, skips: Skips | None = None,
) -> AsyncIterator[Channel]:  # fmt: skip
    """A channel with its own file; the file is closed at the end."""
    store = Store(settings.data_dir / f"{settings.name}.db", BOOK_SCHEMA + schema)
    try:
        book = Book(store, lag_s=lag_s, rank=rank, changed=changed)
        yield Channel(book, settings, log, skips)
    finally:
        await store.close()


@asynccontextmanager
async def listening(
    made: Channel,
    routes: Sequence[BaseRoute],
    background: Sequence[Background] = (),
    checks: Mapping[str, Check] | None = None,
) -> AsyncIterator[Face]:
    """The channel's face; its feed is taken while this is open."""
    server = MllpServer(
        made.intake.answer,
        on_error=lambda reason: made.log.warn_once_per(5.0, "connection_dropped", reason=reason),
    )
    await server.start(*made.settings.bind("mllp"))

    async def listen(stop: asyncio.Event) -> None:
        await stop.wait()
        await server.stop()

    try:
        yield Face(
            routes=[*made.routes(), *routes],
            checks={"store": made.book.store.check, "feed": made.check_feed, **(checks or {})},
            background=[listen, *background],
        )
    finally:
        await server.stop()
