"""Listening for DICOM associations, in threads of its own.

It refuses a called AE title that is not its own, callers it was not told of, and to print a
traceback because a peer sent nonsense: that becomes one line of the log.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pynetdicom import evt
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext

from stacks.hospital.imaging.dicom_terms import (
    SUCCESS,
    USUAL,
    Bounds,
    Handler,
    caller_of,
    connection_opened,
    entity,
)
from stacks.hospital.log import Log, describe
from stacks.hospital.settings import Address

STOP_S = 1.0
"""How long a stopping listener lets running associations come to their end."""
LINES_PER_S = 20
"""Most lines of the log that peers' nonsense may cause in a second."""


@dataclass(frozen=True, slots=True)
class Listening:
    """How a service listens for associations."""

    title: str
    bind: Address
    contexts: Sequence[PresentationContext]
    handlers: Sequence[Handler]
    callers: frozenset[str] | None = None
    """Calling AE titles that are let in; None = anybody."""
    bounds: Bounds = USUAL
    max_associations: int = 64
    any_title: bool = False
    """Planted defect only: whatever AE title is called, this service answers."""


class Scp:
    """A running listener; `associations` counts open ones."""

    def __init__(self, server: Any) -> None:
        self._server = server
        self._running = True

    @property
    def port(self) -> int:
        """Where it listens really (for a bind to port 0)."""
        return int(self._server.server_address[1])

    @property
    def associations(self) -> int:
        """How many associations are open."""
        return len(self._server.active_associations)

    def stop(self) -> None:
        """Take no new associations, let running ones end within STOP_S, abort the rest."""
        if not self._running:
            return
        self._running = False
        self._server.shutdown()
        threads: list[Association] = self._server.active_associations
        for one in threads:
            one.join(STOP_S / max(1, len(threads)))
        for one in threads:
            if one.is_established:
                one.abort()


def listen(listening: Listening, log: Log) -> Scp:
    """Listen in threads of its own. Raises: OSError when the address cannot be used."""
    _quieten(log)
    bounds = listening.bounds
    own = entity(listening.title, bounds)
    own.require_called_aet = not listening.any_title
    own.require_calling_aet = sorted(listening.callers or ())
    own.maximum_associations = listening.max_associations

    def rejected(event: Any) -> None:
        asked = event.assoc.requestor.primitive
        log.warn(
            "association_rejected", calling=str(asked.calling_ae_title).strip(),
            called=str(asked.called_ae_title).strip(), reason=_reason(event),
        )  # fmt: skip

    def accepted(event: Any) -> None:
        for one in event.assoc.rejected_contexts:
            log.warn(
                "context_refused", calling=caller_of(event), sop_class=str(one.abstract_syntax),
                transfer_syntax=str(one.transfer_syntax[0] if one.transfer_syntax else ""),
            )  # fmt: skip

    always: list[Handler] = [
        (evt.EVT_CONN_OPEN, lambda event: connection_opened(event, bounds)),
        (evt.EVT_REJECTED, rejected),
        (evt.EVT_ACCEPTED, accepted),
        (evt.EVT_C_ECHO, lambda _: SUCCESS),
    ]
    if listening.callers is not None and not listening.callers:
        raise ValueError("callers is empty: nobody could call; None means anybody")
    server = own.start_server(
        (listening.bind.host, listening.bind.port), block=False,
        contexts=list(listening.contexts), evt_handlers=[*always, *listening.handlers],
    )  # fmt: skip
    assert server is not None
    return Scp(server)


def _reason(event: Any) -> str:
    answer = event.assoc.acceptor.primitive
    return str(getattr(answer, "reason_str", "")) or "rejected"


class _OneLine(logging.Handler):
    """What pynetdicom calls an error (mostly a peer's nonsense) as a line of our log."""

    def __init__(self, log: Log) -> None:
        super().__init__(logging.ERROR)
        self._log = log
        self._since, self._said = 0.0, 0

    def emit(self, record: logging.LogRecord) -> None:
        lines = record.getMessage().strip().splitlines()
        reason = lines[0] if lines else ""
        if record.exc_info and record.exc_info[1] is not None:
            reason = describe(record.exc_info[1])
        now = time.monotonic()
        if now - self._since >= 1.0:
            self._since, self._said = now, 0
        self._said += 1
        if self._said <= LINES_PER_S:
            self._log.warn("dicom_trouble", reason=reason)


_QUIET = threading.Lock()


def _quieten(log: Log) -> None:
    with _QUIET:
        logger = logging.getLogger("pynetdicom")
        if not any(isinstance(one, _OneLine) for one in logger.handlers):
            logger.addHandler(_OneLine(log))
            logger.setLevel(logging.ERROR)
            logger.propagate = False
