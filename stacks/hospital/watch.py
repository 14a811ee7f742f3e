"""Watches the hospital beside its traffic and writes samples: what is writable, how old, how deep.

It refuses to go through the links' proxies (a cut link must not blind the watcher), to change
anything but its own probe table, and to wait for a service that hangs.

    db.writable  each database node, asked itself, about four times a second
    copy.asof    the read-only copy's as-of time, every second
    copy.census  share of the inpatients known to the record who are in the copy, every two
    queue.depth  every queue that a service shows; health: every service; every second
    incident.*   every entry of the incident system's log, looked for twice a second (incident.poll)
    integrity    every finding of the record's integrity check; replication.lag: of the standby
    backup.*     what the vault has, who may delete it; drill.*: every restore drill's report
    channel.word every word that a channel says of an appointment, when it changed; looked for
                 every second, and every look is a channel.poll
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from chaos.journal import events as ev
from chaos.journal.writer import JournalError, Writer
from stacks.hospital.backlog import DATABASES, depths
from stacks.hospital.backup_watch import backup_looks
from stacks.hospital.channel_watch import ChannelWatch
from stacks.hospital.clock import monotonic_of
from stacks.hospital.commit_probe import CommitProbe
from stacks.hospital.departments import ARCHIVE_READY
from stacks.hospital.incident_watch import incident_looks
from stacks.hospital.settings import Address
from stacks.hospital.traffic import child
from stacks.hospital.traffic.config import Config, ConfigError, read, usage_exit

ASK_S = 1.0
EVERY_S = 1.0
COMMIT_EVERY_S = 0.25
CENSUS_EVERY_S = 2.0
STOP_S = 4.0
SETTLED_MIN = 10.0  # hospital minutes that an inpatient may be known before the copy holds them
RECORD = ("ehr-a", "ehr-b")
CHANNELS = ("website", "callcentre", "sms", "clinic-lists")
READY_PATHS = dict.fromkeys(("pacs-a", "pacs-b"), ARCHIVE_READY)
"""Where readiness is asked; elsewhere at /health."""
EXIT_JOURNAL = 74
MONITOR = {"X-Priority": "P4", "X-Ward": "monitor"}


class Watcher:
    """Looks from several threads and writes into one journal until `stop` is set."""

    def __init__(self, config: Config, journal: Writer, stop: threading.Event) -> None:
        self._config, self._journal, self._stop = config, journal, stop
        self._known_since: dict[str, float] = {}
        self.trouble = ""

    def looks(self) -> Iterator[tuple[str, float, Callable[[], None]]]:
        """(name, seconds between two looks, look) for everything that the topology has."""
        for node in DATABASES:
            address = self._config.service(node, "postgres")
            if address is not None:
                probe = CommitProbe(node, address)
                yield f"commit-{node}", COMMIT_EVERY_S, partial(self._commit, node, probe)
        for service, port in self._health_ports():
            yield f"health-{service}", EVERY_S, self._health_of(service, port)
        for channel in CHANNELS:
            address = self._config.service(channel, "http")
            if address is not None:
                watch = ChannelWatch(channel, _client(address), self._sample)
                yield f"words-{channel}", EVERY_S, watch.look
        yield from incident_looks(self._config, self._sample)
        yield from backup_looks(self._config, self._sample)
        if "ro-copy.http" in self._config.direct:
            yield "copy", EVERY_S, self._with_client("ro-copy", self._as_of)
            yield "census", CENSUS_EVERY_S, self._census

    def run(self, every_s: float, look: Callable[[], None]) -> None:
        """Look again and again; a journal that cannot be written stops the watcher."""
        while not self._stop.is_set():
            began = time.monotonic()
            try:
                look()
            except JournalError as error:
                self.trouble = str(error)
                self._stop.set()
            self._stop.wait(max(0.01, every_s - (time.monotonic() - began)))

    def _sample(
        self, what: str, subject: str, value: float = 0.0, text: str = "", ok: bool = True
    ) -> None:
        self._journal.append(ev.Sample(
            t=time.monotonic(), what=what, subject=subject, value=value, text=text, ok=ok
        ))  # fmt: skip

    # ------------------------------------------------------------ databases

    def _commit(self, node: str, probe: CommitProbe) -> None:
        commit = probe.attempt()
        self._journal.append(ev.Sample(
            t=commit.ended, what="db.writable", subject=node, value=commit.began,
            text=commit.text, ok=commit.ok,
        ))  # fmt: skip

    # ------------------------------------------------------------ health and queues

    def _health_ports(self) -> Iterator[tuple[str, str]]:
        for key in sorted(self._config.direct):
            service, _, port = key.rpartition(".")
            if port in ("http", "rest"):
                yield service, port

    def _health_of(self, service: str, port: str) -> Callable[[], None]:
        address = self._config.service(service, port)
        assert address is not None
        client = _client(address)
        path = READY_PATHS.get(service, "/health")
        has_queues = port == "http" and service not in READY_PATHS

        def look() -> None:
            nonlocal has_queues
            status, found = _ask(client, path)
            text = str(found.get("status") or found.get("role") or "") if found else ""
            reason = _failing(found)
            self._sample(
                "health", service, float(status), f"{text}: {reason}" if reason else text,
                ok=status == 200,
            )  # fmt: skip
            if status and has_queues:
                status, found = _ask(client, "/queues", MONITOR)
                has_queues = status not in (404, 405)
                for name, depth in depths(found) if status == 200 else ():
                    self._sample("queue.depth", f"{service}:{name}", depth)

        return look

    # ------------------------------------------------------------ the read-only copy

    def _with_client(
        self, service: str, look: Callable[[httpx.Client], None]
    ) -> Callable[[], None]:
        address = self._config.service(service, "http")
        assert address is not None
        client = _client(address)
        return lambda: look(client)

    def _as_of(self, client: httpx.Client) -> None:
        status, found = _ask(client, "/snapshot")
        at = monotonic_of(found.get("as_of"))
        text = str(found.get("as_of") or f"no answer ({status})")
        self._sample("copy.asof", "ro-copy", at or 0.0, text, ok=status == 200 and at is not None)

    def _census(self) -> None:
        """Who is in the hospital, long enough known to the record, and not in the copy?"""
        with httpx.Client(timeout=ASK_S) as client:
            gam = _ask(client, f"{self._url('gam')}/census")[1]
            copy = _ask(client, f"{self._url('ro-copy')}/census")[1]
            self._learn(client)
        as_of = monotonic_of(copy.get("as_of"))
        if as_of is None or not gam:
            return
        settled = as_of - self._config.real_s(SETTLED_MIN * 60)
        due = {
            line["mrn"]
            for line in gam.get("patients", [])
            if (monotonic_of(line.get("admitted_at")) or settled) < settled
            and self._known_since.get(line["mrn"], settled) < settled
        }
        held = {line["mrn"] for line in copy.get("patients", [])}
        if due:
            missing = sorted(due - held)
            text = f"{len(due) - len(missing)} of {len(due)}"
            text += f"; missing: {', '.join(missing[:5])}" if missing else ""
            self._sample("copy.census", "ro-copy", 1 - len(missing) / len(due), text)

    def _learn(self, client: httpx.Client) -> None:
        """Note since when the record has had each patient in the hospital: the copy cannot know
        more. Who was discharged and came back, or got a visit by a merge, counts anew."""
        now = time.monotonic()
        for node in RECORD:
            path = f"{self._url(node)}/fhir/Encounter?status=in-progress&_count=1000"
            status, found = _ask(client, path, MONITOR)
            if status != 200:
                continue
            here = set()
            for entry in found.get("entry", []):
                subject = entry.get("resource", {}).get("subject", {})
                here.add(str(subject.get("reference", "")).removeprefix("Patient/"))
            self._known_since = {mrn: self._known_since.get(mrn, now) for mrn in here}
            return

    def _url(self, service: str) -> str:
        return f"http://{self._config.service(service, 'http')}"


def _client(address: Address) -> httpx.Client:
    return httpx.Client(base_url=f"http://{address}", timeout=ASK_S)


def _ask(
    client: httpx.Client, path: str, headers: dict[str, str] | None = None
) -> tuple[int, dict[str, Any]]:
    """(status, JSON object); status 0 when there is no answer."""
    try:
        answer = client.get(path, headers=headers)
        found = answer.json()
    except (httpx.HTTPError, ValueError):
        return 0, {}
    return answer.status_code, found if isinstance(found, dict) else {}


def _failing(found: dict[str, Any]) -> str:
    checks = found.get("checks")
    if not isinstance(checks, dict):
        return ""
    bad = [
        f"{name}: {check.get('reason', '?')}" for name, check in checks.items()
        if isinstance(check, dict) and (not check.get("ok", True) or "reason" in check)
    ]  # fmt: skip
    return "; ".join(bad)[:200]


def main() -> int:
    """Watch until told to stop; returns the exit status."""
    stop = threading.Event()
    child.end_with_harness(stop.set)
    try:
        config = read()
        journal = Writer(Path(config.journal))
        watcher = Watcher(config, journal, stop)
        looks = list(watcher.looks())
    except ConfigError as error:
        usage_exit(str(error))
    except JournalError as error:
        print(error, file=sys.stderr)
        return EXIT_JOURNAL
    journal.append(ev.WorkloadStarted(t=time.monotonic(), workload=config.workload))
    threads = [
        threading.Thread(target=watcher.run, args=(every_s, look), name=name, daemon=True)
        for name, every_s, look in looks
    ]
    for thread in threads:
        thread.start()
    child.announce_ready()
    while not stop.wait(1.0):
        pass
    end = time.monotonic() + STOP_S
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    if watcher.trouble:
        print(watcher.trouble, file=sys.stderr)
        return EXIT_JOURNAL
    journal.append(ev.WorkloadEnded(
        t=time.monotonic(), workload=config.workload, planned=0, started=0, late_p99_ms=0.0,
        late_max_ms=0.0,
    ))  # fmt: skip
    journal.close()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
