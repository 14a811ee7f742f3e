"""DICOM associations: open one as a caller, or listen for them; TCP_NODELAY and bounds always on.

    with association(address, called="PACS_A", calling="CT1", contexts=storage_contexts()) as open_:
        status = store(open_, encoded)                  # 0 is success; raises AssociationLost
    scp = listen(Listening(title, bind, contexts, handlers), log)  ...  scp.stop()

It refuses to wait without a bound, to answer a called AE title that is not its own, and to print a
traceback because a peer sent nonsense: that becomes one line of the log.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from typing import Any

from pynetdicom import build_role, evt
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.presentation import PresentationContext

from stacks.hospital.imaging.dicom_terms import (
    ANYBODY,
    COMMITMENT,
    COMMITMENT_INSTANCE,
    OUT_OF_RESOURCES,
    PENDING,
    SUCCESS,
    TITLE_CHARS,
    UNCOMPRESSED,
    USUAL,
    VERIFICATION,
    Bounds,
    Handler,
    caller_of,
    connection_opened,
    contexts,
    entity,
    known_callers,
    known_peers,
    storage_contexts,
    title_of,
)
from stacks.hospital.imaging.instances import Encoded
from stacks.hospital.imaging.listening import Listening, Scp, listen
from stacks.hospital.log import describe
from stacks.hospital.settings import Address


class AssociationError(Exception):
    """No association came about; the text says why. `refused`: the peer itself said no."""

    def __init__(self, text: str, *, refused: bool = False) -> None:
        super().__init__(text)
        self.refused = refused


class AssociationLost(Exception):
    """The association broke or the peer did not answer in time: the outcome is unknown."""


def associate(
    where: Address,
    called: str,
    calling: str,
    asked: Sequence[PresentationContext],
    *,
    handlers: Sequence[Handler] = (),
    bounds: Bounds = USUAL,
    reporting: bool = False,
) -> Association:
    """Open an association; `reporting` asks for the SCP role of commitment (to send reports).

    The caller releases or aborts it (`association` does both). An idle association costs some CPU:
    two threads poll it every millisecond. Raises: AssociationError.
    """
    roles: list[Any] = [build_role(COMMITMENT, scp_role=True)] if reporting else []
    opened = (evt.EVT_CONN_OPEN, lambda event: connection_opened(event, bounds))
    try:
        open_ = entity(calling, bounds).associate(
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
    bounds: Bounds = USUAL,
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


__all__ = [
    "ANYBODY",
    "COMMITMENT",
    "COMMITMENT_INSTANCE",
    "OUT_OF_RESOURCES",
    "PENDING",
    "SUCCESS",
    "TITLE_CHARS",
    "UNCOMPRESSED",
    "VERIFICATION",
    "AssociationError",
    "AssociationLost",
    "Bounds",
    "Handler",
    "Listening",
    "Scp",
    "associate",
    "association",
    "caller_of",
    "connection_opened",
    "contexts",
    "known_callers",
    "known_peers",
    "listen",
    "received",
    "storage_contexts",
    "store",
    "title_of",
]
