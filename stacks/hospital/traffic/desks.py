"""Who waits for results: the analysers' console, the ward screens, the desk for criticals.

It refuses to look more than twice a second, and to know a result that nobody showed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import gevent
import msgspec

from stacks.hospital.clock import monotonic_of
from stacks.hospital.traffic.callers import Ask, Callers
from stacks.hospital.traffic.http import Answer, NoAnswer
from stacks.hospital.traffic.ledger import Ledger, Op
from stacks.hospital.traffic.people import FAMILIES, Order

LOOK_EVERY_S = 0.5
ASK_S = 1.5
WARD = "critical-desk"
PAGE = 400
SURPRISES_MAX = 2_000  # results shown before we knew that the tube was accepted
FINAL = ("final", "corrected")
# Hospital minutes.
RESULT_BOUND_MIN = 40.0  # an analyser needs at most 18
STAT_BOUND_MIN = 97.0  # order to result while degraded
CRITICAL_BOUND_MIN = 30.0
GIVE_UP_FACTOR = 5.0  # nobody waits longer than so many bounds
OVERDUE_MIN = 30.0  # the ward then looks at the laboratory's own page, too
PHONE_AFTER_MIN = 4.0  # the desk then asks for the laboratory's phone list
PRINTER_AFTER_MIN = 10.0  # and the laboratory looks at the line's own printer

Item = Mapping[str, Any]


@dataclass(slots=True, eq=False)
class _Critical:
    op: Op
    specimen: str
    carer: str


class Desks:
    """Three people who look at screens; `real_s` turns hospital seconds into real ones."""

    def __init__(self, callers: Callers, ledger: Ledger, real_s: Callable[[float], float]) -> None:
        self._callers, self._ledger = callers, ledger
        self._real_min: Callable[[float], float] = lambda minutes: real_s(minutes * 60)
        self._results: dict[str, tuple[Op, Order]] = {}
        self._stats: dict[str, Op] = {}
        self._criticals: dict[str, _Critical] = {}
        self._unsure: set[tuple[str, str]] = set()  # (service, specimen): acknowledged, no answer
        self._surprises: dict[str, Item] = {}
        self._after = {"console": 0, "record": 0, "lis": 0}

    # ------------------------------------------------------------ what is waited for

    def await_stat(self, order: Order, klass: str, intended: float) -> None:
        """An urgent order was accepted: its ward waits for the result."""
        self._stats[order.placer] = self._ledger.invoke(
            "stat.turnaround", klass, intended, self._real_min(STAT_BOUND_MIN), key=order.placer,
            subject=order.mrn, ward=order.one.ward, target="ehr",
        )  # fmt: skip

    def await_result(self, order: Order, specimen: str, klass: str, intended: float) -> None:
        """A tube is on the line: the technician waits for it to finish."""
        op = self._ledger.invoke(
            "specimen.result", klass, intended, self._real_min(RESULT_BOUND_MIN), key=specimen,
            subject=order.mrn, ward=order.one.ward, target="analysers", value=order.placer,
        )  # fmt: skip
        self._results[specimen] = (op, order)
        early = self._surprises.pop(specimen, None)
        if early is not None:
            self._finished(early)

    def sit_down(self, spawn: Callable[..., object]) -> None:
        """Begin to look; `spawn` starts a green thread."""
        for look in (self.look_at_console, self.look_at_results, self.look_at_criticals):
            spawn(again_and_again, look)

    # ------------------------------------------------------------ the analysers' console

    def look_at_console(self) -> None:
        """See which tubes are finished; a critical one becomes the desk's business."""
        if not self._results:
            return
        ask = Ask("GET", f"/console?after={self._after['console']}&limit={PAGE}", headers=_marks())
        answer = self._ask("analysers", ask)
        for item in items_of(answer):
            self._after["console"] = max(self._after["console"], int(item["seq"]))
            self._finished(item)
        for specimen in self._given_up(self._results, lambda entry: entry[0]):
            del self._results[specimen]

    def _finished(self, item: Item) -> None:
        specimen = str(item["specimen"])
        awaited = self._results.pop(specimen, None)
        if awaited is None:
            if len(self._surprises) < SURPRISES_MAX:
                self._surprises[specimen] = item
            return
        op, order = awaited
        op.ok("seen", "analysers", str(item.get("patient", "")))
        if item.get("critical"):
            self._raise_critical(specimen, order, item)

    def _raise_critical(self, specimen: str, order: Order, item: Item) -> None:
        finished = monotonic_of(item.get("finished_at")) or time.monotonic()
        op = self._ledger.invoke(
            "critical.ack", "P0", finished, self._real_min(CRITICAL_BOUND_MIN), key=specimen,
            subject=order.mrn, ward=order.one.ward, target="ehr",
        )  # fmt: skip
        name = FAMILIES[sum(specimen.encode()) % len(FAMILIES)]
        carer = f"nurse {name}, {order.one.ward}"
        self._criticals[specimen] = _Critical(op, specimen, carer)

    # ------------------------------------------------------------ the ward screens

    def look_at_results(self) -> None:
        """See which urgent results the record shows; when silent or late, the laboratory's page."""
        if not self._stats:
            return
        answered = False
        for node in self._callers.record_nodes(WARD):
            path = f"/feed/reports?after={self._after['record']}&limit={PAGE}"
            answer = self._ask(node, Ask("GET", path, headers=_marks()))
            if answer is not None and answer.good:
                self._shown(node, "record", items_of(answer))
                answered = True
                break
        overdue = time.monotonic() - self._real_min(OVERDUE_MIN)
        if not answered or any(op.intended < overdue for op in self._stats.values()):
            path = f"/feed/results?after={self._after['lis']}&limit={PAGE}"
            answer = self._ask("lis", Ask("GET", path, headers=_marks()))
            self._shown("lis", "lis", items_of(answer))
        for placer in self._given_up(self._stats, lambda op: op):
            del self._stats[placer]

    def _shown(self, via: str, screen: str, items: list[Item]) -> None:
        for item in items:
            self._after[screen] = max(self._after[screen], int(item["seq"]))
            if item.get("status") in FINAL:
                op = self._stats.pop(str(item.get("placer", "")), None)
                if op is not None:
                    op.ok("seen", via, str(item.get("patient", "")))

    # ------------------------------------------------------------ the desk for criticals

    def look_at_criticals(self) -> None:
        """Find and acknowledge criticals: record inbox, phone list, at last the printer."""
        if not self._criticals:
            return
        inbox = self._at_record()
        now = time.monotonic()
        phoned = self._older_than(now, PHONE_AFTER_MIN if inbox else 0.0)
        if phoned:
            listed = self._acknowledge_at("lis")
            late = self._older_than(now, PRINTER_AFTER_MIN if listed else 0.0)
            if late and (not listed or self._line_is_alone()):
                self._acknowledge_at("analysers")
        for specimen in self._given_up(self._criticals, lambda entry: entry.op):
            del self._criticals[specimen]

    def _at_record(self) -> bool:
        return any(self._acknowledge_at(node) for node in self._callers.record_nodes(WARD))

    def _older_than(self, now: float, minutes: float) -> bool:
        limit = now - self._real_min(minutes)
        return any(entry.op.intended <= limit for entry in self._criticals.values())

    def _line_is_alone(self) -> bool:
        """Whether the line's own display says that its LIS is away and results are held."""
        answer = self._ask("analysers", Ask("GET", "/health"))
        checks = _decoded(answer).get("checks", {})
        return not dict(checks.get("lis", {})).get("ok", True)

    def _acknowledge_at(self, service: str) -> bool:
        """Acknowledge what this service lists; False when it does not serve us (properly)."""
        answer = self._ask(service, Ask("GET", "/criticals?open=1", headers=_marks()))
        if answer is None or not answer.good:
            return False
        listed = {str(i.get("id") or i.get("specimen", "")): i for i in items_of(answer)}
        # What was acknowledged without an answer may be off the list already: ask again.
        again: dict[str, Item] = {specimen: {} for at, specimen in self._unsure if at == service}
        for specimen, item in {**again, **listed}.items():
            entry = self._criticals.get(specimen)
            if entry is not None and not self._acknowledge(entry, service, item):
                return False
        return True

    def _acknowledge(self, entry: _Critical, service: str, item: Item) -> bool:
        """Tell the service who took the result; the first carer stays, so twice does no harm."""
        body = msgspec.json.encode({"carer": entry.carer})
        path = f"/criticals/{entry.specimen}/ack"
        taken = self._ask(service, Ask("POST", path, body, _marks()))
        if taken is None or not taken.good:
            self._unsure.add((service, entry.specimen))
            return False
        self._criticals.pop(entry.specimen, None)
        self._unsure.discard((service, entry.specimen))
        patient = str(_decoded(taken).get("patient", item.get("patient", "")))
        entry.op.ok(str(taken.status), service, patient, entry.carer)
        return True

    # ------------------------------------------------------------ common

    def _ask(self, service: str, ask: Ask) -> Answer | None:
        try:
            return self._callers.attempt(service, ask, ASK_S)
        except NoAnswer:
            return None

    def _given_up(self, waiting: Mapping[str, Any], op_of: Callable[[Any], Op]) -> list[str]:
        """Give those that were waited for far too long their last word; returns their keys."""
        now = time.monotonic()
        lost = []
        for key, entry in waiting.items():
            op = op_of(entry)
            if now - op.intended > op.bound_s * GIVE_UP_FACTOR:
                op.unknown(f"nothing within {now - op.intended:.1f} s")
                lost.append(key)
        return lost


def again_and_again(look: Callable[[], None]) -> None:
    """Look twice a second until the traffic stops (its green threads are then ended)."""
    while True:
        began = time.monotonic()
        look()
        gevent.sleep(max(0.05, LOOK_EVERY_S - (time.monotonic() - began)))


def _marks() -> dict[str, str]:
    return {"X-Priority": "P0", "X-Ward": WARD}


def _decoded(answer: Answer | None) -> Item:
    if answer is None:
        return {}
    try:
        found = msgspec.json.decode(answer.body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {}
    return found if isinstance(found, dict) else {}


def items_of(answer: Answer | None) -> list[Item]:
    """The lines of a list, whether it is the whole answer or one member of it."""
    if answer is None or not answer.good:
        return []
    try:
        found = msgspec.json.decode(answer.body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return []
    if isinstance(found, dict):
        found = next((value for value in found.values() if isinstance(value, list)), [])
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []
