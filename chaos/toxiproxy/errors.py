"""The one error that an API call can end in; anything else raised in the server is a defect."""

from __future__ import annotations

PROXY_NOT_FOUND = (404, "proxy not found")
TOXIC_NOT_FOUND = (404, "toxic not found")
PROXY_EXISTS = (409, "proxy already exists")
TOXIC_EXISTS = (409, "toxic already exists")
INVALID_TOXIC_TYPE = (400, "invalid toxic type")
INVALID_STREAM = (400, "stream was invalid, can be either upstream or downstream")


class ApiError(Exception):
    """An answer that is an error: HTTP status and text, as the reference words it."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


def bad_body(why: str) -> ApiError:
    """The request body is not what this call reads."""
    return ApiError(400, f"bad request body: {why}")
