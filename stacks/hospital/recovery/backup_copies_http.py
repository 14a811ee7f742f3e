"""The vault's HTTP answers about systems other than the record: how old their copies are, trials.

    GET /trials     what was restored for trial, and how it went
    POST /restores  {"system"[, "to"]}: give the copy back to the system itself

It has no word for deleting, and none for taking a copy: nobody can make older ones go.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Any

import msgspec

from stacks.hospital.health import Degraded
from stacks.hospital.log import Log
from stacks.hospital.recovery.backup_back import Given, NotGiven, give_back, give_images_back
from stacks.hospital.recovery.backup_files import FileCopies
from stacks.hospital.recovery.backup_images import ImageCopies
from stacks.hospital.recovery.backup_trial import Trial, Trials
from stacks.hospital.web import JSON, NDJSON, Refusal, Request, Response, Route, answer, body

GIVEN_MAX = 100


class Back(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to restore for good; `to`: from the newest copy by then, Unix seconds (0: from before
    the system lost rows)."""

    system: str
    to: float = 0.0


class CopyDesk:
    """Answers about copies and their trials."""

    def __init__(
        self, copies: FileCopies, images: ImageCopies, trials: Trials, log: Log
    ) -> None:  # fmt: skip
        self._copies, self._images, self.trials, self._log = copies, images, trials, log
        self._given: deque[Given] = deque(maxlen=GIVEN_MAX)

    def routes(self) -> list[Route]:
        """Its own routes."""
        return [
            Route("/trials", self.reports),
            Route("/restores", self.restore, methods=["POST"]),
            Route("/restores", self.restored),
        ]

    def kept(self, now: float) -> dict[str, Any]:
        """Its part of GET /backups."""
        files = {}
        for service in self._copies.services:
            some = self._copies.of(service)
            files[service] = {
                "copies": len(some), "age_s": now - some[-1].at if some else None,
                "bytes": some[-1].bytes if some else 0,
                "trouble": self._copies.trouble.get(service, ""),
            }  # fmt: skip
        if not self._images.archives:
            return {"files": files}
        rounds = self._images.rounds
        images = {
            "images": len(self._images.all), "age_s": now - rounds[-1].at if rounds else None,
            "from": rounds[-1].archive if rounds else "", "trouble": self._images.trouble,
        }  # fmt: skip
        return {"files": files, "images": images}

    async def check(self) -> None:
        """Health: a system that is not copied any more is a degraded mode, and named."""
        late = self._copies.late(time.time())
        if late:
            raise Degraded("; ".join(f"{service}: {why}" for service, why in late.items()))

    def begin(self, to: float) -> list[Trial]:
        """Restore every system for trial."""
        return self.trials.begin(self.trials.systems, to)

    async def reports(self, _: Request) -> Response:
        return answer([_told(one) for one in self.trials.reports], media_type=JSON)

    async def restore(self, request: Request) -> Response:
        """The newest sound copy goes back to the system that lost its own."""
        try:
            asked = msgspec.json.decode(await body(request), type=Back)
        except msgspec.DecodeError as error:
            raise Refusal(400, "invalid", str(error)) from None
        try:
            made = await asyncio.to_thread(self._give, asked)
        except NotGiven as error:
            raise Refusal(error.status, "not-found", str(error)) from None
        self._given.append(made)
        self._log.info("copy_given_back", system=made.system, copy=made.copy)
        return answer(made, 200, media_type=JSON)

    def _give(self, asked: Back) -> Given:
        if asked.system in self._images.archives:
            return give_images_back(self._images, asked.system)
        return give_back(self._copies, asked.system, asked.to)

    async def restored(self, _: Request) -> Response:
        return answer(list(self._given), media_type=JSON)

    def export(self, system: str) -> Response:
        """What the last trial of that system restored."""
        for one in reversed(self.trials.reports):
            if one.system == system and one.done:
                path = self.trials.content(one.trial)
                if not path.exists():
                    break
                return Response(path.read_bytes(), media_type=NDJSON)
        raise Refusal(404, "not-found", f"{system[:40]!r} was not restored and read to its end")


def _told(trial: Trial) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.to_builtins(trial)
    return {**found, "rto_s": round(trial.rto_s, 3)}
