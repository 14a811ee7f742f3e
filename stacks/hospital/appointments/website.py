"""The hospital's website: the status page, the list of cancellations, one appointment by its id.

    engine ──SIU──▶ book ──▶ GET / and /status (HTML or JSON), /cancellations, /appointments/{id}

It refuses to show a patient's number on a page, and to say `confirmed` of what it was not told.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.routing import BaseRoute

from stacks.hospital.appointments.channel import Channel, asked, channel, listening, told
from stacks.hospital.appointments.channel_book import CANCELLED
from stacks.hospital.appointments.channel_page import html_of, status_of
from stacks.hospital.bugs import planted
from stacks.hospital.log import Log
from stacks.hospital.settings import Settings
from stacks.hospital.web import JSON, Face, Request, Response, Route, answer, run
from stacks.hospital.wire.hl7 import Appointment

HTML = "text/html; charset=utf-8"


class Website:
    """The public face over one channel's book."""

    def __init__(self, made: Channel) -> None:
        self._channel = made

    async def status(self, request: Request) -> Response:
        book = self._channel.book
        status = status_of(book.every(), book.feed())
        headers = {"Cache-Control": "no-store", "Vary": "Accept"}
        if _wants_html(request):
            return Response(html_of(status), 200, headers, HTML)
        return answer(status, 200, headers, JSON)

    async def cancellations(self, _: Request) -> Response:
        items = [
            told(one.appointment, one) | {"decision": one.decision}
            for one in self._channel.book.every()
            if one.word == CANCELLED
        ]
        content = {"as_of": self._channel.as_of(), "cancellations": items}
        return answer(content, media_type=JSON)

    async def appointment(self, request: Request) -> Response:
        appointment = asked(request.path_params["id"])
        content = told(appointment, self._channel.book.of(appointment))
        return answer(content | {"as_of": self._channel.as_of()}, media_type=JSON)

    def routes(self) -> list[BaseRoute]:
        """What only the website shows."""
        return [
            Route("/", self.status),
            Route("/status", self.status),
            Route("/status.html", self.status),
            Route("/cancellations", self.cancellations),
            Route("/appointments/{id}", self.appointment),
        ]


def _wants_html(request: Request) -> bool:
    """A browser says so; a program that takes anything gets JSON, but for the front page."""
    return request.url.path in ("/", "/status.html") or "text/html" in request.headers.get(
        "accept", ""
    )


def _untold(message: Appointment) -> bool:
    return planted("website-not-told") and message.event == "S15"


@asynccontextmanager
async def website(settings: Settings, log: Log) -> AsyncIterator[Face]:
    """The service: own file, MLLP in, pages out."""
    async with channel(settings, log, skips=_untold) as made:
        async with listening(made, Website(made).routes()) as face:
            yield face


if __name__ == "__main__":
    run(website)
