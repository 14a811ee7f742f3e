"""Answers shared by the systems' HTTP faces: long exports page by page, numbers in queries.

It refuses to hold a whole store in memory or to block the event loop for longer than a page.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime

from starlette.requests import Request
from starlette.responses import StreamingResponse

from stacks.hospital.records import Record, ndjson
from stacks.hospital.web import NDJSON, Refusal

PAGE = 500
LIMIT_MAX = 1_000

Page = Callable[[int, int], tuple[list[Record], int]]
"""(after, limit) → the records of one page and the position of its last row."""


def export(*pages: Page) -> StreamingResponse:
    """GET /export: every record of every source, as NDJSON."""

    async def body() -> AsyncIterator[bytes]:
        for page in pages:
            after = 0
            while True:
                records, last = page(after, PAGE)
                if last == after:
                    break
                if records:
                    yield ndjson(records)
                after = last
                await asyncio.sleep(0)

    return StreamingResponse(body(), media_type=NDJSON)


def instant(unix_s: float) -> str:
    """Unix seconds as RFC 3339 in UTC, as every JSON face of the hospital writes times."""
    return datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="milliseconds")


def number(request: Request, name: str, default: int, largest: int = 2**53) -> int:
    """A non-negative whole number from the query. Raises: Refusal 400."""
    text = request.query_params.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdecimal()) or len(text) > 16 or int(text) > largest:
        raise Refusal(400, "value", f"{name}={text[:20]!r} is not a number from 0 to {largest}")
    return int(text)
