"""Every claim of the hospital in six cases: holds, broken, unknown operations, vacuous, a torn
journal, no final read. And every way to break it that we can think of."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from chaos.claims.judge import judge
from chaos.journal import events as ev
from chaos.journal.history import History
from chaos.verdict import Need, Verdict
from stacks.hospital.claims import CATALOGUE
from stacks.hospital.claims.places import HOMES
from tests.claims.backups_day import BACKUPS
from tests.claims.bad_input_day import BAD_INPUT
from tests.claims.day import BACK, FAULT, T0, Day, Row, good_day
from tests.claims.department_cases import APPOINTMENTS, IMAGING
from tests.claims.recovery_day import RECOVERY
from tests.claims.spoils import (
    BROKEN,
    HELD,
    INCONCLUSIVE,
    VOID,
    Cases,
    Spoil,
    again,
    all_slow,
    change,
    during,
    few_tubes,
    frozen_line,
    inverted,
    late_orders,
    looks,
    lose,
    merged,
    never_read,
    newest_first,
    nothing,
    preliminary_again,
    record_writes_unknown,
    refuse_stored,
    same_timeline,
    slow_drain,
    some_absent,
    split_brain,
    swapped_results,
    swapped_values,
    thin,
    unread,
    without_looks,
)

ONE_RUN = Need(claim=5, asked=1, why="one run sees one failover")


def claim(ident: str) -> object:
    return CATALOGUE[ident](ONE_RUN) if ident == "FO-1" else CATALOGUE[ident]()  # type: ignore[call-arg]


def verdict(ident: str, *spoils: Spoil) -> Verdict:
    day = good_day()
    for spoil in spoils:
        spoil(day)
    judgement = judge(day.history(), [claim(ident)])  # type: ignore[list-item]
    return judgement.claims[0]


# ---------------------------------------------------------------- the table


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
            "an image lost": lose("pacs-a", "instance"),
            "an image of other pixels": change("pacs-b", "instance", digest="other"),
            "an imaging order lost": lose("ris", "order"),
            "an appointment lost": lose("scheduling", "appointment"),
            "a channel not told": lose("sms", "appointment"),
            "not called off": lambda d: setattr(
                d.stored("website", "appointment")[5], "status", "confirmed"
            ),
        },
        (some_absent, HELD),
        thin(*HOMES),
    ),
    "IN-2": Cases(
        {
            "two rows": again("ehr-db-a", "order"),
            "counted twice": change("lis", "report", count=2),
            "an image twice": again("pacs-b", "instance"),
            "an appointment twice": again("scheduling", "appointment"),
            "a slot booked twice": change("scheduling", "slot", count=2),
            "preliminary over final": preliminary_again,
            "newest first": newest_first,
            "backlog stays": slow_drain,
        },
        (record_writes_unknown, HELD),
        lambda d: d.forget(lambda r: r.key.endswith("00")),
    ),
    "IN-3": Cases(
        {
            "answer of another patient": during(READ, 0.01, found="M999"),
            "results change patients": swapped_results,
            "values change patients": swapped_values,
            "another patient's image shown": during(("image.read",), 0.01, found="M999"),
            "another patient's study": during(("study.view",), 0.05, found="M999"),
            "archived under another": change("pacs-a", "instance", subject="M999"),
            "study matched to another": change("ris", "match", subject="M999"),
            "another patient's appointment": change("website", "appointment", subject="M999"),
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
TABLE |= IMAGING | APPOINTMENTS | BAD_INPUT | RECOVERY | BACKUPS
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


def test_a_broken_service_level_says_what_most_requests_failed_of() -> None:
    """The same words about different patients are one cause; who reads the reason need not open
    the journal."""

    def gone(d: Day) -> None:
        reads = [one for one in d.of("chart.read", during=True) if one.klass == "P1"]
        for number, one in enumerate(reads[::3]):
            one.outcome = "refused"
            one.reason = "ehr-a: 503" if number < 3 else f"ro-copy: 404 {one.subject} is not here"

    found = verdict("RA-1", gone)
    assert found.verdict is BROKEN
    told = re.search(r"([\d,]+) of the ([\d,]+) without an answer: (.*?)\.( |$)", found.reason)
    assert told is not None, found.reason
    most, failed = (int(one.replace(",", "")) for one in told.groups()[:2])
    assert (failed - most, told[3]) == (3, "ro-copy: 404 … is not here")


def test_damage_that_the_journal_does_not_list_is_not_praised_as_reported() -> None:
    """IN-5: the fault tells where the first flips lie; of the others nobody knows."""

    def more(d: Day) -> None:
        for number, event in enumerate(d.extra):
            if isinstance(event, ev.FaultSeen) and " at " in event.observation:
                told = f"{event.observation} and 16 more"
                d.extra[number] = ev.FaultSeen(t=event.t, fault=event.fault, observation=told)

    found = verdict("IN-5", more)
    assert found.verdict is INCONCLUSIVE, found.reason
    assert "16 planted damages more" in found.reason


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
