"""Answers of an association's other end, kept for who asked.

    keep_replies(open_)                      # once, before anything is sent over it

pynetdicom keeps answers and requests of the peer in one queue, from which its reactor takes, too,
however its pause is asked for: an answer that came quickly could be thrown away as a message that
nobody expects. Here they lie apart. Who asked waits for his answer, the reactor never waits: so
the queue knows which of the two is taking.

It refuses to serve C-GET, in which the images of the peer are requests that are waited for.
"""

from __future__ import annotations

import queue
from typing import Any

from pynetdicom.association import Association


class _Sorted(queue.Queue[Any]):
    """What the peer says: answers for those who wait, requests for those who do not, and the end
    of the association (no message) for both."""

    def __init__(self) -> None:
        super().__init__()
        self._replies: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        _, message = item
        is_reply = message is not None and message.MessageIDBeingRespondedTo is not None
        if is_reply or message is None:
            self._replies.put(item)
        if not is_reply:
            super().put(item, block, timeout)

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        return self._replies.get(timeout=timeout) if block else super().get(block=False)


def keep_replies(open_: Association) -> None:
    """From now on this association's answers are kept for those who asked."""
    open_.dimse.msg_queue = _Sorted()
