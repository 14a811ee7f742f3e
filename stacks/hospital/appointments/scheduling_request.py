"""What scheduling reads from a request's head, and its refusals as HTTP answers.

It refuses a change that names no version, and to call a hanging disk a no.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from stacks.hospital.appointments.scheduling_log import LogError
from stacks.hospital.appointments.scheduling_rules import Closed, Conflict, Stale, Unknown
from stacks.hospital.store import StoreError
from stacks.hospital.web import Refusal, Request

STORE_S = 3.0
"""A disk that takes longer to store a change hangs: the caller is told that it is not known."""
REQUEST_CHARS_MAX = 128
_VERSION = re.compile(r'W/"(\d{1,9})"')


def wish_of(request: Request) -> tuple[int, str]:
    """The version of If-Match, and the key by which a repetition of this request is known."""
    wish = request.headers.get("if-match")
    if wish is None:
        raise Refusal(428, "required", 'If-Match: W/"<version>" is required; read it first')
    match = _VERSION.fullmatch(wish.strip())
    if match is None:
        raise Refusal(400, "value", f'If-Match is {wish[:40]!r}; give W/"<version>"')
    named = request.headers.get("idempotency-key")
    if named is not None and not (0 < len(named) <= REQUEST_CHARS_MAX and named.isprintable()):
        raise Refusal(400, "value", f"Idempotency-Key has 1 to {REQUEST_CHARS_MAX} characters")
    return int(match[1]), f"key {named}" if named else f"version {match[1]}"


@asynccontextmanager
async def honest(within_s: float = STORE_S) -> AsyncIterator[None]:
    """The agenda's refusals as HTTP answers; a hanging disk is bounded and not called a no."""
    try:
        async with asyncio.timeout(within_s):
            yield
    except Unknown as error:
        raise Refusal(404, "not-found", str(error)) from None
    except Conflict as error:
        raise Refusal(409, "conflict", str(error)) from None
    except Stale as error:
        raise Refusal(412, "conflict", str(error)) from None
    except Closed as error:
        raise Refusal(503, "transient", str(error), {"Retry-After": "5"}) from None
    except StoreError as error:
        raise Refusal(503, "transient", str(error), {"Retry-After": "2"}) from None
    except LogError as error:
        raise Refusal(
            500, "exception", f"{error}; it may have happened or not: repeat the same request",
            {"X-Outcome": "unknown"},
        ) from None  # fmt: skip
    except TimeoutError:
        raise Refusal(
            500, "timeout", f"the disk did not confirm within {within_s} s: it may have happened or"
            " not; repeat the same request", {"X-Outcome": "unknown"},
        ) from None  # fmt: skip
