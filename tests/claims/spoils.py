"""Ways to spoil the hand-written day, and what a claim's six cases are.

They change lists before the history is made of them; they judge nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from chaos.verdict import Finding
from tests.claims.day import BACK, FAULT, T0, Day, Look

Spoil = Callable[[Day], None]
HELD, BROKEN = Finding.HELD, Finding.BROKEN
INCONCLUSIVE, VOID = Finding.INCONCLUSIVE, Finding.VOID


def during(kinds: tuple[str, ...], share: float = 0.05, klass: str = "", **change: object) -> Spoil:
    """Change every n-th operation of these kinds that was intended during the fault."""

    def spoil(day: Day) -> None:
        ops = [o for o in day.of(*kinds, during=True) if klass in ("", o.klass)]
        assert ops
        for op in ops[:: max(1, round(1 / share))]:
            for name, value in change.items():
                setattr(op, name, value)

    return spoil


def thin(*kinds: str, keep: int = 7) -> Spoil:
    """Leave only every n-th operation of these kinds."""

    def spoil(day: Day) -> None:
        some = {id(o) for o in day.of(*kinds)[::keep]}
        day.ops = [o for o in day.ops if o.kind not in kinds or id(o) in some]

    return spoil


def unread(*stores: str) -> Spoil:
    def spoil(day: Day) -> None:
        for store in stores or tuple(day.read):
            day.read[store] = False

    return spoil


def never_read(day: Day) -> None:
    day.read.clear()
    day.drained = None


def lose(store: str, kind: str, every: int = 100) -> Spoil:
    """Remove some records of a store."""

    def spoil(day: Day) -> None:
        gone = {id(r) for r in day.stored(store, kind)[5::every]}
        assert gone
        day.forget(lambda r: id(r) not in gone)

    return spoil


def change(store: str, kind: str, **values: object) -> Spoil:
    """Change one record of a store."""

    def spoil(day: Day) -> None:
        row = day.stored(store, kind)[7]
        for name, value in values.items():
            setattr(row, name, value)

    return spoil


def again(store: str, kind: str) -> Spoil:
    """The same record a second time, as a second row."""

    def spoil(day: Day) -> None:
        day.rows.append(replace(day.stored(store, kind)[3]))

    return spoil


def refuse_stored(day: Day) -> None:
    """The client was told no, and yet it lies there."""
    for op in day.of("medication.create")[3:4]:
        op.outcome, op.reason = "refused", "503 no writable primary"


def looks(what: str, when: Callable[[Look], bool], **values: object) -> Spoil:
    """Change samples."""

    def spoil(day: Day) -> None:
        found = [s for s in day.sampled(what) if when(s)]
        assert found
        for look in found:
            for name, value in values.items():
                setattr(look, name, value)

    return spoil


def without_looks(what: str) -> Spoil:
    def spoil(day: Day) -> None:
        day.looks = [s for s in day.looks if s.what != what]

    return spoil


def frozen_line(day: Day) -> None:
    """The analysers' line stands still for ten seconds."""
    for op in day.of("specimen.result", during=True):
        if op.at < 50:
            op.took += 10.0


def late_orders(day: Day) -> None:
    """An order reaches the LIS twenty seconds after everything was healthy again."""
    day.stored("lis", "order")[400].at = FAULT[1] + 40.0


def newest_first(day: Day) -> None:
    """The engine replays what it held in the wrong order."""
    held = [r for r in day.stored("lis", "order") if 50 <= r.at < 58]
    assert len(held) > 20
    for row, at in zip(held, sorted((r.at for r in held), reverse=True), strict=True):
        row.at = at


def preliminary_again(day: Day) -> None:
    """A late preliminary result is written over the final one: third version."""
    for node in ("ehr-db-a", "ehr-db-b"):
        row = next(r for r in day.stored(node, "report") if r.key == "S00040")
        row.status, row.version = "preliminary", 3


def slow_drain(day: Day) -> None:
    for look in day.sampled("queue.depth"):
        if look.at >= FAULT[0]:
            look.value = 30.0
    day.drained = (False, "not drained within 60 s: engine holds 30 for lis")


def split_brain(day: Day) -> None:
    """The old primary wakes up and accepts a write after the new one did."""
    day.looks.append(Look("db.writable", "ehr-db-a", BACK + 5.1, T0 + BACK + 5.0, "1", ok=True))


def same_timeline(day: Day) -> None:
    day.looks.append(Look("db.writable", "ehr-db-a", BACK + 5.1, T0 + BACK + 5.0, "2", ok=True))


def swapped_results(day: Day) -> None:
    one, other = day.stored("lis", "report")[10:12]
    one.subject, other.subject = other.subject, one.subject


def swapped_values(day: Day) -> None:
    """Results of two patients change places on the way from the line, in every later system."""
    for store in ("lis", "ehr-db-a", "ehr-db-b"):
        one, other = (r for r in day.stored(store, "report") if r.key in ("S00010", "S00011"))
        one.digest, other.digest = other.digest, one.digest


def merged(outcome: str, carried_out: bool) -> Spoil:
    """A000 becomes part of M001; whether every store knows it in the end."""

    def spoil(day: Day) -> None:
        from tests.claims.day import Entry  # a merge like any other operation

        day.ops.append(Entry("patient.merge", "P3", 62.0, key="A0000", subject="M001", via="gam",
                             outcome=outcome))  # fmt: skip
        for row in day.rows:
            if carried_out and row.subject == "A0000":
                row.subject = "M001"

    return spoil


def inverted(day: Day) -> None:
    """Urgent requests are shed while back-office work is accepted."""
    for op in day.of("back.office", during=True):
        op.outcome, op.shed = "ok", ""
        op.via = "ehr-a"
    for op in [o for o in day.of("chart.read", during=True) if o.klass == "P0"][::5]:
        op.shed = "overloaded: P0 is shed"


def no_takeover(day: Day) -> None:
    """Nobody can write until the killed primary is back."""
    for op in day.of("order.create", "medication.create", during=True):
        op.took = FAULT[1] + 1 - op.at


def all_slow(day: Day) -> None:
    for op in day.of("patient.create", "encounter.create", during=True):
        op.took = 1.0


def record_writes_unknown(day: Day) -> None:
    for op in day.of("medication.create")[::10]:
        op.outcome = "unknown"


def some_absent(day: Day) -> None:
    """What is unknown may be absent, or there once."""
    record_writes_unknown(day)
    keys = {o.key for o in day.of("medication.create")[::20]}
    day.forget(lambda r: r.key not in keys)


def few_tubes(day: Day) -> None:
    tubes = ("specimen.load", "specimen.result")
    day.ops = [o for o in day.ops if o.kind not in tubes or o.key.endswith("0")]


def nothing(_: Day) -> None:
    """Leave the day as it is."""


@dataclass(frozen=True)
class Cases:
    """What must become of one claim; `unknown`: (spoil, finding); `unread`: finding without a
    final read (claims that look at no store still hold)."""

    broken: dict[str, Spoil]
    unknown: tuple[Spoil, Finding]
    vacuous: Spoil
    unread: Finding = INCONCLUSIVE
