"""HTTP/1.1 as bytes: reads requests, writes answers. Pure; it refuses what is beyond its bounds."""

from __future__ import annotations

import email.utils
from dataclasses import dataclass, field
from http import HTTPStatus

MAX_HEAD_BYTES = 64 * 1024
MAX_BODY_BYTES = 1024 * 1024
PLAIN = "text/plain; charset=utf-8"


@dataclass(frozen=True)
class Request:
    """One request, body read."""

    method: str
    target: str
    headers: dict[str, str]  # names in lower case
    body: bytes


@dataclass(frozen=True)
class Response:
    """One answer; without a content type it has no body."""

    status: int
    body: str = ""
    content_type: str | None = None
    headers: dict[str, str] = field(default_factory=dict)


class Malformed(Exception):
    """Bytes that are not a request: answered and closed."""

    def __init__(self, status: HTTPStatus) -> None:
        super().__init__(status.phrase)
        self.status = status


def rendered(response: Response, *, closing: bool, head_only: bool) -> bytes:
    """The bytes of an answer."""
    status = HTTPStatus(response.status)
    body = response.body.encode("utf-8", "replace")
    lines = [f"HTTP/1.1 {status.value} {status.phrase}"]
    if response.content_type:
        lines.append(f"Content-Type: {response.content_type}")
    lines += [f"{name}: {value}" for name, value in response.headers.items()]
    lines.append(f"Date: {email.utils.formatdate(usegmt=True)}")
    if status is not HTTPStatus.NO_CONTENT:
        lines.append(f"Content-Length: {len(body)}")
    if closing:
        lines.append("Connection: close")
    head = "\r\n".join([*lines, "", ""]).encode("utf-8", "replace")
    return head if head_only else head + body


def next_request(received: bytearray) -> Request | dict[str, str] | None:
    """Take the next whole request off `received`.

    Without one: its headers if those are complete, else None. Raises Malformed.
    """
    end = received.find(b"\r\n\r\n")
    if end < 0 or end > MAX_HEAD_BYTES:
        if len(received) > MAX_HEAD_BYTES:
            raise Malformed(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        return None
    method, target, headers = _head(bytes(received[:end]))
    body = _body(received, end + 4, headers)
    if body is None:
        return headers
    content, used = body
    del received[:used]
    return Request(method, target, headers, content)


def _body(received: bytearray, start: int, headers: dict[str, str]) -> tuple[bytes, int] | None:
    """The body and where the request ends; None while it is not complete."""
    if "transfer-encoding" in headers:
        if headers["transfer-encoding"].lower() != "chunked":
            raise Malformed(HTTPStatus.NOT_IMPLEMENTED)
        return _chunked(received, start)
    length = headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit()):
        raise Malformed(HTTPStatus.BAD_REQUEST)
    if len(length) > len(str(MAX_BODY_BYTES)) or int(length) > MAX_BODY_BYTES:
        raise Malformed(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
    end = start + int(length)
    if len(received) < end:
        return None
    return bytes(received[start:end]), end


def _head(head: bytes) -> tuple[str, str, dict[str, str]]:
    """Method, target and headers (plus `:version`); raises Malformed."""
    first, *lines = head.decode("latin-1").split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or words[2] not in ("HTTP/1.1", "HTTP/1.0") or not words[0].isalpha():
        raise Malformed(HTTPStatus.BAD_REQUEST)
    headers = {":version": words[2]}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise Malformed(HTTPStatus.BAD_REQUEST)
        headers[name.lower()] = value.strip()
    if words[2] == "HTTP/1.1" and "host" not in headers:
        raise Malformed(HTTPStatus.BAD_REQUEST)
    return words[0], words[1], headers


def _chunked(received: bytearray, at: int) -> tuple[bytes, int] | None:
    """A chunked body from position `at`, and where it ends; None while it is not complete."""
    body = bytearray()
    while len(body) <= MAX_BODY_BYTES:
        line_end = received.find(b"\r\n", at)
        if line_end < 0:
            return None
        digits = bytes(received[at:line_end]).partition(b";")[0].strip()
        try:
            size = int(digits, 16) if digits.isalnum() else -1
        except ValueError:
            size = -1
        if not 0 <= size <= MAX_BODY_BYTES:
            raise Malformed(HTTPStatus.BAD_REQUEST)
        at = line_end + 2
        if size == 0:
            return _after_trailers(received, at, bytes(body))
        if len(received) < at + size + 2:
            return None
        body += received[at : at + size]
        at += size + 2
    raise Malformed(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)


def _after_trailers(received: bytearray, at: int, body: bytes) -> tuple[bytes, int] | None:
    while True:  # bounded by the bytes received
        line_end = received.find(b"\r\n", at)
        if line_end < 0:
            return None
        if line_end == at:
            return body, at + 2
        at = line_end + 2
