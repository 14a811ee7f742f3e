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
from typing import Any

from pynetdicom import build_role, evt
from pynetdicom.association import Association
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
from stacks.hospital.imaging.replies import keep_replies
from stacks.hospital.imaging.storing import AssociationLost, store
from stacks.hospital.log import describe
from stacks.hospital.settings import Address

REJECTIONS = {
    (1, 1): "no reason given",
    (1, 2): "application context name not supported",
    (1, 3): "calling AE title not recognized",
    (1, 7): "called AE title not recognized",
    (2, 2): "protocol version not supported",
    (3, 1): "temporary congestion",
    (3, 2): "local limit exceeded",
}
"""(source, reason) of an A-ASSOCIATE-RJ → its words."""
REFUSED_CONTEXTS = {
    1: "user rejection",
    2: "no reason (provider rejection)",
    3: "abstract syntax not supported",
    4: "transfer syntaxes not supported",
}
"""Result of a presentation context → its words."""


class AssociationError(Exception):
    """No association came about; the text says why. `refused`: the peer itself said no, in
    `terms`: its answer in DICOM's own words."""

    def __init__(self, text: str, *, refused: bool = False, terms: str = "") -> None:
        super().__init__(text)
        self.refused, self.terms = refused, terms


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
        keep_replies(open_)
        return open_
    if open_.is_rejected:
        answer = open_.acceptor.primitive
        reason = getattr(answer, "reason_str", "no reason given")
        raise AssociationError(
            f"{called} at {where} rejects us: {reason}", refused=True, terms=rejection(answer)
        )
    if open_.acceptor.primitive is not None:
        raise AssociationError(
            f"{called} at {where} accepts none of our presentation contexts", refused=True,
            terms="; ".join(dict.fromkeys(map(refused_context, open_.rejected_contexts))),
        )  # fmt: skip
    raise AssociationError(f"{called} at {where} cannot be reached or does not answer")


def rejection(answer: Any) -> str:
    """An A-ASSOCIATE-RJ as the standard numbers and words it (PS3.8 9.3.4)."""
    result, source, reason = (
        int(getattr(answer, one, None) or 0) for one in ("result", "result_source", "diagnostic")
    )
    words = REJECTIONS.get((source, reason), "no reason given")
    return f"A-ASSOCIATE-RJ result {result} source {source} reason {reason}: {words}"


def refused_context(context: PresentationContext) -> str:
    """A presentation context that was not accepted, in the standard's words (PS3.8 9.3.3.2)."""
    words = REFUSED_CONTEXTS.get(context.result or 0, f"result {context.result}")
    return f"presentation context rejected: {words}"


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
    "refused_context",
    "storage_contexts",
    "store",
    "title_of",
]
