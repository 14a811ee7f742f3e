"""What all faults in common have that speak a protocol on links, as functions for their methods.

They are seen when real traffic has been acted upon, not when a proxy says that it would; none of
them makes traffic of its own.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Protocol, TypeVar

from chaos.faults import toxics as common
from chaos.faults.fault import Observation, TargetError
from chaos.faults.targets import LinkTarget, protocol_of
from chaos.runtime import Runtime, RuntimeFailure, Step, Toxic, ToxicRecord
from chaos.stack import Stack

LOOK_EVERY_S = 0.05
WITHIN_S = 10.0  # for real traffic to come by, unless the fault says otherwise
MOST_WITHIN_S = 120.0
MOST_COUNT = 2**31 - 1


class Spoken(Protocol):
    """What such a fault brings itself."""

    @property
    def kind(self) -> str: ...

    @property
    def links(self) -> tuple[LinkTarget, ...]: ...

    @property
    def token(self) -> str: ...

    @property
    def within_s(self) -> float:
        """How long `seen` waits for real traffic."""

    @property
    def exchanges(self) -> str:
        """What is acted upon, in the plural: `acknowledgements`."""

    def toxics(self) -> tuple[Toxic, ...]:
        """The one toxic for each link; its type is the protocol that it speaks."""

    def measured(self, link: str, held: Observation, runtime: Runtime) -> Observation: ...


S = TypeVar("S", bound=Spoken)
name, seen = common.name, common.seen


def check(within_s: float, actions: Sequence[str], do: str, **counts: int) -> None:
    """ValueError when a fault of this family is written with numbers that make no sense."""
    if do not in actions:
        raise ValueError(f"do must be one of {', '.join(actions)}, not {do!r}")
    if not 0 < within_s <= MOST_WITHIN_S:
        raise ValueError(f"within_s must be above 0 and at most {MOST_WITHIN_S:g} s")
    for name, count in counts.items():
        least = 1 if name == "nth" or (name == "delay_ms" and do == "delay") else 0
        if not least <= count <= MOST_COUNT:
            raise ValueError(f"{name} must be {least} or more, not {count}")


def which(nth: int, every: int, count: int) -> str:
    """The choice of exchanges as words of a story: `the 3rd, then every 5th, at most 2`."""
    words = f"the {_ordinal(nth)}" if not (nth == every == 1) else "every"
    if every and not nth == every == 1:
        words += f" and every {_ordinal(every)} after it" if every > 1 else " and all after it"
    return words + (f" (at most {count})" if count and every else "")


def pinned(self: S, runtime: Runtime) -> S:
    """As for other faults by toxics; TargetError when the proxies do not speak the protocol."""
    targets(self, runtime.stack)
    one = common.pinned(self, runtime)
    (toxic,) = one.toxics()
    if runtime.raised:
        try:
            known = runtime.toxic_kinds()
        except RuntimeFailure as error:
            raise TargetError(str(error)) from error
        if toxic.type not in known:
            raise TargetError(
                f"{self.kind} needs the embedded proxy: the proxy server of this run has no toxic "
                f"{toxic.type!r} (it has: {', '.join(known)}). Nothing was injected; take "
                "toxiproxy-server off PATH and run again"
            )
    return one


def targets(self: Spoken, stack: Stack) -> tuple[str, ...]:
    """Names of all links; TargetError for one that speaks another protocol."""
    names = common.targets(self, stack)
    wanted = self.toxics()[0].type
    for name in names:
        spoken = protocol_of(name, stack)
        if spoken != wanted:
            raise TargetError(f"{self.kind}: the link {name} speaks {spoken}, not {wanted}")
    return names


def undo(self: Spoken, runtime: Runtime) -> tuple[Step, ...]:
    """Steps that take the toxic off every link."""
    return common.undo_of(runtime, targets(self, runtime.stack), self.toxics())


def begin(self: Spoken, runtime: Runtime, lease_s: float) -> None:
    """Put the toxic on every link; it expires in the proxy with the lease."""
    common.put(runtime, targets(self, runtime.stack), self.toxics(), lease_s)


def end(self: Spoken, runtime: Runtime) -> None:
    """Play the undo."""
    runtime.play(undo(self, runtime))


def measured(self: Spoken, link: str, held: Observation, runtime: Runtime) -> Observation:
    """Proves: real traffic on the link was acted upon; waits `within_s` for it to come by."""
    del held
    deadline = time.monotonic() + self.within_s
    record = _record(self, link, runtime)
    while not record.acted and time.monotonic() < deadline:
        time.sleep(LOOK_EVERY_S)
        record = _record(self, link, runtime)
    if not record.acted:
        strange = f"; {record.unread} connections speak something else" if record.unread else ""
        return Observation(
            False,
            f"{link}: none of the {self.exchanges} that were meant passed within "
            f"{self.within_s:g} s ({record.seen} passed in all{strange}), so nothing was done",
        )
    return Observation(True, f"{link}: {_told(self, record)}")


def gone(self: Spoken, runtime: Runtime) -> Observation:
    """Proves: no proxy holds the toxic any more, and each accepts a connection. Says what it did
    in all, and what the senders did then."""
    look = common.gone(self, runtime)
    if not look.ok:
        return look
    told = [look.text]
    for link in targets(self, runtime.stack):
        record = _record(self, link, runtime)
        if record.acted:
            told.append(f"{link}: {_told(self, record)}; {_reaction(record)}")
    return Observation(True, "; ".join(told))


def _record(self: Spoken, link: str, runtime: Runtime) -> ToxicRecord:
    (toxic,) = self.toxics()
    try:
        return runtime.toxic_record(link, toxic.name) or ToxicRecord()
    except RuntimeFailure:
        return ToxicRecord()  # the look at the toxics themselves says why


def _told(self: Spoken, record: ToxicRecord) -> str:
    latest = f", lately {record.latest[-1]}" if record.latest else ""
    receiver = (
        f"{record.answered} of them really answered by the receiver"
        if record.answered
        else "none of them answered by the receiver, which did not get them whole"
    )
    return f"acted upon {record.acted} of {record.seen} {self.exchanges}, {receiver}{latest}"


def _reaction(record: ToxicRecord) -> str:
    return (
        f"afterwards the sender sent the same again {record.again} times, went on to another "
        f"{record.moved_on} times and closed {record.closed} times"
    )


def _ordinal(number: int) -> str:
    last = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{'th' if number % 100 in (11, 12, 13) else last}"
