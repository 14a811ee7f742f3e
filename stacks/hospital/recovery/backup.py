"""The backup vault: pulls base backups and log of the record, and copies of every other system's
own file and images; keeps them, restores them for trial.

    ehr-db-a, ehr-db-b ──replication protocol──▶ backup ──▶ own disk in a room of its own
    engine, gam, lis, scheduling, billing ──/snapshot.db──▶ backup ◀──DICOMweb── archives

Nothing pushes: the vault opens every connection, and no account of a database host opens the
vault. It refuses to delete or change what it keeps on anybody's word; only its own retention does.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NoReturn

from stacks.hospital import settings as own_settings
from stacks.hospital.log import Log
from stacks.hospital.postgres import PostgresMissing
from stacks.hospital.recovery.backup_base import Bases
from stacks.hospital.recovery.backup_copies_http import CopyDesk
from stacks.hospital.recovery.backup_drill import Drills
from stacks.hospital.recovery.backup_files import FileCopies
from stacks.hospital.recovery.backup_http import Desk
from stacks.hospital.recovery.backup_images import ImageCopies
from stacks.hospital.recovery.backup_integrity import Integrity
from stacks.hospital.recovery.backup_marker import Markers
from stacks.hospital.recovery.backup_places import place
from stacks.hospital.recovery.backup_stream import LogStream
from stacks.hospital.recovery.backup_trial import Trials
from stacks.hospital.settings import Settings
from stacks.hospital.step_down import Refused, step_down
from stacks.hospital.web import Face, run


@asynccontextmanager
async def backup(settings: Settings, log: Log) -> AsyncIterator[Face]:
    """The service: one stream of log, bases, markers, copies; drills and checks on demand."""
    where = place(settings)
    stream = LogStream(where, log)
    bases = Bases(where, stream, settings, log)
    markers = Markers(where, stream, settings, log)
    copies = FileCopies(where, settings, log)
    drills = Drills(where, bases, log, markers)
    images = ImageCopies(where, settings, log)
    integrity = Integrity(where, bases, copies, images, settings, log)
    trials = Trials(where, copies, images, log)
    desk = Desk(stream, bases, drills, integrity, CopyDesk(copies, images, trials, log))

    async def last(stop: asyncio.Event) -> None:
        await stop.wait()
        await asyncio.gather(drills.stop(), trials.stop(), integrity.stop())

    record = [stream.run, bases.run, markers.run] if where.nodes else []
    yield Face(
        routes=desk.routes(),
        checks=desk.checks(),
        background=[*record, copies.run, images.run, last],
    )


def main() -> NoReturn:
    """Run the vault until SIGTERM."""
    own_settings.read_or_exit()
    try:
        if os.geteuid() == 0:
            step_down()  # a drill starts PostgreSQL, which refuses root
        run(backup)
    except (Refused, PostgresMissing) as error:
        own_settings.usage_exit(f"backup: {error}")


if __name__ == "__main__":
    main()
