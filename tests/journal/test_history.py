"""The history: what is torn, what is damaged, what contradicts itself, and what is found."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chaos.journal import events as ev
from chaos.journal.history import History, HistoryError
from chaos.journal.ledger import BACKWARDS_S
from chaos.journal.lines import BLOCK_BYTES, LINE_MAX_BYTES
from chaos.journal.ops import Outcome

encode = msgspec.json.Encoder().encode_lines


def begin(name: str, t: float = 1.0, **facts: str) -> ev.OpInvoked:
    return ev.OpInvoked(t=t, op=name, kind="chart.read", klass="P1", intended=t, **facts)


def end(name: str, t: float = 2.0) -> ev.OpOk:
    return ev.OpOk(t=t, op=name, strength="200", via="ehr-a")


def seen(t: float) -> ev.ServiceSeen:
    return ev.ServiceSeen(t=t, service="ehr-a", state="ready")


def test_files_are_merged_by_their_common_clock() -> None:
    """Whatever the files are called."""
    history = History.of({"a.jsonl": encode([seen(1), seen(4)]), "b.jsonl": encode([seen(2)])})
    assert [e.t for e in history.events] == [1, 2, 4]
    assert [history.cite(s) for s in history.seen] == ["a.jsonl:1", "b.jsonl:1", "a.jsonl:2"]


def test_an_operation_is_put_together() -> None:
    """Outcome, latency from the intended start, and both places."""
    history = History.of({"a.jsonl": encode([seen(0), begin("1", 1.0, key="M1"), end("1", 1.5)])})
    (op,) = history.ops("chart.read")
    assert (op.outcome, op.latency_s, op.key, op.via) == (Outcome.OK, 0.5, "M1", "ehr-a")
    assert (history.cite(op.began_at), history.cite(op)) == ("a.jsonl:2", "a.jsonl:3")


def test_an_operation_without_an_ending_is_unknown() -> None:
    """Never a success, never a refusal."""
    (op,) = History.of({"a.jsonl": encode([begin("1")])}).ops("chart.read")
    assert (op.outcome, op.pending, op.latency_s) == (Outcome.UNKNOWN, True, float("inf"))


@pytest.mark.parametrize("cut", [1, 5, 20])
def test_a_torn_last_line_is_noted(cut: int) -> None:
    """Its writer was killed; everything before it stands."""
    data = encode([seen(1), seen(2)])
    history = History.of({"a.jsonl": data[: -1 - cut]})
    assert history.defects == ()
    assert history.notes == ("a.jsonl:2 is unfinished: its writer was killed",)
    assert len(history.events) == 1


def test_a_last_line_without_its_newline_counts() -> None:
    """It is whole: the closing brace is there."""
    history = History.of({"a.jsonl": encode([seen(1), seen(2)])[:-1]})
    assert (len(history.events), history.notes) == (2, ())


GARBAGE = {
    "half a line": b'{"e":"service.seen","t":1,',
    "zeros": b"\x00" * 40,
    "an empty line": b"",
    "not UTF-8": b'{"e":"drained","t":1,"ok":true,"reason":"\xff"}',
    "an unknown event": b'{"e":"party","t":1}',
    "a wrong type": b'{"e":"drained","t":"noon","ok":true}',
    "a field missing": b'{"e":"drained","t":1}',
    "infinite time": b'{"e":"drained","t":1e999,"ok":true}',
    "two in one line": b'{"e":"drained","t":1,"ok":true}{"e":"drained","t":1,"ok":true}',
    "deep nesting": b"[" * 100_000,
    "no object": b"17",
}


@pytest.mark.parametrize("name", GARBAGE)
def test_damage_in_the_middle_is_a_defect(name: str) -> None:
    """Said with file and line; the lines around it are still read."""
    data = encode([seen(1)]) + GARBAGE[name] + b"\n" + encode([seen(3)])
    history = History.of({"a.jsonl": data})
    assert len(history.defects) == 1
    assert history.defects[0].startswith("a.jsonl:2 ")
    assert [e.t for e in history.events] == [1, 3]


def test_an_endless_line_is_a_defect_and_no_memory() -> None:
    """A line longer than any writer makes is skipped, not swallowed."""
    blocks = encode([seen(1)]) + b"x" * (3 * BLOCK_BYTES + LINE_MAX_BYTES) + b"\n"
    folder_data = blocks + encode([seen(2)])
    history = History.of({"a.jsonl": folder_data})
    assert [e.t for e in history.events] == [1, 2]
    assert len(history.defects) == 1


def test_an_endless_line_across_blocks(tmp_path: Path) -> None:
    """The same when it is read block by block from a file."""
    data = encode([seen(1)]) + b"x" * (3 * BLOCK_BYTES) + b"\n" + encode([seen(2)])
    (tmp_path / "a.jsonl").write_bytes(data)
    history = History.read(tmp_path)
    assert [e.t for e in history.events] == [1, 2]
    assert history.defects == (f"a.jsonl:2 is longer than {LINE_MAX_BYTES} bytes",)
    assert history.cite(history.seen[1]) == "a.jsonl:3"


CONTRADICTIONS: dict[str, list[ev.Event]] = {
    "begins twice": [begin("1"), begin("1")],
    "ends twice": [begin("1"), end("1"), ev.OpRefused(t=3, op="1", reason="no")],
    "never began": [end("1")],
    "ends before it begins": [begin("1", 9.0), end("1", 2.0)],
    "clock runs back": [seen(100 + BACKWARDS_S), seen(99)],
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_contradictions_are_defects(name: str) -> None:
    """The journal of a sound run cannot hold them."""
    assert len(History.of({"a.jsonl": encode(CONTRADICTIONS[name])}).defects) == 1


def test_an_ending_may_lie_in_an_earlier_file() -> None:
    """Files are read by name, not by time."""
    history = History.of({"a.jsonl": encode([end("1")]), "b.jsonl": encode([begin("1")])})
    (op,) = history.ops()
    assert (op.ok, history.defects) == (True, ())


def test_no_journal_at_all(tmp_path: Path) -> None:
    """A folder without files is a defect, no folder an error in one line."""
    assert History.read(tmp_path).defects == ("the journal holds no events",)
    with pytest.raises(HistoryError, match="no journal folder"):
        History.read(tmp_path / "none")


def test_a_run_folder_will_do(tmp_path: Path) -> None:
    """`journal/` inside it is read."""
    (tmp_path / "journal").mkdir()
    (tmp_path / "journal" / "a.jsonl").write_bytes(encode([seen(1)]))
    (tmp_path / "journal" / "notes.txt").write_text("not a journal")
    assert len(History.read(tmp_path).events) == 1


def test_many_defects_are_counted_not_listed() -> None:
    """A ruined journal is said to be ruined in a few lines."""
    history = History.of({"a.jsonl": b"?\n" * 1_000})
    assert len(history.defects) < 30
    assert "981 more" in history.defects[20]


def test_operations_between_two_instants() -> None:
    """Half open: from the first instant on, up to but without the second."""
    history = History.of({"a.jsonl": encode([begin(str(n), float(n)) for n in range(10)])})
    found = [op.intended for op in history.ops_between(("chart.read",), 3.0, 6.0)]
    assert found == [3.0, 4.0, 5.0]


@given(st.binary(max_size=300))
@settings(max_examples=200)
def test_no_bytes_raise(data: bytes) -> None:
    """Whatever lies in a journal file, reading it gives a history with defects or notes."""
    history = History.of({"a.jsonl": encode([seen(1)]) + data})
    assert history.events[0].t == 1
