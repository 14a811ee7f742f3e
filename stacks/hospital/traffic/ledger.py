"""The clients' own ledger: every operation from its intended start to its last word.

It refuses a second last word on the same operation, and to guess one: what is still open when the
traffic stops is written as unknown.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

from chaos.journal import events as ev
from chaos.journal.ops import CUT_SHORT

Fire = Callable[..., Any]
"""Locust's `events.request.fire`."""


class Journal(Protocol):
    """Where events go; chaos.journal.writer.Writer is one."""

    def append(self, event: ev.Event) -> None:
        """Write one event."""
        ...

    def close(self) -> None:
        """Flush and close."""
        ...


class NoJournal:
    """Forgets everything: for looking at Locust's web UI, where nothing is judged."""

    def append(self, event: ev.Event) -> None:
        """Forget it."""

    def close(self) -> None:
        """Nothing to do."""


def open_journal(path: str) -> Journal:
    """The journal file of that path; an empty path writes nothing. Raises JournalError."""
    if not path:
        return NoJournal()
    from chaos.journal.writer import Writer

    return Writer(Path(path))


class Failed(Exception):
    """What Locust is told of an operation that was not acknowledged."""


class Op:
    """One operation under way. `bound_s`: how long after `intended` it may take (real seconds)."""

    __slots__ = (
        "_ledger", "attempts", "bound_s", "done", "id", "intended", "kind", "klass", "via",
    )  # fmt: skip

    def __init__(
        self, ledger: Ledger, id_: str, kind: str, klass: str, intended: float, bound_s: float
    ) -> None:
        self._ledger = ledger
        self.id, self.kind, self.klass, self.intended = id_, kind, klass, intended
        self.bound_s = bound_s
        self.attempts = 0
        self.via = ""  # the service asked last
        self.done = False

    def ok(self, strength: str, via: str, subject: str = "", value: str = "") -> None:
        """Acknowledged."""
        self._end(ev.OpOk(
            t=time.monotonic(), op=self.id, strength=strength, via=via, subject=subject,
            value=value, attempts=max(1, self.attempts),
        ), via, "")  # fmt: skip

    def refused(self, reason: str, via: str = "") -> None:
        """Did not happen, and we were told so."""
        self._end(ev.OpRefused(
            t=time.monotonic(), op=self.id, reason=reason, via=via,
            attempts=max(1, self.attempts),
        ), via, f"refused: {reason}")  # fmt: skip

    def unknown(self, reason: str, via: str = "") -> None:
        """May have happened."""
        self._end(ev.OpUnknown(
            t=time.monotonic(), op=self.id, reason=reason, via=via,
            attempts=max(1, self.attempts),
        ), via, f"unknown: {reason}")  # fmt: skip

    def shed(self, via: str, retry_after_s: float, reason: str) -> None:
        """One attempt was refused for overload."""
        self._ledger.note(ev.Shed(
            t=time.monotonic(), op=self.id, klass=self.klass, via=via,
            retry_after_s=retry_after_s, reason=reason,
        ))  # fmt: skip

    def cut_short(self, now: float) -> None:
        """The traffic stops: no evidence while the operation's own bound has not passed."""
        waited = now - self.intended
        if waited < self.bound_s:
            self.unknown(f"{CUT_SHORT}: the traffic was stopped after {waited:.1f} s")
        else:
            self.unknown(f"nothing within {waited:.1f} s")

    def _end(self, event: ev.Event, via: str, failure: str) -> None:
        if self.done:
            return
        self.done = True
        self._ledger.ended(self, event, via, failure)


class Ledger:
    """Writes operations and samples of one workload."""

    def __init__(self, journal: Journal, prefix: str, fire: Fire | None = None) -> None:
        self._journal = journal
        self._prefix = prefix
        self._fire = fire
        self._number = 0
        self._open: dict[str, Op] = {}

    def note(self, event: ev.Event) -> None:
        """Write one event as it is."""
        self._journal.append(event)

    def invoke(self, kind: str, klass: str, intended: float, bound_s: float, **facts: str) -> Op:
        """An operation begins; `facts` are key, subject, ward, target and value."""
        self._number += 1
        op = Op(self, f"{self._prefix}-{self._number}", kind, klass, intended, bound_s)
        self._open[op.id] = op
        self.note(ev.OpInvoked(
            t=time.monotonic(), op=op.id, kind=kind, klass=klass, intended=intended, **facts
        ))  # fmt: skip
        return op

    def ended(self, op: Op, event: ev.Event, via: str, failure: str) -> None:
        """An operation's last word."""
        self._open.pop(op.id, None)
        self.note(event)
        if self._fire is not None:
            self._fire(
                request_type=op.klass, name=op.kind,
                response_time=(time.monotonic() - op.intended) * 1e3, response_length=0,
                exception=Failed(failure[:120]) if failure else None, context={"via": via},
            )  # fmt: skip

    def sample(
        self, what: str, subject: str, value: float = 0.0, text: str = "", ok: bool = True
    ) -> None:
        """One look at the system."""
        self.note(ev.Sample(
            t=time.monotonic(), what=what, subject=subject, value=value, text=text, ok=ok
        ))  # fmt: skip

    def open_ops(self) -> Iterator[Op]:
        """Operations without a last word."""
        return iter(list(self._open.values()))

    def cut_short(self) -> None:
        """Give every open operation its last word: the traffic stops."""
        now = time.monotonic()
        for op in self.open_ops():
            op.cut_short(now)

    def close(self) -> None:
        """Flush and close the journal."""
        self._journal.close()
