"""Properties of judging that no example can show: losses are always found, order never matters."""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chaos.claims.evidence import merged
from chaos.claims.judge import judge
from chaos.claims.kept import WritesKept
from chaos.claims.served import gaps
from chaos.journal import events as ev
from chaos.journal.history import History
from chaos.journal.ops import Op, Outcome
from chaos.systems import Home
from chaos.verdict import Finding, Need
from stacks.hospital.claims import CATALOGUE, NothingLost, NothingTwice
from tests.claims.day import good_day

few = settings(max_examples=25, suppress_health_check=list(HealthCheck))
T0 = 1_000.0


@cache
def good_files() -> dict[str, bytes]:
    return good_day().files()


@cache
def audit_lines() -> tuple[bytes, ...]:
    return tuple(good_files()["audit.jsonl"].splitlines(keepends=True))


ACKNOWLEDGED = (
    "order", "medication", "encounter", "patient", "specimen", "report", "appointment",
)  # fmt: skip


@cache
def owed() -> tuple[int, ...]:
    """Lines of records that an acknowledged write, or a scanner, promises (what a drill restores
    is the vault's promise)."""
    found = []
    for i, line in enumerate(audit_lines()):
        if b'"e":"record"' in line and not any(s in line for s in (b'"ro-copy"', b'"backup"')):
            record = msgspec.json.decode(line, type=ev.Record)
            archived = record.kind == "instance" and record.store.startswith("pacs")
            found += [i] if archived or record.kind in ACKNOWLEDGED else []
    return tuple(found)


@given(data=st.data())
@few
def test_a_lost_acknowledged_write_always_breaks_in_1(data: st.DataObject) -> None:
    """Whichever write it is, in whichever one of its stores it is missing."""
    lines = audit_lines()
    lost = data.draw(st.sampled_from(owed()))
    record = msgspec.json.decode(lines[lost], type=ev.Record)
    kept = [
        line.replace(b'"records":', b'"was":') if b'"store.read"' in line else line
        for i, line in enumerate(lines) if i != lost
    ]  # fmt: skip
    history = History.of({**good_files(), "audit.jsonl": b"".join(kept)})
    verdict = NothingLost().judge(history)
    assert verdict.verdict is Finding.BROKEN
    assert record.store in verdict.reason
    assert record.key in verdict.reason


@given(data=st.data())
@few
def test_a_second_copy_always_breaks_in_2(data: st.DataObject) -> None:
    """Whichever record it is, wherever it lies."""
    lines = audit_lines()
    records = [i for i, line in enumerate(lines) if b'"e":"record"' in line]
    twice = data.draw(st.sampled_from(records))
    more = [line.replace(b'"records":', b'"was":') for line in lines]
    more.insert(twice, lines[twice])
    history = History.of({**good_files(), "audit.jsonl": b"".join(more)})
    assert NothingTwice().judge(history).verdict is Finding.BROKEN


@given(names=st.permutations(["a", "b", "c", "d"]))
@settings(max_examples=8, suppress_health_check=list(HealthCheck))
def test_the_names_and_the_order_of_files_change_no_verdict(names: list[str]) -> None:
    """Only the citations follow the names."""
    files = good_files()
    renamed = {f"{n}.jsonl": data for n, data in zip(names, files.values(), strict=True)}
    claims = [make() for make in CATALOGUE.values()]  # type: ignore[call-arg]
    one, other = judge(History.of(files), claims), judge(History.of(renamed), claims)
    assert [(v.verdict, v.reason, v.evidence) for v in one.claims] == [
        (v.verdict, v.reason, v.evidence) for v in other.claims
    ]


def test_judging_is_deterministic() -> None:
    """The same journal gives the same judgement to the last letter."""
    claims = [make() for make in CATALOGUE.values()]  # type: ignore[call-arg]
    one = judge(History.of(good_files()), claims)
    assert msgspec.json.encode(one) == msgspec.json.encode(judge(History.of(good_files()), claims))


@given(split=st.integers(1, 9_000))
@few
def test_beginnings_and_endings_may_lie_in_different_files(split: int) -> None:
    """A journal that is cut into two files anywhere tells the same."""
    lines = good_files()["traffic.jsonl"].splitlines(keepends=True)
    files = {k: v for k, v in good_files().items() if k != "traffic.jsonl"}
    whole = History.of(good_files())
    parts = {"z1.jsonl": b"".join(lines[split:]), "z2.jsonl": b"".join(lines[:split])}
    cut = History.of({**files, **parts})
    assert cut.defects == ()
    for kind, ops in whole.by_kind.items():
        assert {(o.id, o.outcome) for o in ops} == {(o.id, o.outcome) for o in cut.by_kind[kind]}


