"""C-STORE over an open association, answered to who asked.

    status = store(open_, encoded)           # 0 is success; keep_replies(open_) came before

It refuses to take the answer to another message for this one's.
"""

from __future__ import annotations

import queue
from io import BytesIO

from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE

from stacks.hospital.imaging.instances import Encoded


class AssociationLost(Exception):
    """The association broke or the peer did not answer in time: the outcome is unknown."""


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
    open_.dimse.send_msg(request, context)
    answer = _answer(open_)
    if answer is None or answer.MessageIDBeingRespondedTo != request.MessageID:
        if open_.is_established:
            open_.abort()
        raise AssociationLost(f"no answer to the C-STORE of {encoded.sop_uid}")
    return int(answer.Status or 0)


def _answer(open_: Association) -> C_STORE | None:
    try:
        _, answer = open_.dimse.msg_queue.get(timeout=open_.dimse.dimse_timeout)
    except queue.Empty:
        return None
    return answer if isinstance(answer, C_STORE) else None
