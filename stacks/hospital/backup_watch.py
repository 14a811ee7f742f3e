"""What the backup vault says of itself, every report of a drill and check, and an intruder's tries.

    backup.log, backup.base   value = up to when the log is received; when the newest base was begun
    backup.failover           a new primary's timeline was followed; value = bytes of log it lacks
    backup.copy               value = how old a system's newest copy is, real seconds
    drill.<what>              one report, once it is done, subject = the drill; `drill` comes last
    restore                   a copy was given back for good; value = the instant of that copy
    trial.<what>              the same of one system but the record: `engine 1`, `images 1`, ...
    integrity, damage         one finding of the vault's check, and each damage that it names
    backup.intruder           somebody with the database's passwords tries to delete or change

It refuses to believe that nobody can delete: it tries, with all that a database host knows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import cycle
from math import inf
from typing import Any

import httpx

from stacks.hospital import postgres
from stacks.hospital.channel_watch import Sampler
from stacks.hospital.clock import monotonic_of
from stacks.hospital.traffic.config import Config

ASK_S = 1.5
EVERY_S, INTRUDE_EVERY_S = 1.0, 4.0
VAULT = "backup"
TEXT_MAX = 300
DENIED = (401, 403, 404, 405)
ATTEMPTS = (
    ("DELETE", "/backups"), ("DELETE", "/backups/{base}"), ("PUT", "/backups/{base}"),
    ("DELETE", "/trials"), ("DELETE", "/files/engine"), ("PUT", "/export"),
)  # fmt: skip
NUMBERS = ("files", "rows", "read", "rto_s")
INSTANTS = {"asked_at": "asked", "reached_at": "reached", "base_at": "base"}
OF_TRIAL = {"asked_at": "asked", "copy_at": "copy", "newest_at": "newest"}


def backup_looks(
    config: Config, sample: Sampler
) -> Iterator[tuple[str, float, Callable[[], None]]]:  # fmt: skip
    """(name, seconds between two looks, look); nothing where no vault stands."""
    address = config.service(VAULT, "http")
    if address is None:
        return
    client = httpx.Client(base_url=f"http://{address}", timeout=ASK_S)
    watch = BackupWatch(client, sample)
    yield "backups", EVERY_S, watch.look
    yield "intruder", INTRUDE_EVERY_S, watch.intrude


class BackupWatch:
    """Follows one vault; every report is sampled once."""

    def __init__(self, client: httpx.Client, sample: Sampler) -> None:
        self._client, self._sample = client, sample
        self._drills: set[str] = set()
        self._trials: dict[str, list[str]] = {}
        self._copies: dict[str, float] = {}
        self._given = 0
        self._checked_at = 0.0
        self._base = ""
        self._failovers = 0
        self._attempts = cycle(ATTEMPTS)

    def look(self) -> None:
        """One look at everything."""
        self._backups(self._json("/backups"))
        for report in self._json("/drills") or ():
            if report.get("done") and report["drill"] not in self._drills:
                self._drills.add(report["drill"])
                self._drill(report)
        for report in self._json("/trials") or ():
            known = self._trials.setdefault(report["system"], [])
            if report.get("done") and report["trial"] not in known:
                known.append(report["trial"])
                self._trial(report, f"{report['system']} {len(known)}")
        for given in (self._json("/restores") or [])[self._given :]:
            self._given += 1
            self._returned(given)
        found = self._json("/integrity")
        if found and not found.get("running") and found.get("checked_at") != self._checked_at:
            self._checked_at = found["checked_at"]
            self._finding(found)

    def intrude(self) -> None:
        """One try with the database superuser's password."""
        if not self._base:
            return
        method, path = next(self._attempts)
        account = (postgres.SUPERUSER.name, postgres.SUPERUSER.password)
        try:
            answer = self._client.request(method, path.format(base=self._base), auth=account)
        except httpx.HTTPError:
            return  # an absent vault obeys nobody
        told = f"{method} {path} was answered {answer.status_code}"
        self._sample(
            "backup.intruder", VAULT, float(answer.status_code), told,
            ok=answer.status_code in DENIED,
        )  # fmt: skip

    def _backups(self, found: Any) -> None:
        if not isinstance(found, dict):
            self._sample("backup.log", VAULT, 0.0, "no answer", ok=False)
            return
        self._ages(found)
        if not found.get("record", True):
            self._base = self._base or "engine"
            return
        log = found["log"]
        told = f"{log['chain']} from {log['from'] or 'nobody'}, {len(log['gaps'])} gaps"
        at = log["archived_at"]
        self._sample("backup.log", VAULT, monotonic_of(at) or 0.0, told, ok=bool(at))
        for one in log["failovers"][self._failovers :]:
            self._failovers += 1
            lost = f"timeline {one['timeline']}: {one['lost_bytes']} bytes of log lost"
            self._sample("backup.failover", one["node"], float(one["lost_bytes"]), lost)
        if found["bases"]:
            newest = found["bases"][-1]
            self._base = str(newest["id"])
            self._sample("backup.base", VAULT, monotonic_of(newest["began_at"]) or 0.0, self._base)

    def _ages(self, found: dict[str, Any]) -> None:
        """How old each copy is, whenever there is a new one."""
        ages = {name: one["age_s"] for name, one in found.get("files", {}).items()}
        if "images" in found:
            ages["images"] = found["images"]["age_s"]
        for name, age in ages.items():
            if age is None:
                self._sample("backup.copy", name, 0.0, "none yet", ok=False)
            elif age < self._copies.get(name, inf):  # a new one; else it only grew older
                self._sample("backup.copy", name, age)
            self._copies[name] = inf if age is None else age

    def _trial(self, report: dict[str, Any], subject: str) -> None:
        for name in NUMBERS:
            self._sample(f"trial.{name}", subject, float(report[name]))
        for name, what in OF_TRIAL.items():
            if report[name]:
                self._sample(f"trial.{what}", subject, monotonic_of(report[name]) or 0.0)
        text = "; ".join(report["troubles"])[:TEXT_MAX] or f"from {report['source']}"
        number = float(len(report["troubles"]))
        self._sample("trial", subject, number, text, ok=bool(report["ok"]))

    def _returned(self, given: dict[str, Any]) -> None:
        did = ", ".join(f"{name} {value}" for name, value in given["answer"].items())
        at = monotonic_of(given["copy_at"]) or 0.0
        self._sample("restore", str(given["system"]), at, f"from {given['copy']}: {did}")

    def _drill(self, report: dict[str, Any]) -> None:
        drill = str(report["drill"])
        for name in NUMBERS:
            self._sample(f"drill.{name}", drill, float(report[name]))
        for name, what in INSTANTS.items():
            if report[name]:
                self._sample(f"drill.{what}", drill, monotonic_of(report[name]) or 0.0)
        to = report["to"] or report["asked_at"]
        self._sample("drill.to", drill, monotonic_of(to) or 0.0)
        text = "; ".join(report["troubles"])[:TEXT_MAX]
        self._sample("drill", drill, float(len(report["troubles"])), text, ok=bool(report["ok"]))

    def _finding(self, found: dict[str, Any]) -> None:
        at = monotonic_of(found["checked_at"]) or 0.0
        for one in found["damages"]:
            self._sample("damage", VAULT, at, str(one)[:TEXT_MAX], ok=False)
        told = "; ".join([found["status"], *found["damages"][:3], *found["unread"][:3]])
        self._sample("integrity", VAULT, at, told[:TEXT_MAX], ok=found["status"] == "ok")

    def _json(self, path: str) -> Any:
        """What a 200 says; None when there is none."""
        try:
            answer = self._client.get(path)
            return answer.json() if answer.status_code == 200 else None
        except (httpx.HTTPError, ValueError):
            return None
