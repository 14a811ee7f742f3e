"""Answers and refusals in the one shape that every service uses: JSON, errors as OperationOutcome.

It refuses bodies that are too large or too slow, and priorities that do not exist.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from stacks.hospital.admission import DEFAULT_PRIORITY, PRIORITIES

MAX_BODY_BYTES = 1024 * 1024
BODY_S = 5.0
"""How long a client may take to send its body."""
FHIR = "application/fhir+json"
JSON = "application/json"
NDJSON = "application/x-ndjson"


class Refusal(Exception):
    """The request is refused: becomes `status` with an OperationOutcome that says why.

    `code` is a FHIR issue type: invalid, not-found, conflict, transient, throttled, timeout, ...
    """

    def __init__(
        self, status: int, code: str, diagnostics: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(diagnostics)
        self.status, self.code, self.diagnostics = status, code, diagnostics
        self.headers = dict(headers or {})


def answer(
    content: object,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    media_type: str = FHIR,
) -> Response:
    """A JSON answer of anything msgspec can encode (bytes are taken as JSON already)."""
    body = content if isinstance(content, bytes) else msgspec.json.encode(content)
    return Response(body, status, headers, media_type)


def outcome(
    status: int, code: str, diagnostics: str, headers: Mapping[str, str] | None = None
) -> Response:
    """An OperationOutcome with one issue."""
    issue = {"severity": "error", "code": code, "diagnostics": diagnostics}
    content = {"resourceType": "OperationOutcome", "issue": [issue]}
    return answer(content, status, headers)


async def body(request: Request, limit_bytes: int = MAX_BODY_BYTES) -> bytes:
    """The request's body; Refusal 413 above the limit, 408 when it does not arrive in BODY_S."""
    too_large = Refusal(
        413, "too-long", f"the body exceeds {limit_bytes} bytes; send less", {"Connection": "close"}
    )
    announced = request.headers.get("content-length", "0")
    if announced.isdecimal() and int(announced) > limit_bytes:
        raise too_large
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_S):
            async for part in request.stream():
                size += len(part)
                if size > limit_bytes:
                    raise too_large
                parts.append(part)
    except TimeoutError:
        raise Refusal(
            408, "timeout", f"the body did not arrive within {BODY_S} s", {"Connection": "close"}
        ) from None
    return b"".join(parts)


def priority_of(request: Request) -> int:
    """0 to 4 from X-Priority (absent = 3); Refusal 400 for anything else."""
    return priority(request.headers.get("x-priority"))


def priority(text: str | None) -> int:
    """0 to 4 from the text of X-Priority (None = 3); Refusal 400 for anything else."""
    if text is None:
        return DEFAULT_PRIORITY
    if text not in PRIORITIES:
        raise Refusal(400, "value", f"X-Priority is {text[:20]!r}; one of {', '.join(PRIORITIES)}")
    return PRIORITIES.index(text)
