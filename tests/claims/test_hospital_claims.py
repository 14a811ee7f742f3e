"""Every claim of the hospital in six cases: holds, broken, unknown operations, vacuous, a torn
journal, no final read. And every way to break it that we can think of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from chaos.claims.judge import judge
from chaos.journal.history import History
from chaos.verdict import Finding, Need, Verdict
from stacks.hospital.claims import CATALOGUE
from tests.claims.day import BACK, FAULT, T0, Day, Look, Row, good_day

Spoil = Callable[[Day], None]
HELD, BROKEN = Finding.HELD, Finding.BROKEN
INCONCLUSIVE, VOID = Finding.INCONCLUSIVE, Finding.VOID
ONE_RUN = Need(claim=5, asked=1, why="one run sees one failover")


def claim(ident: str) -> object:
    return CATALOGUE[ident](ONE_RUN) if ident == "FO-1" else CATALOGUE[ident]()  # type: ignore[call-arg]


def verdict(ident: str, *spoils: Spoil) -> Verdict:
    day = good_day()
    for spoil in spoils:
        spoil(day)
    judgement = judge(day.history(), [claim(ident)])  # type: ignore[list-item]
    return judgement.claims[0]


# ---------------------------------------------------------------- ways to spoil a day


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


# ---------------------------------------------------------------- the table


@dataclass(frozen=True)
class Cases:
    """What must become of one claim; `unknown`: (spoil, finding); `unread`: finding without a
    final read (claims that look at no store still hold)."""

    broken: dict[str, Spoil]
    unknown: tuple[Spoil, Finding]
    vacuous: Spoil
    unread: Finding = INCONCLUSIVE


READ, ORDERS = ("chart.read",), ("order.create", "medication.create")
TABLE: dict[str, Cases] = {
    "RA-1": Cases(
        {
            "refused": during(READ, 0.05, "P0", outcome="refused", reason="503"),
            "slow": during(READ, 0.1, "P1", took=6.0),
            "never answered": during(READ, 0.1, outcome="pending"),
            "another patient's chart": during(READ, 0.05, found="M999"),
            "an empty answer": during(READ, 0.05, found=""),
            "not a sanctioned path": during(READ, 0.05, via="lis"),
        },
        (during(READ, 0.05, outcome="unknown"), BROKEN),
        thin("chart.read"),
        HELD,
    ),
    "RA-2": Cases(
        {
            "old when the fault begins": looks("copy.asof", lambda s: s.at <= 40, value=T0 + 10),
            "as-of in the future": looks("copy.asof", lambda s: s.at <= 40, value=T0 + 300),
            "silent while the fault lasts": looks("copy.asof", lambda s: 42 < s.at < 90, ok=False),
            "inpatients missing": looks("copy.census", lambda s: s.at == 50, value=0.9),
            "contents differ": lambda d: [
                setattr(r, "digest", "x")  # type: ignore[func-returns-value]
                for r in d.stored("ro-copy")[::50]
            ],
        },
        (looks("copy.asof", lambda s: s.at > 0, ok=False), INCONCLUSIVE),
        without_looks("copy.census"),
    ),
    "RA-3": Cases(
        {
            "accepts a write": during(("copy.write",), 0.1, outcome="ok"),
            "refuses without a reason": during(("copy.write",), 0.1, reason=" "),
            "no marker": looks("copy.marker", lambda s: s.at == 50, ok=False),
            "keeps what it refused": lambda d: d.rows.append(Row("ro-copy", "observation", "X3")),
        },
        (during(("copy.write",), 1, outcome="unknown"), HELD),
        thin("copy.write"),
        HELD,
    ),
    "OR-1": Cases(
        {"refused": during(ORDERS, 0.05, outcome="refused", reason="503")},
        (during(ORDERS, 0.05, outcome="unknown"), BROKEN),
        thin(*ORDERS),
        HELD,
    ),
    "OR-2": Cases(
        {
            "never arrives": lose("lis", "order"),
            "arrives late": late_orders,
            "arrives twice": again("lis", "order"),
        },
        (during(("order.create",), 0.1, outcome="unknown"), HELD),
        thin("order.create"),
    ),
    "RS-1": Cases(
        {
            "the line stands still": frozen_line,
            "tubes not taken": during(("specimen.load",), 0.1, outcome="refused"),
            "results lost on the line": lose("analysers", "specimen"),
            "results lost in the LIS": lose("lis", "report"),
            "never more than preliminary": change("lis", "report", status="preliminary"),
        },
        (during(("specimen.result",), 0.2, outcome="unknown", took=90.0), BROKEN),
        few_tubes,
    ),
    "RS-2": Cases(
        {
            "late": during(("critical.ack",), 0.1, took=31.0),
            "by nobody": during(("critical.ack",), 0.1, answer=""),
            "never": during(("critical.ack",), 0.1, outcome="unknown", took=40.0),
        },
        (
            during(("critical.ack",), 0.1, outcome="unknown", took=20.0, reason="cut short: x"),
            INCONCLUSIVE,
        ),
        thin("critical.ack"),
        HELD,
    ),
    "RS-3": Cases(
        {"five times slower": during(("stat.turnaround",), 1, took=75.0)},
        (
            during(("stat.turnaround",), 0.5, outcome="unknown", reason="cut short: x", took=35.0),
            INCONCLUSIVE,
        ),
        thin("stat.turnaround"),
        HELD,
    ),
    "IN-1": Cases(
        {
            "lost in one replica": lose("ehr-db-b", "order"),
            "lost in the LIS": lose("lis", "order"),
            "lost at the front desk": lose("gam", "patient"),
            "result lost": lose("ehr-db-a", "report"),
            "content changed": change("lis", "order", digest="other"),
            "refused and yet stored": refuse_stored,
        },
        (some_absent, HELD),
        thin(
            "order.create",
            "medication.create",
            "patient.create",
            "encounter.create",
            "specimen.load",
        ),
    ),
    "IN-2": Cases(
        {
            "two rows": again("ehr-db-a", "order"),
            "counted twice": change("lis", "report", count=2),
            "preliminary over final": preliminary_again,
            "newest first": newest_first,
            "backlog stays": slow_drain,
        },
        (record_writes_unknown, HELD),
        lambda d: d.forget(lambda r: r.key.endswith("0")),
    ),
    "IN-3": Cases(
        {
            "answer of another patient": during(READ, 0.01, found="M999"),
            "results change patients": swapped_results,
            "values change patients": swapped_values,
            "stored under another": change("ehr-db-b", "medication", subject="M999"),
            "merge not carried out": merged("ok", carried_out=False),
            "a merge that was refused": merged("refused", carried_out=True),
        },
        (merged("unknown", carried_out=True), HELD),
        lambda d: [
            d.forget(lambda r: r.key.endswith("00")),
            thin(  # type: ignore[func-returns-value]
                *{o.kind for o in d.ops}, keep=40
            )(d),
        ],
    ),
    "IN-4": Cases(
        {
            "old primary wakes": split_brain,
            "two on one timeline": same_timeline,
            "histories differ": lose("ehr-db-b", "observation"),
        },
        (looks("db.writable", lambda s: FAULT[0] <= s.at < BACK, ok=False), HELD),
        lambda d: [
            d.looks.remove(s)
            for s in d.sampled("db.writable")  # type: ignore[func-returns-value]
            if FAULT[0] <= s.at < FAULT[1] + 1
        ],
    ),
    "PR-1": Cases(
        {
            "urgent shed first": inverted,
            "urgent not served": during(READ, 0.05, "P0", outcome="refused", reason="503"),
        },
        (during(READ, 0.05, "P1", outcome="unknown"), BROKEN),
        during(("back.office",), 1, outcome="ok", shed=""),
        HELD,
    ),
    "FO-1": Cases(
        {"too slow": nothing},  # see test_failover
        (during(ORDERS, 0.1, outcome="unknown"), HELD),
        without_looks("db.writable"),
        HELD,
    ),
    "FO-2": Cases(
        {
            "fails": during(("patient.create",), 0.1, outcome="refused"),
            "slow": all_slow,
        },
        (during(("specimen.load",), 0.1, outcome="unknown"), BROKEN),
        thin("specimen.load", "specimen.result", "patient.create", "encounter.create", keep=3),
        HELD,
    ),
}
BREAKS = [(i, name) for i, cases in TABLE.items() for name in cases.broken if i != "FO-1"]


def test_every_claim_is_in_the_table() -> None:
    """A claim without its six cases is not done."""
    assert set(TABLE) == set(CATALOGUE)


@pytest.fixture(scope="module")
def good() -> History:
    return good_day().history()


@pytest.mark.parametrize("ident", TABLE)
def test_holds(ident: str, good: History) -> None:
    """On a good day every claim holds with its full evidence and cites the journal."""
    judgement = judge(good, [claim(ident)])  # type: ignore[list-item]
    (found,) = judgement.claims
    assert (judgement.reasons, found.verdict) == ((), HELD), found.reason
    assert found.evidence >= found.needed > 0
    assert found.lines
    assert all(line.partition(":")[2].isdigit() for line in found.lines)


@pytest.mark.parametrize(("ident", "name"), BREAKS)
def test_broken(ident: str, name: str) -> None:
    """Every way to break the claim is found, and the lines that prove it are cited."""
    if (ident, name) == ("IN-4", "histories differ"):
        found = verdict(ident, lambda d: d.rows.append(Row("ehr-db-b", "order", "only here")))
    else:
        found = verdict(ident, TABLE[ident].broken[name])
    assert found.verdict is BROKEN, found.reason
    assert found.lines
    assert any(c.isdigit() for c in found.reason)


@pytest.mark.parametrize("ident", TABLE)
def test_unknown_operations(ident: str) -> None:
    """Operations without a clear end count for what they are: no answer, and perhaps a write."""
    spoil, expected = TABLE[ident].unknown
    found = verdict(ident, spoil)
    assert found.verdict is expected, found.reason


@pytest.mark.parametrize("ident", TABLE)
def test_vacuous(ident: str) -> None:
    """Too little evidence is inconclusive, never held, and the reason says so."""
    found = verdict(ident, TABLE[ident].vacuous)
    assert found.verdict is INCONCLUSIVE, found.reason
    assert found.reason


@pytest.mark.parametrize("ident", TABLE)
def test_torn_journal(ident: str) -> None:
    """A journal that is damaged in the middle proves nothing."""
    files = good_day().files()
    lines = files["traffic.jsonl"].split(b"\n")
    lines[500] = lines[500][: len(lines[500]) // 2]
    judgement = judge(History.of({**files, "traffic.jsonl": b"\n".join(lines)}),
                      [claim(ident)])  # type: ignore[list-item]  # fmt: skip
    assert (judgement.outcome, judgement.claims[0].verdict) == (VOID, VOID)
    assert "traffic.jsonl:501" in judgement.claims[0].reason


@pytest.mark.parametrize("spoil", [never_read, unread()], ids=["never", "incomplete"])
@pytest.mark.parametrize("ident", TABLE)
def test_no_final_read(ident: str, spoil: Spoil) -> None:
    """Without a final read nobody is accused, and nothing that needs it is held."""
    found = verdict(ident, spoil)
    assert found.verdict is TABLE[ident].unread, found.reason


def test_shed_requests_count_although_the_traffic_stopped_before_they_came_again() -> None:
    """PR-1: who was told to come again later was shed, whatever became of him afterwards."""

    def shed_and_cut(day: Day) -> None:
        for op in day.of("back.office"):
            op.outcome, op.shed, op.reason = "unknown", "overloaded: P4 is shed", "cut short: stop"

    found = verdict("PR-1", shed_and_cut)
    assert found.verdict is HELD, found.reason
    assert " 0 elective requests shed" not in found.reason


def test_a_result_that_waits_for_its_order_is_not_lost_by_the_line() -> None:
    """RS-1 is about the line; the loss of the order is told by IN-1."""
    waits = change("lis", "report", status="registered")
    assert verdict("RS-1", waits).verdict is HELD
    assert verdict("IN-1", waits).verdict is BROKEN


def test_a_watcher_that_never_saw_the_copy_does_not_accuse_it_of_silence() -> None:
    """RA-2: silence counts only for a copy that was heard before."""
    deaf = looks("copy.asof", lambda s: s.at > 0, ok=False)
    assert verdict("RA-2", deaf).verdict is INCONCLUSIVE


def test_a_copy_that_is_behind_is_not_accused_of_mixing_patients_up() -> None:
    """IN-3: the copy may still show who was merged a moment ago, but never a strange patient."""

    def copied(subject: str) -> Spoil:
        def spoil(day: Day) -> None:
            row = replace(day.stored("gam", "patient")[0], store="ro-copy", key="A0000")
            day.rows = [r for r in day.rows if (r.store, r.key) != ("ro-copy", "A0000")]
            day.rows.append(replace(row, subject=subject))

        return spoil

    carried_out = merged("ok", carried_out=True)
    assert verdict("IN-3", carried_out, copied("A0000")).verdict is HELD
    assert verdict("IN-3", carried_out, copied("M-STRANGER")).verdict is BROKEN
