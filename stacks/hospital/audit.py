"""Reads every store and replica after the traffic, once backlogs have drained, and writes it down.

It judges nothing and repairs nothing: what lies twice is written twice, and a store that cannot
be read to its end is written as incomplete.

Parameters: `drain_s`, how long backlogs may take to drain (real seconds).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import httpx
import msgspec
import psycopg

from chaos.journal import events as ev
from chaos.journal.writer import JournalError, Writer
from stacks.hospital import postgres
from stacks.hospital.backlog import DATABASES, Backlog
from stacks.hospital.clock import monotonic_of
from stacks.hospital.records import Record, export_sql, of_row
from stacks.hospital.settings import Address
from stacks.hospital.traffic import child
from stacks.hospital.traffic.config import Config, ConfigError, read, usage_exit

EXPORTERS = (
    "gam", "lis", "analysers", "ro-copy", "engine", "modalities", "dicom-router", "ris",
    "scheduling", "website", "callcentre", "sms", "clinic-lists", "billing",
    "backup",
)  # fmt: skip
ARCHIVES = ("pacs-a", "pacs-b", "emergency-viewer")
"""Read image by image over DICOMweb; the viewer need not be complete: it keeps a day."""
RESTORED, RECEIVED, BESIDE = "backup.", "engine.received", "kept."
"""What the vault restored of a system; all that the engine received, delivered or not (only where
a vault stands, to hold it against); and how their kinds of records begin."""
READ_S = 40.0  # one store, to its end
STEP_S = 10.0  # one answer or one page
PAGE = 2_000
RECORDS_MAX = 2_000_000
EXIT_JOURNAL = 74


class Params(msgspec.Struct, forbid_unknown_fields=True):
    """What the harness chooses."""

    drain_s: float = 60.0


class Unreadable(Exception):
    """A store could not be read to its end; the text says why."""


def main() -> int:
    """Drain, read, end; returns the exit status."""
    child.end_with_harness(lambda: sys.exit(1))
    try:
        config = read()
        params = config.params_as(Params)
        journal = Writer(Path(config.journal))
    except ConfigError as error:
        usage_exit(str(error))
    except JournalError as error:
        print(error, file=sys.stderr)
        return EXIT_JOURNAL
    child.announce_ready()
    try:
        _audit(config, params, journal)
        journal.close()
    except JournalError as error:
        print(error, file=sys.stderr)
        return EXIT_JOURNAL
    return 0


def _audit(config: Config, params: Params, journal: Writer) -> None:
    def note(queue: str, depth: float) -> None:
        journal.append(
            ev.Sample(t=time.monotonic(), what="queue.depth", subject=queue, value=depth)
        )

    with Backlog(config, note) as backlog:
        reason = backlog.drain(params.drain_s)
    journal.append(ev.Drained(t=time.monotonic(), ok=not reason, reason=reason))
    stores = list(_stores(config))
    with ThreadPoolExecutor(max_workers=len(stores) or 1) as pool:
        readings = [(name, pool.submit(_complete, records)) for name, records in stores]
        for name, reading in readings:
            records, trouble = reading.result()
            _write(journal, name, records, trouble)


def _stores(config: Config) -> Iterator[tuple[str, Callable[[], Iterator[Record]]]]:
    for name in DATABASES:
        address = config.service(name, "postgres")
        if address is not None:
            yield name, partial(read_database, address)
    for name in EXPORTERS:
        address = config.service(name, "http")
        if address is not None:
            yield name, partial(read_export, address)
    for name in ARCHIVES:
        address = config.service(name, "http")
        if address is not None:
            yield name, partial(read_archive, address)
    vault = config.service("backup", "http")
    if vault is not None:
        yield from _restored(vault)
        engine = config.service("engine", "http")
        if engine is not None:
            yield RECEIVED, partial(read_export, engine)


def _restored(vault: Address) -> Iterator[tuple[str, Callable[[], Iterator[Record]]]]:
    """What the vault restored for trial of each system."""
    try:
        trials = httpx.get(f"http://{vault}/trials", timeout=STEP_S).json()
        systems = sorted({str(trial["system"]) for trial in trials if trial["done"]})
    except (httpx.HTTPError, ValueError, KeyError, TypeError):
        return  # the claim says that nobody read it
    for system in systems:
        yield f"{RESTORED}{system}", partial(read_export, vault, f"/export?system={system}")


def _complete(records: Callable[[], Iterator[Record]]) -> tuple[list[Record], str]:
    """Everything that could be read, and why it is not everything."""
    found: list[Record] = []
    end = time.monotonic() + READ_S
    try:
        for record in records():
            found.append(record)
            if time.monotonic() > end:
                raise Unreadable(f"not read to its end within {READ_S:g} s")
            if len(found) > RECORDS_MAX:
                raise Unreadable(f"more than {RECORDS_MAX} records")
    except Unreadable as error:
        return found, str(error)
    return found, ""


def read_database(address: Address) -> Iterator[Record]:
    """Every resource in one database node, asked itself; raises Unreadable."""
    try:
        dsn = postgres.dsn(address, application_name="audit")
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(f"SET statement_timeout = {int(STEP_S * 1e3)}")
            after, sql = 0, export_sql().encode()
            while rows := connection.execute(sql, (after, PAGE)).fetchall():
                yield from map(of_row, rows)
                after = rows[-1][0]
    except (psycopg.Error, ValueError) as error:
        raise Unreadable(_line(error)) from None


def read_export(address: Address, path: str = "/export") -> Iterator[Record]:
    """Every record that a service exports; raises Unreadable."""
    decode = msgspec.json.Decoder(Record).decode
    url = f"http://{address}{path}"
    try:
        with httpx.stream("GET", url, timeout=STEP_S, headers={"X-Priority": "P1"}) as answer:
            if answer.status_code != 200:
                raise Unreadable(f"GET {path} answered {answer.status_code}")
            for line in answer.iter_lines():
                if line:
                    yield decode(line)
    except (httpx.HTTPError, msgspec.DecodeError) as error:
        raise Unreadable(_line(error)) from None


def read_archive(address: Address) -> Iterator[Record]:
    """Every image of an archive, its pixels digested here; raises Unreadable."""
    from stacks.hospital.imaging import dicomweb  # slow to import, and most runs have no archive

    try:
        for one in dicomweb.instances(address):
            yield Record(
                "instance", one.sop_uid, one.patient or one.image_patient, "stored", 0,
                one.digest, stored_at=one.stored_at,
            )  # fmt: skip
    except dicomweb.DicomWebError as error:
        raise Unreadable(_line(error)) from None


def _write(journal: Writer, store: str, records: list[Record], trouble: str) -> None:
    beside = store == RECEIVED or store.startswith(RESTORED)
    for record in records:
        if beside:  # not where business is done: no claim shall count it twice
            record = msgspec.structs.replace(record, kind=f"{BESIDE}{record.kind}", count=1)
        if store == "engine" and record.status == "delivered":
            continue  # the engine's own archive; what counts is what it still owes
        kind = "task" if record.status == "parked" and not beside else record.kind
        journal.append(ev.Record(
            t=time.monotonic(), store=store, kind=kind, key=record.key, subject=record.patient,
            status=record.status, version=record.version, digest=record.digest,
            count=record.count, at=_stored(record),
        ))  # fmt: skip
    journal.append(ev.StoreRead(
        t=time.monotonic(), store=store, complete=not trouble, records=len(records),
        reason=trouble,
    ))  # fmt: skip


def _stored(record: Record) -> float:
    return (monotonic_of(record.stored_at) or 0.0) if record.stored_at else 0.0


def _line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__


if __name__ == "__main__":
    raise SystemExit(main())
