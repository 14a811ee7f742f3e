"""The small archive: takes images over DICOM, gives them over DICOM and DICOMweb.

    router ──C-STORE──▶ index + pixels (one commit) ◀──QIDO/WADO, C-FIND/C-MOVE── readers

It refuses to acknowledge an image before its commit, and to need anybody: reports of commitment
wait on disk until their receiver is there.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from stacks.hospital.bugs import planted
from stacks.hospital.health import Unready
from stacks.hospital.imaging.archive_commitment import Commitment
from stacks.hospital.imaging.archive_index import Index, open_index
from stacks.hospital.imaging.archive_scp import OFFERED, Desk
from stacks.hospital.imaging.archive_web import Web
from stacks.hospital.imaging.association import (
    Listening,
    known_callers,
    known_peers,
    listen,
    title_of,
)
from stacks.hospital.log import Log, describe
from stacks.hospital.settings import Address, Settings, SettingsError
from stacks.hospital.web import Face, run

CLEARING_S = 5.0
"""How often an archive of current studies looks for old ones."""


@asynccontextmanager
async def archive(settings: Settings, log: Log, kept_s: float | None = None) -> AsyncIterator[Face]:
    """The service; `kept_s` (real seconds) makes it an archive of current studies only."""
    try:
        title = title_of(settings.name)
    except ValueError as error:
        raise SettingsError(f"SERVICE_NAME: {error}") from None
    peers = known_peers(settings.environment)
    callers = known_callers(settings.environment) or None
    store, index = open_index(settings.data_dir / "archive.db")
    commitment = Commitment(store, index, title, peers, log)
    desk = Desk(index, commitment, peers, asyncio.get_running_loop(), log)
    listening = Listening(
        title, settings.bind("dicom"), OFFERED, desk.handlers(), callers,
        any_title=planted("any-title"),
    )  # fmt: skip
    scp = listen(listening, log)
    log.info(
        "dicom_listening", title=title, dicom=str(settings.bind("dicom")), images=index.size()[1]
    )

    async def wind_up(stop: asyncio.Event) -> None:
        await stop.wait()
        await asyncio.to_thread(scp.stop)

    background: list[Callable[[asyncio.Event], Awaitable[None]]] = [wind_up, commitment.run]
    if kept_s is not None:
        background.append(_clearing(index, kept_s, log))
    yield Face(
        routes=Web(index).routes(),
        checks={"store": store.check, "dicom": lambda: _listens(settings.bind("dicom"))},
        background=background,
    )
    await store.close()


async def _listens(where: Address) -> None:
    try:
        _, writer = await asyncio.open_connection(*where)
    except OSError as error:
        raise Unready(f"the DICOM port takes no connection: {describe(error)}") from None
    writer.close()


def _clearing(index: Index, kept_s: float, log: Log) -> Callable[[asyncio.Event], Awaitable[None]]:
    async def clear(stop: asyncio.Event) -> None:
        while not stop.is_set():
            gone = await index.forget(time.time() - kept_s)
            if gone:
                log.info("old_studies_cleared", images=gone)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(CLEARING_S, kept_s / 4)):
                    await stop.wait()

    return clear


if __name__ == "__main__":
    run(archive)
