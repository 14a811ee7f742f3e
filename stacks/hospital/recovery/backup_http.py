"""The vault's HTTP face: what is kept and how old it is; take one, restore one for trial, check.

    GET  /backups            what is kept       POST /backups            a base backup now
    GET  /drills[/{id}]      reports            POST /drills {"to"|"ago_s"}   restore everything
    GET  /trials             of other systems   POST /restores {"system"}   give a copy back
    GET  /integrity          the last check     POST /integrity          begin one
    GET  /export[?system=]   what the last drill restored, as records

It has no word for deleting or changing a backup, whoever asks: retention is the vault's own.
"""

from __future__ import annotations

import time
from typing import Any

import msgspec

from stacks.hospital.health import Check, Degraded, Unready
from stacks.hospital.recovery.backup_base import Bases, NotTaken
from stacks.hospital.recovery.backup_copies_http import CopyDesk
from stacks.hospital.recovery.backup_drill import Drills, Report
from stacks.hospital.recovery.backup_integrity import Integrity
from stacks.hospital.recovery.backup_stream import LogStream
from stacks.hospital.web import JSON, NDJSON, Refusal, Request, Response, Route, answer, body

LOG_LATE_S = 15.0
"""So old may the newest received log be before health says so; machine time."""
FUTURE_S = 1.0


class Asked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Up to when to restore: Unix seconds, or seconds ago; neither: everything."""

    to: float = 0.0
    ago_s: float = 0.0


class Desk:
    """Answers for one vault."""

    def __init__(
        self, stream: LogStream, bases: Bases, drills: Drills, integrity: Integrity,
        copies: CopyDesk,
    ) -> None:  # fmt: skip
        self._stream, self._bases, self._drills = stream, bases, drills
        self._integrity, self._copies = integrity, copies

    def routes(self) -> list[Route]:
        """All routes of this face."""
        return [
            Route("/backups", self.take, methods=["POST"]),
            Route("/backups", self.backups),
            Route("/drills", self.drill, methods=["POST"]),
            Route("/drills", self.reports),
            Route("/drills/{drill}", self.report),
            Route("/integrity", self.check, methods=["POST"]),
            Route("/integrity", self.checked),
            Route("/export", self.export),
            *self._copies.routes(),
        ]

    def checks(self) -> dict[str, Check]:
        """Health; of a record's backups only where there is a record."""
        of_record = {"log": self.log_check, "store": self.base_check}
        return {**(of_record if self._stream.nodes else {}), "copies": self._copies.check}

    # -- health -----------------------------------------------------------------------------------

    async def log_check(self) -> None:
        """Health: a vault that receives nothing is degraded; what it keeps it keeps."""
        late = time.time() - self._stream.archived_at
        if late > LOG_LATE_S:
            raise Degraded(f"no log for {late:.0f} s: {self._stream.trouble}")

    async def base_check(self) -> None:
        """Health: no base backup is unready, an old one degraded."""
        newest = self._bases.newest
        if newest is None:
            raise Unready(self._bases.trouble)
        age = time.time() - newest.began_at
        if age > self._bases.age_most_s:
            raise Degraded(f"the newest base backup is {age:.0f} s old: {self._bases.trouble}")

    # -- backups ----------------------------------------------------------------------------------

    async def backups(self, _: Request) -> Response:
        stream, now = self._stream, time.time()
        newest = self._bases.newest
        return answer(
            {
                "bases": self._bases.all,
                "age_s": now - newest.began_at if newest else None,
                "trouble": self._bases.trouble, "record": bool(stream.nodes),
                "log": {
                    "chain": stream.chain, "archived_at": stream.archived_at,
                    "age_s": now - stream.archived_at if stream.archived_at else None,
                    "from": stream.primary.name if stream.primary else "",
                    "gaps": stream.gaps, "failovers": stream.failovers, "trouble": stream.trouble,
                },
                **self._copies.kept(now),
            },
            media_type=JSON,
        )  # fmt: skip

    async def take(self, _: Request) -> Response:
        try:
            return answer(await self._bases.take(), 201, media_type=JSON)
        except NotTaken as error:
            raise Refusal(503, "transient", str(error), {"Retry-After": "2"}) from None

    # -- drills -----------------------------------------------------------------------------------

    async def drill(self, request: Request) -> Response:
        raw = await body(request)
        try:
            asked = msgspec.json.decode(raw or b"{}", type=Asked)
        except msgspec.DecodeError as error:
            raise Refusal(400, "invalid", str(error)) from None
        if asked.to and asked.ago_s:
            raise Refusal(400, "invalid", "give `to` or `ago_s`, not both")
        to = time.time() - asked.ago_s if asked.ago_s else asked.to
        if not 0 <= to <= time.time() + FUTURE_S:
            raise Refusal(422, "value", f"nothing can be restored to {to:g}: it is not past")
        if self._drills.running or self._copies.trials.running:
            raise Refusal(409, "conflict", "a drill is running; ask for its report")
        begun = [one.trial for one in self._copies.begin(to)]
        told = _told(self._drills.begin(to)) if self._stream.nodes else {}
        return answer({**told, "trials": begun}, 202, media_type=JSON)

    async def reports(self, _: Request) -> Response:
        return answer([_told(one) for one in self._drills.reports], media_type=JSON)

    async def report(self, request: Request) -> Response:
        asked = request.path_params["drill"]
        for one in self._drills.reports:
            if one.drill == asked:
                return answer(_told(one), media_type=JSON)
        raise Refusal(404, "not-found", f"no drill {asked[:40]!r}")

    async def export(self, request: Request) -> Response:
        if "system" in request.query_params:
            return self._copies.export(request.query_params["system"])
        for one in reversed(self._drills.reports):
            path = self._drills.content(one.drill)
            if one.done and path.exists():
                return Response(path.read_bytes(), media_type=NDJSON)
        return Response(b"", media_type=NDJSON)

    # -- integrity --------------------------------------------------------------------------------

    async def check(self, _: Request) -> Response:
        self._integrity.begin()
        return answer(self._integrity.found(), 202, media_type=JSON)

    async def checked(self, _: Request) -> Response:
        return answer(self._integrity.found(), media_type=JSON)


def _told(report: Report) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.to_builtins(report)
    return {**found, "rto_s": round(report.rto_s, 3)}
