"""How the incident system sees the hospital: it asks every service, as a monitoring system does.

    probes = Probes(settings); world = await probes.look()     # all at once, each within ASK_S

It refuses to take an old answer for a new one, and to ask anybody but over its own links.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import httpx

from stacks.hospital.recovery.decisions import Integrity, Look, World
from stacks.hospital.recovery.plan import OF_SERVICE, QUEUES
from stacks.hospital.recovery.takeovers import Takeovers
from stacks.hospital.settings import Address, Settings

ASK_S = 2.5
"""One answer; a health check's own bound is two seconds."""
STARTING_S = 60.0
"""After so long whoever was never seen healthy is not starting any more, but away."""
CHECK_S = 75.0
"""The record's integrity check, to its end."""
MARKS = {"X-Priority": "P1", "X-Ward": "incident"}
OWN_CHECKS = ("database", "store", "queue")
"""Checks by which a service is itself unwell; others tell of its neighbours."""
RECORD = ("ehr-a", "ehr-b")
VAULT, VAULT_EVERY_S = "backup", 0.5
WATCHED = tuple(OF_SERVICE)


class Probes:
    """What was last seen of each service that this topology links us to."""

    def __init__(self, settings: Settings) -> None:
        self._places: dict[str, tuple[str, Address]] = {}
        for name in WATCHED:
            for port in ("http", "rest"):
                link = settings.optional_link(name, port)
                if link is not None:
                    self._places[name] = (port, link)
        vault = settings.optional_link(VAULT, "http")
        if vault is not None:
            self._places[VAULT] = ("http", vault)
        self._client = httpx.AsyncClient(timeout=ASK_S, headers=MARKS, verify=False)
        self._looks: dict[str, Look] = {}
        self._began = time.monotonic()
        self._empty_at: dict[str, float] = {}
        self._waiting: dict[str, dict[str, int]] = {}
        self._engine_at = 0.0
        self._lag: float | None = None
        self._copy: float | None = None
        self.integrity: Integrity | None = None
        self._takeovers = Takeovers()

    async def look(self) -> World:
        """Ask everybody once."""
        self._lag = self._copy = None
        self._waiting = {}
        await asyncio.gather(*(self._service(name) for name in self._places if name != VAULT))
        if self._takeovers.open and VAULT in self._places:
            found = await self._json(VAULT, "/backups")
            self._takeovers.evidence(found.get("log") if isinstance(found, dict) else None)
        return World(
            time.time(), dict(self._looks), dict(self._empty_at), dict(self._waiting),
            self._engine_at, self._lag, self._copy, self.integrity, self._takeovers.all,
            VAULT in self._places,
        )  # fmt: skip

    async def check_integrity(self) -> Integrity | None:
        """Have the record checked by whichever node does it, and by the vault where one stands.

        None when nobody does; the worse finding counts.
        """
        found = await self._record()
        if found is not None and found.ok and VAULT in self._places:
            found = await self._vault(found)
        self.integrity = found or self.integrity
        return found

    async def _record(self) -> Integrity | None:
        for name in RECORD:
            if name not in self._places or not self._looks[name].healthy:
                continue
            began = time.time()
            found = await self._json(name, "/integrity", "POST", CHECK_S)
            if isinstance(found, dict) and isinstance(found.get("ok"), bool):
                troubles = found.get("troubles") or ["nothing found"]
                text = f"{name} checked {found.get('rows')} rows: {troubles[0]}"
                return Integrity(found["ok"], began, text)
        return None

    async def _vault(self, record: Integrity) -> Integrity:
        """What the backup vault reads: pages as they lie on the disks, indexes, copy, backups."""
        began = time.time()
        found = await self._json(VAULT, "/integrity", "POST")
        while time.time() - began < CHECK_S:
            found = await self._json(VAULT, "/integrity")
            if not isinstance(found, dict):
                break
            if not found.get("running") and float(found.get("checked_at", 0.0)) >= began - 1.0:
                troubles = [*found.get("damages", ()), *found.get("unread", ()), "nothing found"]
                text = f"{record.text}; the vault's check: {troubles[0]}"
                return Integrity(found.get("status") == "ok", record.began, text)
            await asyncio.sleep(VAULT_EVERY_S)
        why = found if isinstance(found, str) else f"not done within {CHECK_S:g} s"
        return Integrity(False, record.began, f"{record.text}; the vault's check: {why}")

    async def close(self) -> None:
        """Hang up."""
        await self._client.aclose()

    async def _service(self, name: str) -> None:
        port, _ = self._places[name]
        if port == "rest":
            await self._node(name)
            return
        found = await self._json(name, "/health")
        reason = _unwell(found)
        self._note(name, reason)
        if reason:
            return
        if name in QUEUES:
            asked_at = time.time()
            queues = await self._json(name, "/queues")
            if isinstance(queues, dict):
                self._queues(name, queues.get("destinations", queues), asked_at)
        elif name == "ro-copy":
            snapshot = await self._json(name, "/snapshot")
            self._copy = _unix(snapshot.get("as_of")) if isinstance(snapshot, dict) else None

    async def _node(self, name: str) -> None:
        """A database node: Patroni answers for it, and knows the standby's lag."""
        found = await self._json(name, "/cluster")
        members = found.get("members") if isinstance(found, dict) else None
        if not isinstance(members, list):
            self._note(name, str(found) if isinstance(found, str) else "no answer")
            return
        members = [one for one in members if isinstance(one, dict)]
        self._takeovers.seen(members, time.time())
        mine: dict[str, Any] = next((one for one in members if one.get("name") == name), {})
        state = str(mine.get("state", "unknown"))
        self._note(name, "" if state in ("running", "streaming") else f"PostgreSQL is {state}")
        lags = [one.get("lag") for one in members if one.get("role") not in ("leader", "primary")]
        numbers = [float(lag) for lag in lags if isinstance(lag, int | float)]
        if numbers and len(numbers) == len(lags):
            self._lag = max(self._lag or 0.0, *numbers)

    def _note(self, name: str, reason: str) -> None:
        before = self._looks.get(name)
        failed = (before.failed if before else 0) + 1 if reason else 0
        known = not reason or (before is not None and before.known)
        known = known or time.monotonic() - self._began > STARTING_S
        self._looks[name] = Look(not reason, reason, failed, known)

    def _queues(self, name: str, destinations: Mapping[str, Any], asked_at: float) -> None:
        if name == "engine":
            self._engine_at = asked_at
        for destination, line in destinations.items():
            if not isinstance(line, dict):
                continue
            queue = f"{name}:{destination}"
            self._empty_at.setdefault(queue, 0.0)
            if line.get("depth") == 0:
                self._empty_at[queue] = asked_at
            if name == "engine":
                self._waiting[destination] = dict(line.get("kinds") or {})

    async def _json(
        self, name: str, path: str, method: str = "GET", within_s: float = ASK_S
    ) -> dict[str, Any] | str:
        """The JSON object of a 200; else why there is none, in words."""
        _, link = self._places[name]
        try:
            async with asyncio.timeout(within_s):
                answer = await self._client.request(
                    method, f"http://{link}{path}", timeout=within_s
                )
                found = answer.json()
        except TimeoutError:
            return f"no answer within {within_s:g} s"
        except (httpx.HTTPError, ValueError) as error:
            return str(error).splitlines()[0] if str(error) else type(error).__name__
        if not isinstance(found, dict):
            return f"answers {answer.status_code}"
        if answer.status_code not in (200, 202):
            return _unwell(found) or f"answers {answer.status_code}"
        return found


def _unwell(found: dict[str, Any] | str) -> str:
    """Why a service is not healthy; empty when it is."""
    if isinstance(found, str):
        return found
    checks = found.get("checks")
    for name, check in checks.items() if isinstance(checks, dict) else ():
        own = name in OWN_CHECKS and isinstance(check, dict)
        if own and not check.get("ok", True):
            return f"{name}: {check.get('reason', 'failed')}"
    return ""


def _unix(text: object) -> float | None:
    try:
        return datetime.fromisoformat(str(text)).timestamp()
    except ValueError:
        return None
