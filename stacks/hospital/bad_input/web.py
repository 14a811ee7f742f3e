"""Asks one service over HTTP, one bounded question at a time.

It refuses to call anything a refusal but a 4xx with an OperationOutcome.
"""

from __future__ import annotations

from collections.abc import Mapping

import httpx

from stacks.hospital.bad_input.inputs import Heard, no_answer
from stacks.hospital.settings import Address
from stacks.hospital.traffic import forms

ANSWER_S = 4.0
COME_AGAIN = (408, 425, 429)


class Web:
    """One service's HTTP face, by the link that leads to it."""

    def __init__(self, address: Address) -> None:
        self._client = httpx.Client(base_url=f"http://{address}", timeout=ANSWER_S)

    def ask(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        """One attempt. Raises: httpx.HTTPError."""
        return self._client.request(
            method, path, content=body,
            headers={"Content-Type": "application/fhir+json", **(headers or {})},
        )  # fmt: skip

    def hear(
        self, method: str, path: str, body: bytes, headers: Mapping[str, str] | None = None
    ) -> Heard:
        """One attempt at something that must be refused."""
        try:
            answer = self.ask(method, path, body, headers)
        except httpx.ConnectError as error:
            return no_answer(f"no connection: {error}", maybe=False)
        except httpx.HTTPError as error:
            return no_answer(f"no answer: {type(error).__name__} {error}".strip(), maybe=True)
        code, reason = forms.refusal(answer.content)
        said = f"{answer.status_code} OperationOutcome {code}: {reason}"
        if answer.is_success:
            return Heard(str(answer.status_code), taken=True)
        if not 400 <= answer.status_code < 500 or answer.status_code in COME_AGAIN:
            maybe = answer.status_code != 503 or answer.headers.get("x-outcome") == "unknown"
            return no_answer(said, maybe=maybe)
        return Heard(said if code else f"{answer.status_code} without an OperationOutcome")

    def close(self) -> None:
        """Close kept connections."""
        self._client.close()
