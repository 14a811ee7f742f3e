"""DICOM associations: open one as a caller, or listen for them; TCP_NODELAY and bounds always on.

    with association(address, called="PACS_A", calling="CT1", contexts=storage_contexts()) as open_:
        status = store(open_, encoded)                  # 0 is success; raises AssociationLost
    scp = listen(Listening(title, bind, contexts, handlers), log)  ...  scp.stop()

It refuses to wait without a bound, to answer a called AE title that is not its own, and to print a
traceback because a peer sent nonsense: that becomes one line of the log.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import pydicom.config
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import _config as pynetdicom_config
from pynetdicom import build_context, build_role, evt
from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.presentation import PresentationContext

from stacks.hospital.imaging.instances import STORAGE, Encoded
from stacks.hospital.log import Log, describe
from stacks.hospital.settings import Address, SettingsError, address

VERIFICATION = "1.2.840.10008.1.1"
COMMITMENT = "1.2.840.10008.1.20.1"
"""Storage Commitment Push Model; its well-known instance is COMMITMENT_INSTANCE."""
COMMITMENT_INSTANCE = "1.2.840.10008.1.20.1.1"
TITLE_CHARS = 16
UNCOMPRESSED = (str(ExplicitVRLittleEndian), str(ImplicitVRLittleEndian))
ANYBODY = "*"
SUCCESS, OUT_OF_RESOURCES = 0x0000, 0xA700
PENDING = 0xFF00
STOP_S = 1.0
"""How long a stopping listener lets running associations come to their end."""
LINES_PER_S = 20
"""Most lines of the log that peers' nonsense may cause in a second."""
Handler = tuple[Any, Callable[..., Any]]

pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
pydicom.config.settings.writing_validation_mode = pydicom.config.IGNORE
pynetdicom_config.LOG_HANDLER_LEVEL = "none"
pynetdicom_config.LOG_REQUEST_IDENTIFIERS = False
pynetdicom_config.LOG_RESPONSE_IDENTIFIERS = False


class AssociationError(Exception):
    """No association came about; the text says why. `refused`: the peer itself said no."""

    def __init__(self, text: str, *, refused: bool = False) -> None:
        super().__init__(text)
        self.refused = refused


class AssociationLost(Exception):
    """The association broke or the peer did not answer in time: the outcome is unknown."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Longest waits of an association in real seconds."""

    connect_s: float = 3.0
    negotiate_s: float = 5.0
    answer_s: float = 15.0
    """For the answer to one request."""
    idle_s: float = 60.0
    """An association on which nothing moves for so long is aborted."""
    stall_s: float = 20.0
    """For the rest of a message that has begun, in either direction."""
    nodelay: bool = True
    """TCP_NODELAY; off only to measure what it is worth."""


def title_of(service: str) -> str:
    """The AE title of a service: PACS_A for pacs-a. Raises: ValueError if it does not fit."""
    title = service.upper().replace("-", "_")
    if not 0 < len(title) <= TITLE_CHARS:
        raise ValueError(f"{title!r} is no AE title: 1 to {TITLE_CHARS} characters")
    return title


def known_peers(environment: Mapping[str, str]) -> dict[str, Address]:
    """AE title → address, from LINK_X_DICOM and DICOM_PEERS ("AE=host:port,...").

    Raises: SettingsError for a malformed DICOM_PEERS.
    """
    found: dict[str, Address] = {}
    for variable, text in environment.items():
        if variable.startswith("LINK_") and variable.endswith("_DICOM") and text:
            found[variable[len("LINK_") : -len("_DICOM")]] = address(variable, text)
    for part in filter(None, environment.get("DICOM_PEERS", "").split(",")):
        title, equals, where = part.strip().partition("=")
        if not equals or not 0 < len(title) <= TITLE_CHARS:
            raise SettingsError(f"DICOM_PEERS: {part!r} is not AE=host:port; correct it")
        found[title] = address("DICOM_PEERS", where)
    return found


def known_callers(environment: Mapping[str, str]) -> frozenset[str] | None:
    """The AE titles that DICOM_CALLERS adds; None = anybody may call (`*`)."""
    titles = {one.strip() for one in environment.get("DICOM_CALLERS", "").split(",")} - {""}
    return None if ANYBODY in titles else frozenset(titles)


def contexts(
    sop_classes: Sequence[str], transfer_syntaxes: Sequence[str] = UNCOMPRESSED
) -> list[PresentationContext]:
    """One presentation context per SOP class; commitment is offered in both roles."""
    found = []
    for one in sop_classes:
        context = build_context(one, list(transfer_syntaxes))
        if one == COMMITMENT:
            context.scu_role = context.scp_role = True
        found.append(context)
    return found


def storage_contexts() -> list[PresentationContext]:
    """Contexts to send images of our modalities as they are encoded, and to ping."""
    return contexts([VERIFICATION]) + contexts(list(STORAGE.values()), UNCOMPRESSED[:1])


def connection_opened(event: Any, bounds: Bounds) -> None:
    """Small messages leave at once (else 40 ms of delayed ACK each), and no stall is endless."""
    wrapped = event.assoc.dul.socket
    if wrapped is None or wrapped.socket is None:
        return
    if bounds.nodelay:
        wrapped.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    wrapped.socket.settimeout(bounds.stall_s)


