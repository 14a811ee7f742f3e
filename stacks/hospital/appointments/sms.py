"""Text messages to patients: one notice for every change, and a list of whom no message reaches.

    engine ──SIU──▶ book + notice (one commit) ──▶ phones        GET /unreachable: a person must

It refuses to acknowledge a change before its notice is on disk, to send a notice again without
marking it as a repeat, and to leave out anybody whom it did not reach.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
from starlette.routing import BaseRoute

from stacks.hospital.appointments.channel import channel, listening
from stacks.hospital.appointments.channel_notices import (
    LISTED_MAX,
    NOTICES_SCHEMA,
    Notices,
    announce,
)
from stacks.hospital.appointments.channel_phones import PHONES_SCHEMA, Phones
from stacks.hospital.log import Log
from stacks.hospital.pages import LIMIT_MAX, number
from stacks.hospital.settings import Settings
from stacks.hospital.store import Store, StoreError
from stacks.hospital.web import JSON, Face, Refusal, Request, Response, Route, answer, body, run

PHONE_CHARS_MAX = 128
CARER_CHARS_MAX = 200


class _Carer(msgspec.Struct, forbid_unknown_fields=True):
    carer: str


class _Switch(msgspec.Struct, forbid_unknown_fields=True):
    on: bool


class Sms:
    """The HTTP face over the notices and the phones."""

    def __init__(self, notices: Notices, phones: Phones) -> None:
        self._notices, self._phones = notices, phones

    async def inbox(self, request: Request) -> Response:
        phone = _phone(request)
        content = {"phone": phone, "messages": self._phones.inbox(phone)}
        return answer(content, media_type=JSON)

    async def switch(self, request: Request) -> Response:
        """The phone's owner switches it on or off."""
        phone = _phone(request)
        try:
            on = msgspec.json.decode(await body(request), type=_Switch).on
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            wanted = 'the body must be {"on": true or false}'
            raise Refusal(400, "invalid", f"{wanted}: {error}") from None
        try:
            await self._phones.switch(phone, on=on)
        except StoreError as error:
            raise Refusal(503, "transient", str(error), {"Retry-After": "2"}) from None
        return answer({"phone": phone, "on": on}, media_type=JSON)

    async def notices(self, request: Request) -> Response:
        after, limit = number(request, "after", 0), number(request, "limit", 200, LIMIT_MAX)
        return answer(self._notices.listed(None, after, limit), media_type=JSON)

    async def unreachable(self, _: Request) -> Response:
        return answer(self._notices.listed("unreachable", 0, LISTED_MAX), media_type=JSON)

    async def reached(self, request: Request) -> Response:
        """A person called the patient instead."""
        notice = request.path_params["notice"]
        try:
            carer = msgspec.json.decode(await body(request), type=_Carer).carer.strip()
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Refusal(400, "invalid", f'the body must be {{"carer": name}}: {error}') from None
        if not 0 < len(carer) <= CARER_CHARS_MAX:
            raise Refusal(400, "required", "whoever called the patient gives a name")
        try:
            found = await self._notices.reached(notice, carer)
        except StoreError as error:
            raise Refusal(503, "transient", str(error), {"Retry-After": "2"}) from None
        if not found:
            raise Refusal(404, "not-found", f"{notice[:64]!r} is not listed; see GET /unreachable")
        return answer({"notice": notice, "reached_by": carer}, media_type=JSON)

    def routes(self) -> list[BaseRoute]:
        """What only the text messages show."""
        return [
            Route("/phones/{phone}", self.inbox),
            Route("/phones/{phone}", self.switch, methods=["PUT"]),
            Route("/notices", self.notices),
            Route("/unreachable", self.unreachable),
            Route("/unreachable/{notice}", self.reached, methods=["POST"]),
        ]


def _phone(request: Request) -> str:
    phone: str = request.path_params["phone"]
    if len(phone) > PHONE_CHARS_MAX or not phone.isprintable():
        raise Refusal(400, "value", f"a number has 1 to {PHONE_CHARS_MAX} printable characters")
    return phone


@asynccontextmanager
async def sms(settings: Settings, log: Log) -> AsyncIterator[Face]:
    """The service: own file, MLLP in, messages out; the phones lie in a file of their own."""
    async with channel(settings, log, NOTICES_SCHEMA, changed=announce) as made:
        network = Store(settings.data_dir / "phones.db", PHONES_SCHEMA)
        try:
            phones = Phones(network)
            notices = Notices(made.book.store, phones, settings, log)
            made.pages.append(notices.records)
            made.on_news = lambda _: notices.ring()
            routes, checks = Sms(notices, phones).routes(), {"phones": network.check}
            async with listening(made, routes, [notices.run], checks) as face:
                yield face
        finally:
            await network.close()


if __name__ == "__main__":
    run(sms)
