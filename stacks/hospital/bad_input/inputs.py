"""One bad input: its place in the ledger, how it is sent, and what was heard of it.

It refuses to call an input refused when an attempt before may have been taken.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from stacks.hospital.traffic.ledger import Ledger

KLASS = "P4"
PATIENCE_S = 20.0  # a service may be away for a moment
PAUSE_S = 0.5
IMAGE, TITLE, SYNTAX = "bad.image", "bad.title", "bad.syntax"
PATIENT, SLOT, CANCEL, MESSAGE = "bad.patient", "bad.slot", "bad.cancel", "bad.message"


@dataclass(frozen=True, slots=True)
class Heard:
    """What one attempt came to.

    `words`: the refusal in the protocol's own terms, the strength of an acknowledgement, or why
    there was no answer. `taken`: it was acknowledged, which it must not be. `answered`: false when
    it is to be sent again; `maybe`: then it may have been taken all the same.
    """

    words: str
    taken: bool = False
    answered: bool = True
    maybe: bool = False


def no_answer(words: str, *, maybe: bool) -> Heard:
    """Nothing definite was heard."""
    return Heard(words, answered=False, maybe=maybe)


@dataclass(frozen=True, slots=True)
class BadInput:
    """One input that must be refused; `what` says in words what is wrong with it.

    `key` is the business key that nothing must be stored under, or that of the neighbour who must
    stay as he is; `subject` the patient of that key.
    """

    kind: str
    key: str
    subject: str
    target: str
    what: str
    attempt: Callable[[], Heard]


class Sender:
    """Sends bad inputs, each until there is an answer, PATIENCE_S at most."""

    def __init__(self, ledger: Ledger, stop: threading.Event) -> None:
        self._ledger, self._stop = ledger, stop

    def send(self, bad: BadInput) -> None:
        """The ledger says what happened in any case."""
        intended = time.monotonic()
        op = self._ledger.invoke(
            bad.kind, KLASS, intended, PATIENCE_S, key=bad.key, subject=bad.subject,
            ward="stranger", target=bad.target, value=bad.what,
        )  # fmt: skip
        heard, maybe = no_answer("never tried", maybe=False), ""
        while not self._stop.is_set() and time.monotonic() < intended + PATIENCE_S:
            op.attempts += 1
            heard = bad.attempt()
            if heard.answered:
                break
            if heard.maybe:
                maybe = heard.words
            self._stop.wait(PAUSE_S)
        if heard.taken:
            op.ok(heard.words, bad.target)
        elif heard.answered and not maybe:
            op.refused(heard.words, bad.target)
        elif heard.answered:
            op.unknown(f"{maybe}; then {heard.words}", bad.target)
        elif self._stop.is_set():
            op.cut_short(time.monotonic())
        else:
            op.unknown(heard.words, bad.target)
