"""Billing (P4): takes charges from the engine, keeps each once; may be stopped on purpose.

    engine ──DFT^P03 over MLLP──▶ book (own SQLite) ──▶ statements, page, export

It refuses to acknowledge what is not on disk, so that a deliberate stop has nothing left to save:
what came too late is still the engine's, and comes again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from html import escape

from stacks.hospital.bugs import planted
from stacks.hospital.door import Background
from stacks.hospital.log import Log
from stacks.hospital.pages import export, instant
from stacks.hospital.recovery.billing_book import BILLING_SCHEMA, BillingBook, Kept
from stacks.hospital.settings import Settings
from stacks.hospital.snapshot import snapshot_route
from stacks.hospital.store import Store, StoreError
from stacks.hospital.unstored import unstored
from stacks.hospital.web import JSON, Face, Refusal, Request, Response, Route, answer, run
from stacks.hospital.wire.hl7 import Charge, Header, Hl7Error, parse
from stacks.hospital.wire.intake import Intake
from stacks.hospital.wire.intake import Refusal as Refused
from stacks.hospital.wire.mllp import MllpServer

KEY_CHARS_MAX = 128
WRITE_DOWN_S = 1_200.0  # planted defect only, hospital seconds
HTML = "text/html; charset=utf-8"


class Billing:
    """The two faces of one book: messages in, statements out."""

    def __init__(self, book: BillingBook, settings: Settings, log: Log) -> None:
        self.book, self._log = book, log
        self.intake = Intake("BILLING", self.receive, on_refusal=self._refused)
        self._every_s = settings.real_s(WRITE_DOWN_S)
        self._unwritten: list[tuple[Header, Charge]] = []  # planted defect only

    async def receive(self, header: Header, payload: bytes) -> None:
        """Keep one charge. Raises: Hl7Error."""
        charge = parse(payload).body
        if not isinstance(charge, Charge):
            raise Hl7Error("200", "billing takes charges (DFT^P03) only")
        if planted("billing-forgets"):
            self._unwritten.append((header, charge))
            return
        try:
            await self.book.keep([(header, charge)])
        except StoreError as error:
            self._log.warn_once_per(10.0, "store_not_writable", reason=str(error))
            raise unstored(error, "billing cannot keep it now; send it again") from None

    async def write_down(self, stop: asyncio.Event) -> None:
        """Planted defect only: what was acknowledged is written now and then, not when stopped."""
        while not stop.is_set():
            try:
                async with asyncio.timeout(self._every_s):
                    await stop.wait()
            except TimeoutError:
                taken, self._unwritten = self._unwritten, []
                await self.book.keep(taken)

    def _refused(self, refusal: Refused) -> None:
        self._log.warn(
            "message_refused", message=refusal.control_id, sender=refusal.sender,
            kind=refusal.kind, code=refusal.code, reason=refusal.reason,
        )  # fmt: skip

    # -- out --------------------------------------------------------------------------------------

    async def statement(self, request: Request) -> Response:
        visit = _asked(request.path_params["visit"])
        found = self.book.charges("visit", visit)
        if not found:
            raise Refusal(404, "not-found", f"nothing was charged for visit {visit!r} yet")
        lines = [_line(one) for one in found]
        total = sum(one.cents for one in found)
        return answer({"visit": visit, "lines": lines, "total_cents": total}, media_type=JSON)

    async def charges(self, request: Request) -> Response:
        mrn = _asked(request.query_params.get("patient", ""))
        lines = [_line(one) for one in self.book.charges("mrn", mrn)]
        return answer({"patient": mrn, "charges": lines}, media_type=JSON)

    async def page(self, _: Request) -> Response:
        rows = "".join(
            f"<tr><td>{escape(code)}</td><td>{number}</td></tr>"
            for code, number in self.book.totals().items()
        )
        text = (
            "<!doctype html><html lang=en><meta charset=utf-8><title>Billing</title>"
            f"<h1>Billing</h1><table><tr><th>code<th>charges</tr>{rows}</table></html>"
        )
        return Response(text, 200, {"Cache-Control": "no-store"}, HTML)

    async def everything(self, _: Request) -> Response:
        return export(self.book.page)

    def routes(self) -> list[Route]:
        """All routes of this face."""
        return [
            Route("/", self.page),
            Route("/statements/{visit}", self.statement),
            Route("/charges", self.charges),
            Route("/export", self.everything),
            snapshot_route(self.book.store),
        ]


def _line(one: Kept) -> dict[str, object]:
    return {
        "charge": one.charge, "patient": one.mrn, "visit": one.visit, "code": one.code,
        "quantity": one.quantity, "cents": one.cents, "at": instant(one.at),
    }  # fmt: skip


def _asked(text: str) -> str:
    if not 0 < len(text) <= KEY_CHARS_MAX or not text.isprintable():
        raise Refusal(400, "value", f"give 1 to {KEY_CHARS_MAX} printable characters")
    return text


@asynccontextmanager
async def billing(settings: Settings, log: Log) -> AsyncIterator[Face]:
    """The service: own file, MLLP in, statements out."""
    store = Store(settings.data_dir / "billing.db", BILLING_SCHEMA)
    desk = Billing(BillingBook(store), settings, log)
    server = MllpServer(
        desk.intake.answer,
        on_error=lambda reason: log.warn_once_per(5.0, "connection_dropped", reason=reason),
    )
    await server.start(*settings.bind("mllp"))

    async def listen(stop: asyncio.Event) -> None:
        await stop.wait()
        await server.stop()

    background: list[Background] = [listen]
    if planted("billing-forgets"):
        background.append(desk.write_down)
    yield Face(routes=desk.routes(), checks={"store": store.check}, background=background)
    await server.stop()
    await store.close()


if __name__ == "__main__":
    run(billing)
