"""What the record says of itself when its databases are slow: reading alone is degraded."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from stacks.hospital import health
from stacks.hospital.ehr.pair import Pair
from stacks.hospital.ehr.schema import Schema
from stacks.hospital.ehr.service import DatabaseCheck

SLOW_READ_S = 1.2


def test_a_slow_read_leaves_a_hung_write_time_to_be_told_as_degraded() -> None:
    """Both questions end before the health check gives up, which would say failed."""

    async def read(_: Any) -> None:
        await asyncio.sleep(SLOW_READ_S)

    async def write(_: Any) -> None:
        await asyncio.sleep(60)

    pair = cast(Pair, SimpleNamespace(read=read, write=write))
    check = DatabaseCheck(pair, cast(Schema, SimpleNamespace(ready=True)), "ehr-a")
    level, reason, _ = asyncio.run(health._run(check))
    assert level == "degraded"
    assert "charts can be read" in reason
