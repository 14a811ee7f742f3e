"""The emergency viewer: a small archive of current studies that stands apart from the PACS.

It refuses to be an archive: a study of which nothing arrived for a day is cleared.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from stacks.hospital.imaging.archive import archive
from stacks.hospital.log import Log
from stacks.hospital.settings import Settings
from stacks.hospital.web import Face, run

CURRENT_S = 24 * 3600.0
"""How long a study counts as current, in hospital seconds."""


@asynccontextmanager
async def viewer(settings: Settings, log: Log) -> AsyncIterator[Face]:
    """The service."""
    async with archive(settings, log, kept_s=settings.real_s(CURRENT_S)) as face:
        yield face


if __name__ == "__main__":
    run(viewer)
