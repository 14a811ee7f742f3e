"""The crisis cell and the operators: what they do, each at its own instant, as an experiment says.

It refuses to do anything that it was not given, and to pass over an act that did not succeed: the
workload then ends as failed, with the reason.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from stacks.hospital.appointments.slots import SERVICES, slot_of
from stacks.hospital.traffic import forms
from stacks.hospital.traffic.callers import WRITE_PATIENCE_S, Ask, Callers
from stacks.hospital.traffic.config import ConfigError
from stacks.hospital.traffic.consoles import AT_CONSOLE, QUESTIONS
from stacks.hospital.traffic.department import Act
from stacks.hospital.traffic.http import Answer
from stacks.hospital.traffic.people import Dice
from stacks.hospital.traffic.schedule import Arrival
from stacks.hospital.traffic.surroundings import Hospital

KLASS = "P3"
MARKS = {"X-Priority": "P1", "X-Ward": "crisis-cell"}
KIND = "crisis"
DECIDE = "decide"
RESTORE_S = 20.0


class CellAct(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One act, `at_s` real seconds after the workload's start.

    `do`: decide, or one of AT_CONSOLE. A decision calls off the `services` whose appointments lie
    between `from_h` and `to_h` hospital hours after it.
    """

    at_s: float
    do: str
    decision: str = ""
    services: tuple[str, ...] = ()
    from_h: float = 0.0
    to_h: float = 0.0
    reason: str = ""


class CrisisCell:
    """Carries out the acts; `callers` of `consoles` go to the services themselves."""

    def __init__(self, hospital: Hospital, consoles: Callers, acts: tuple[CellAct, ...]) -> None:
        for act in acts:
            if act.do != DECIDE and act.do not in AT_CONSOLE:
                known = ", ".join((DECIDE, *AT_CONSOLE))
                raise ConfigError(f"crisis cell: nobody knows how to {act.do!r} (known: {known})")
        self._h, self._consoles = hospital, consoles
        self._acts = acts
        self.troubles: list[str] = []

    @property
    def acts(self) -> Mapping[str, Act]:
        """One kind of arrival: the next act is due."""
        return {KIND: self._next}

    def open(self, end: float) -> None:
        """Nothing to prepare."""

    def sit_down(self) -> None:
        """Nobody waits."""

    def _next(self, arrival: Arrival, intended: float, _: Dice) -> None:
        act = self._acts[arrival.number]
        name = f"{self._h.prefix}{act.decision or act.do}-{arrival.number}"
        done = (
            self._decide(act, name, intended)
            if act.do == DECIDE
            else self._operate(act, name, intended)
        )
        if not done:
            self.troubles.append(f"{act.do} at {act.at_s:g} s did not succeed")

    def _decide(self, act: CellAct, name: str, intended: float) -> bool:
        """Decide; every appointment that this cancels is called off from that instant on."""
        now = time.time()
        start, end = (now + self._h.real_s(hours * 3_600) for hours in (act.from_h, act.to_h))
        body = forms.encode({
            "decision": name, "services": list(act.services), "reason": act.reason,
            "from": _instant(start), "to": _instant(end),
        })  # fmt: skip
        op = self._h.ledger.invoke(
            "decision.cancel", KLASS, intended, WRITE_PATIENCE_S, key=name, ward="crisis-cell",
            target="scheduling", value=" ".join(act.services),
        )  # fmt: skip
        ask = Ask("POST", "/decisions", body, MARKS)
        answer = self._h.callers.write(op, lambda: ("scheduling",), ask)
        if answer is None:
            return False
        off = _cancelled(answer)
        op.ok(str(answer.status), op.via, value=str(len(off)))
        self._called_off(off, name)
        return True

    def _called_off(self, off: list[dict[str, Any]], decision: str) -> None:
        now = time.monotonic()
        for line in off:
            slot = slot_of(str(line.get("slot", "")))
            op = self._h.ledger.invoke(
                "appointment.calledoff", SERVICES[slot.service] if slot else KLASS, now,
                WRITE_PATIENCE_S, key=str(line.get("appointment", "")),
                subject=str(line.get("patient", "")), ward=slot.clinic if slot else "",
                target="scheduling", value=decision,
            )  # fmt: skip
            op.ok("200", "scheduling", str(line.get("patient", "")), str(line.get("at", "")))

    def _operate(self, act: CellAct, name: str, intended: float) -> bool:
        service, path, body = AT_CONSOLE[act.do]
        op = self._h.ledger.invoke(
            "operator.act", KLASS, intended, WRITE_PATIENCE_S, key=name, ward="crisis-cell",
            target=service, value=act.do,
        )  # fmt: skip
        ask = Ask("POST", path, forms.encode(dict(body)), MARKS)
        answer = self._consoles.write(op, lambda: (service,), ask, attempt_s=RESTORE_S)
        if answer is not None:
            op.ok(str(answer.status), service)
        return answer is not None or (act.do in QUESTIONS and op.done)


def arrivals_of(acts: tuple[CellAct, ...]) -> Iterator[Arrival]:
    """One arrival per act, in order of time."""
    for number, act in sorted(enumerate(acts), key=lambda each: each[1].at_s):
        yield Arrival(act.at_s, 0, number, KIND, KLASS, 0)


def _cancelled(answer: Answer) -> list[dict[str, Any]]:
    try:
        found = msgspec.json.decode(answer.body).get("cancelled", [])
    except (msgspec.DecodeError, AttributeError):
        return []
    return [line for line in found if isinstance(line, dict)]


def _instant(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="milliseconds")
