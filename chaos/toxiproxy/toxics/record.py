"""What a speaking toxic saw and did, and what the sender did afterwards, from all connections.

It keeps counters and the latest acts, never the traffic itself; it decides nothing.

    act on X ─▶ X again (any connection)      → again
             ─▶ Y on the same connection      → moved_on
             ─▶ the sender closes             → closed
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

MAX_ACTS = 64  # whose sender is still watched
SHOWN_ACTS = 8
MAX_WORDS = 120  # characters of a key or an answer that are kept


@dataclass(eq=False, slots=True)
class Act:
    """One exchange that was acted upon."""

    key: str  # MSH-10, SOP Instance UID, or method, target and a sum of the body
    answer: str  # what the receiver really answered; '' when it had not, or got no request
    talk: object | None  # the connection, as long as its sender is watched there
    again: bool = False
    moved_on: bool = False
    closed: bool = False


class Record:
    """Counters of one toxic."""

    __slots__ = ("acted", "acts", "again", "answered", "closed", "moved_on", "seen", "unread")

    def __init__(self) -> None:
        self.seen = 0  # exchanges that it could have acted upon
        self.acted = 0
        self.answered = 0  # acts whose answer had really come from the receiver
        self.again = 0  # acts after which the sender sent the same once more
        self.moved_on = 0  # acts after which it went on to something else, on that connection
        self.closed = 0  # acts after which it closed the connection
        self.unread = 0  # connections that do not speak the protocol: they pass unchanged
        self.acts: deque[Act] = deque(maxlen=MAX_ACTS)

    def act(self, key: str, answer: str, talk: object) -> Act:
        """Note an act."""
        act = Act(key[:MAX_WORDS], answer[:MAX_WORDS], talk)
        self.acted += 1
        self.answered += bool(answer)
        self.acts.append(act)
        return act

    def heard(self, key: str, talk: object) -> None:
        """The sender of this connection sent this."""
        if not self.acts:
            return
        key = key[:MAX_WORDS]
        for act in self.acts:
            if act.key == key and key:
                if not act.again:
                    act.again = True
                    self.again += 1
                act.talk = None
            elif act.talk is talk:
                act.moved_on, act.talk = True, None
                self.moved_on += 1

    def hung_up(self, talk: object) -> None:
        """The sender of this connection closed it."""
        for act in self.acts:
            if act.talk is talk:
                act.closed, act.talk = True, None
                self.closed += 1

    def unwatched(self, talk: object) -> None:
        """The proxy itself closes this connection: its end says nothing about the sender."""
        for act in self.acts:
            if act.talk is talk:
                act.talk = None

    def close(self) -> None:
        """The toxic is gone: no connection is watched any more."""
        for act in self.acts:
            act.talk = None

    def shown(self) -> dict[str, Any]:
        """As the API shows it."""
        return {
            "seen": self.seen,
            "acted": self.acted,
            "answered": self.answered,
            "again": self.again,
            "moved_on": self.moved_on,
            "closed": self.closed,
            "unread": self.unread,
            "acts": [_shown(act) for act in list(self.acts)[-SHOWN_ACTS:]],
        }


def _shown(act: Act) -> dict[str, Any]:
    reactions = ("closed", "moved_on", "again")
    then = [word for word in reactions if getattr(act, word)]
    return {"of": act.key, "answer": act.answer, "then": then}