def _entity(title: str, bounds: Bounds) -> ApplicationEntity:
    entity = ApplicationEntity(ae_title=title)
    entity.connection_timeout = bounds.connect_s
    entity.acse_timeout = bounds.negotiate_s
    entity.dimse_timeout = bounds.answer_s
    entity.network_timeout = bounds.idle_s
    return entity


def associate(
    where: Address,
    called: str,
    calling: str,
    asked: Sequence[PresentationContext],
    *,
    handlers: Sequence[Handler] = (),
    bounds: Bounds = Bounds(),
    reporting: bool = False,
) -> Association:
    """Open an association; `reporting` asks for the SCP role of commitment (to send reports).

    The caller releases or aborts it (`association` does both). An idle association costs some CPU:
    two threads poll it every millisecond. Raises: AssociationError.
    """
    roles: list[Any] = [build_role(COMMITMENT, scp_role=True)] if reporting else []
    opened = (evt.EVT_CONN_OPEN, lambda event: connection_opened(event, bounds))
    try:
        open_ = _entity(calling, bounds).associate(
            where.host, where.port, contexts=list(asked), ae_title=called, ext_neg=roles,
            evt_handlers=[opened, *handlers],
        )  # fmt: skip
    except (OSError, ValueError, RuntimeError) as error:
        raise AssociationError(f"{called} at {where}: {describe(error)}") from None
    if open_.is_established:
        return open_
    if open_.is_rejected:
        answer = open_.acceptor.primitive
        reason = getattr(answer, "reason_str", "no reason given")
        raise AssociationError(f"{called} at {where} rejects us: {reason}", refused=True)
    if open_.acceptor.primitive is not None:
        raise AssociationError(
            f"{called} at {where} accepts none of our presentation contexts", refused=True
        )
    raise AssociationError(f"{called} at {where} cannot be reached or does not answer")


@contextmanager
def association(
    where: Address,
    called: str,
    calling: str,
    contexts: Sequence[PresentationContext],
    *,
    handlers: Sequence[Handler] = (),
    bounds: Bounds = Bounds(),
    reporting: bool = False,
) -> Iterator[Association]:
    """Like `associate`; released at the end of the block, aborted when the block raises."""
    open_ = associate(
        where, called, calling, contexts, handlers=handlers, bounds=bounds, reporting=reporting
    )
    try:
        yield open_
    except BaseException:
        if open_.is_established:
            open_.abort()
        raise
    if open_.is_established:
        open_.release()


def store(open_: Association, encoded: Encoded, message_id: int = 1) -> int:
    """C-STORE the data set's own bytes, not re-encoded; returns the peer's status.

    Raises: AssociationLost (unknown whether it is stored: send it again), ValueError when the peer
    did not accept this SOP class with this transfer syntax.
    """
    context = next(
        (
            one.context_id
            for one in open_.accepted_contexts
            if one.abstract_syntax == encoded.sop_class
            and one.transfer_syntax[0] == encoded.transfer_syntax
        ),
        None,
    )
    if context is None:
        raise ValueError(
            f"{open_.acceptor.ae_title} accepts no {encoded.sop_class} in {encoded.transfer_syntax}"
        )
    request = C_STORE()
    request.MessageID = message_id % 65_536
    request.AffectedSOPClassUID = encoded.sop_class
    request.AffectedSOPInstanceUID = encoded.sop_uid
    request.Priority = 0x0002
    request.DataSet = BytesIO(encoded.data)
    if not open_.is_established:
        raise AssociationLost("the association is closed")
    open_._reactor_checkpoint.clear()  # the answer is ours, not the reactor's
    try:
        open_.dimse.send_msg(request, context)
        _, answer = open_.dimse.get_msg(block=True)
    finally:
        open_._reactor_checkpoint.set()
    if answer is None or not isinstance(answer, C_STORE) or not answer.is_valid_response:
        if open_.is_established:
            open_.abort()
        raise AssociationLost(f"no answer to the C-STORE of {encoded.sop_uid}")
    return int(answer.Status or 0)


def received(event: Any) -> Encoded:
    """The instance of a C-STORE request as it travelled. For handlers of EVT_C_STORE."""
    request = event.request
    return Encoded(
        str(request.AffectedSOPClassUID), str(request.AffectedSOPInstanceUID),
        str(event.context.transfer_syntax), request.DataSet.getvalue() if request.DataSet else b"",
    )  # fmt: skip


def caller_of(event: Any) -> str:
    """The AE title of who called."""
    return str(event.assoc.requestor.ae_title).strip()


@dataclass(frozen=True, slots=True)
class Listening:
    """How a service listens for associations."""

    title: str
    bind: Address
    contexts: Sequence[PresentationContext]
    handlers: Sequence[Handler]
    callers: frozenset[str] | None = None
    """Calling AE titles that are let in; None = anybody."""
    bounds: Bounds = Bounds()
    max_associations: int = 64


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
    entity = _entity(listening.title, bounds)
    entity.require_called_aet = True
    entity.require_calling_aet = sorted(listening.callers or ())
    entity.maximum_associations = listening.max_associations

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
    server = entity.start_server(
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