# ---------------------------------------------------------------- the ledger against one store

OUTCOMES = st.sampled_from(["ok", "refused", "unknown"])


@given(writes=st.lists(st.tuples(OUTCOMES, st.integers(0, 2)), min_size=1, max_size=12))
@settings(max_examples=200)
def test_the_ledger_rules(writes: list[tuple[str, int]]) -> None:
    """ok → exactly once, refused → absent, unknown → at most once: and nothing else breaks."""
    events: list[ev.Event] = []
    records: list[ev.Event] = []
    for i, (outcome, copies) in enumerate(writes):
        name, t = f"w-{i}", T0 + i
        events.append(ev.OpInvoked(t=t, op=name, kind="write", klass="P1", intended=t, key=f"K{i}"))
        end = {
            "ok": ev.OpOk(t=t + 0.1, op=name, strength="201"),
            "refused": ev.OpRefused(t=t + 0.1, op=name, reason="503"),
            "unknown": ev.OpUnknown(t=t + 0.1, op=name, reason="time-out"),
        }[outcome]
        events.append(end)
        records += [ev.Record(t=T0 + 99, store="s", kind="k", key=f"K{i}") for _ in range(copies)]
    events.append(ev.Drained(t=T0 + 98, ok=True))
    events += [*records, ev.StoreRead(t=T0 + 100, store="s", complete=True, records=len(records))]
    history = History.of({"one.jsonl": msgspec.json.Encoder().encode_lines(events)})
    claim = WritesKept("W", "Kept.", Need.full(1), {"write": (Home("s", "k"),)})
    right = {"ok": (1,), "refused": (0,), "unknown": (0, 1)}
    expected = all(copies in right[outcome] for outcome, copies in writes)
    found = claim.judge(history).verdict
    if not expected:
        assert found is Finding.BROKEN
    else:
        some = any(outcome == "ok" for outcome, _ in writes)
        assert found is (Finding.HELD if some else Finding.INCONCLUSIVE)


# ---------------------------------------------------------------- pure parts


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100)), max_size=20), st.floats(0, 100))
def test_merged_spans_are_a_union(spans: list[tuple[float, float]], t: float) -> None:
    """In order, apart from one another, and they hold exactly what the spans hold."""
    union = merged(spans)
    assert all(a[1] < b[0] for a, b in pairwise(union))
    if all(t not in span for span in spans):
        assert any(s <= t < e for s, e in union) == any(s <= t < e for s, e in spans)


def _op(i: int, intended: float, took: float, ok: bool) -> Op:
    outcome = Outcome.OK if ok else Outcome.UNKNOWN
    return Op(str(i), "k", "P1", "", "", "", "", "", intended, intended, intended + took, outcome,
              "", "", "", "", "", 1, i + 1, i + 1)  # fmt: skip


@given(
    st.lists(
        st.tuples(st.floats(0, 50), st.floats(0.01, 20), st.booleans()), min_size=1, max_size=30
    )
)
def test_a_gap_is_never_longer_than_the_silence(ops: list[tuple[float, float, bool]]) -> None:
    """What was surely a gap lies within what may have been one, and a silence in which somebody
    asked in vain is always found."""
    made = sorted((_op(i, *op) for i, op in enumerate(ops)), key=lambda o: o.intended)
    served = [o for o in made if o.ok]
    end = max(o.ended for o in made)
    found = gaps(made, served, end)
    assert all(0 <= g.asked_s <= g.silent_s + 1e-9 for g in found)
    last = max((o.ended for o in served), default=-1.0)
    asked_in_vain = [o for o in made if not o.ok and o.intended > last]
    assert bool(asked_in_vain) == any(g.open for g in found)


@pytest.mark.parametrize("ident", CATALOGUE)
def test_every_docstring_names_threshold_evidence_and_source(ident: str) -> None:
    """A claim states in its docstring what it asks, of how much evidence, and who says so."""
    text = CATALOGUE[ident].__doc__ or ""
    assert text.startswith(f"{ident}.")
    assert "inimum evidence" in " ".join(text.split())
    assert "Source: " in " ".join(text.split())
    assert any(c.isdigit() for c in text.removeprefix(ident))
