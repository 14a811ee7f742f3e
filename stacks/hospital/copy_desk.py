"""The HTTP face of the read-only copy: every answer marked, every write refused with a reason.

It refuses to say anything younger than what it holds.
"""

from __future__ import annotations

import sqlite3
import time
from datetime import UTC, datetime
from typing import Protocol

import msgspec
from starlette.exceptions import HTTPException
from starlette.routing import Router
from starlette.types import Message, Receive, Scope, Send

from stacks.hospital.bugs import planted
from stacks.hospital.copy_snapshot import Line, Snapshot, tagged
from stacks.hospital.pages import export
from stacks.hospital.web import JSON, Refusal, Request, Response, Route, answer, outcome

MARK = "READ-ONLY"


class Copy(Protocol):
    """What the desk shows."""

    trouble: str
    """Why the last refresh failed; empty if it did not."""

    @property
    def as_of(self) -> float | None:
        """Unix seconds up to which the copy is complete; None before the first snapshot."""
        ...

    def held(self) -> Snapshot:
        """The snapshot to answer from; Refusal 503 before the first one."""
        ...


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
        except sqlite3.Error as error:
            reason = f"the copy's own disk cannot be read: {error}; ask the record"
            await outcome(503, "transient", reason, {"Retry-After": "1"})(scope, receive, marked)
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
