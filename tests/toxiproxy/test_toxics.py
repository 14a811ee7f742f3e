"""Each toxic alone, on a clock of our own: no sockets, no waiting."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.toxiproxy.toxics import KINDS
from chaos.toxiproxy.toxics.bandwidth import Bandwidth
from chaos.toxiproxy.toxics.latency import Latency
from chaos.toxiproxy.toxics.limit_data import LimitData
from chaos.toxiproxy.toxics.noop import Noop
from chaos.toxiproxy.toxics.reset_peer import ResetPeer
from chaos.toxiproxy.toxics.slicer import Slicer
from chaos.toxiproxy.toxics.slow_close import SlowClose
from chaos.toxiproxy.toxics.stage import Ending, Inbox, Memory, Piece, Toxic
from chaos.toxiproxy.toxics.timeout import Timeout

MS = 1_000_000
MAX_STEPS = 10_000


class Bench:
    """One stage between two inboxes; `run` jumps from one wake-up to the next."""

    def __init__(self, toxic: Toxic, *, from_start: bool = True, seed: int = 1) -> None:
        self.now_ns = 0
        self.stage = toxic.stage(Memory(from_start), Random(seed))
        self.inbox = Inbox(self.stage.room)
        self.outlet = Inbox(1 << 62)
        self.arrived: list[tuple[int, bytes]] = []  # (ms, bytes)
        self.ended_ms: float | None = None

    def send(self, data: bytes) -> None:
        self.inbox.put(Piece(data, self.now_ns))

    def run(self, until_ms: float = 1e12) -> Bench:
        for _ in range(MAX_STEPS):
            due_ns = self.stage.step(self.now_ns, self.inbox, self.outlet)
            self._collect()
            if due_ns is None or due_ns > until_ms * MS:
                self.now_ns = max(self.now_ns, int(min(until_ms, 1e9) * MS))
                return self
            assert due_ns > self.now_ns, "a stage that asks for the past spins"
            self.now_ns = due_ns
        raise AssertionError("the stage never comes to rest")

    def _collect(self) -> None:
        while self.outlet.pieces:
            self.arrived.append((self.now_ns // MS, bytes(self.outlet.take().data)))
        if self.outlet.ending and self.ended_ms is None:
            self.ended_ms = self.now_ns / MS

    @property
    def data(self) -> bytes:
        return b"".join(piece for _, piece in self.arrived)


CHUNKS = st.lists(st.binary(min_size=1, max_size=300), max_size=8)
LOSSLESS = st.one_of(
    st.just(Noop()),
    st.builds(Latency, latency=st.integers(0, 500), jitter=st.integers(0, 500)),
    st.builds(Bandwidth, rate=st.integers(1, 1000)),
    st.builds(SlowClose, delay=st.integers(0, 500)),
    st.tuples(st.integers(0, 50), st.integers(0, 50), st.integers(0, 2000)).map(
        lambda v: Slicer(average_size=v[0], size_variation=min(v[1], v[0]), delay=v[2])
    ),
)


@given(toxic=LOSSLESS, chunks=CHUNKS, seed=st.integers(0, 9), cuts=st.lists(st.integers(0, 400)))
def test_lossless_toxics_keep_every_byte_in_order(
    toxic: Toxic, chunks: list[bytes], seed: int, cuts: list[int]
) -> None:
    """Latency, bandwidth, slicer, slow_close and noop lose, add and reorder nothing, even when
    interrupted at any time; the end comes last."""
    bench = Bench(toxic, seed=seed)
    for index, chunk in enumerate(chunks):
        bench.send(chunk)
        if index < len(cuts):
            bench.run(until_ms=bench.now_ns / MS + cuts[index])
            bench.stage.interrupt(bench.inbox, bench.outlet)
            bench._collect()
    bench.inbox.end(Ending.EOF)
    bench.run()
    assert bench.data == b"".join(chunks)
    assert bench.outlet.ending is Ending.EOF


@given(toxic=LOSSLESS, chunks=CHUNKS, after_ms=st.integers(0, 300))
def test_leaving_hands_everything_on(toxic: Toxic, chunks: list[bytes], after_ms: int) -> None:
    """A toxic that is removed keeps nothing back."""
    bench = Bench(toxic)
    for chunk in chunks:
        bench.send(chunk)
    bench.run(until_ms=after_ms)
    bench.stage.leave(bench.inbox, bench.outlet)
    bench._collect()
    assert bench.data == b"".join(chunks)


@given(latency=st.integers(0, 1000), jitter=st.integers(0, 200), gaps=st.lists(st.integers(0, 99)))
def test_latency_is_never_early_and_never_serialises(
    latency: int, jitter: int, gaps: list[int]
) -> None:
    """Each piece arrives within [latency - jitter, latency + jitter] of its sending, give or take
    a later piece ahead of it."""
    bench = Bench(Latency(latency, jitter))
    sent_ms = []
    for gap in gaps:
        bench.run(until_ms=bench.now_ns / MS + gap)
        sent_ms.append(bench.now_ns // MS)
        bench.send(b"x")
    bench.run()
    assert len(bench.arrived) == len(gaps)
    slowest = 0
    for sent, (arrived, _) in zip(sent_ms, bench.arrived, strict=True):
        slowest = max(slowest, sent + latency + jitter)
        assert arrived >= sent + max(0, latency - jitter)
        assert arrived <= slowest


@pytest.mark.parametrize("toxic", [Latency(7), Bandwidth(1), SlowClose(7), Timeout(7)])
def test_not_a_nanosecond_early(toxic: Toxic) -> None:
    """Asked just before its time, as often as one likes, a stage does nothing."""
    inbox, outlet = Inbox(1 << 20), Inbox(1 << 20)
    stage = toxic.stage(Memory(from_start=True), Random(1))
    inbox.put(Piece(b"1234567", 0))
    inbox.end(Ending.EOF)
    if isinstance(toxic, SlowClose):
        stage.step(0, inbox, outlet)
        outlet.clear()
    for now_ns in (0, 6 * MS, 7 * MS - 1):
        assert stage.step(now_ns, inbox, outlet) == 7 * MS
        assert (outlet.size, outlet.ending) == (0, None)
    stage.step(7 * MS, inbox, outlet)
    assert outlet.size or outlet.ending


@given(rate=st.integers(1, 2000), sizes=st.lists(st.integers(1, 64_000), min_size=1, max_size=9))
def test_bandwidth_is_never_faster_than_its_rate(rate: int, sizes: list[int]) -> None:
    """At no time has more arrived than rate × time allows, and in the end it took that long."""
    bench = Bench(Bandwidth(rate))
    for size in sizes:
        bench.send(b"x" * size)
    bench.run()
    passed = 0
    for at_ms, data in bench.arrived:
        passed += len(data)
        assert passed <= rate * (at_ms + 1)
    assert bench.now_ns >= sum(sizes) * MS // rate - len(bench.arrived) * 1000


def test_bandwidth_goes_in_steps_of_100_ms() -> None:
    """60 kB at 100 kB/s are six steps of 10 kB, the first after 100 ms."""
    bench = Bench(Bandwidth(100))
    bench.send(b"x" * 60_000)
    bench.run()
    assert [(ms, len(data)) for ms, data in bench.arrived] == [
        (100 * step, 10_000) for step in range(1, 7)
    ]


def test_bandwidth_zero_holds_everything() -> None:
    """Rate 0 lets nothing through, not even the end, until it is removed."""
    bench = Bench(Bandwidth(0))
    bench.send(b"held")
    bench.inbox.end(Ending.EOF)
    bench.run()
    assert bench.arrived == []
    assert bench.outlet.ending is None
    bench.stage.leave(bench.inbox, bench.outlet)
    bench._collect()
    assert bench.data == b"held"
    assert bench.outlet.ending is Ending.EOF


@given(
    average=st.integers(1, 64),
    variation=st.integers(0, 64),
    size=st.integers(1, 4000),
    seed=st.integers(0, 99),
)
def test_slices_are_never_empty_and_never_too_long(
    average: int, variation: int, size: int, seed: int
) -> None:
    """Every piece has 1 to average + variation bytes."""
    variation = min(variation, average)
    bench = Bench(Slicer(average, variation), seed=seed)
    bench.send(bytes(size))
    bench.run()
    assert sum(len(data) for _, data in bench.arrived) == size
    assert all(1 <= len(data) <= average + variation for _, data in bench.arrived)


def test_slices_keep_their_distance() -> None:
    """Pieces leave `delay` microseconds apart."""
    bench = Bench(Slicer(average_size=10, delay=20_000))
    bench.send(bytes(100))
    bench.run()
    assert [ms for ms, _ in bench.arrived] == [20 * n for n in range(16)]
    assert {len(data) for _, data in bench.arrived} == {6, 7}


@given(limit=st.integers(0, 500), chunks=CHUNKS)
def test_limit_data_cuts_after_exactly_the_limit(limit: int, chunks: list[bytes]) -> None:
    """The connection is cut as soon as the limit is reached, never a byte later or earlier."""
    bench = Bench(LimitData(limit))
    for chunk in chunks:
        bench.send(chunk)
    bench.run()
    everything = b"".join(chunks)
    assert bench.data == everything[:limit]
    reached = bool(chunks) and len(everything) >= limit
    assert bench.outlet.ending is (Ending.CUT if reached else None)


def test_limit_data_keeps_its_count_when_it_changes() -> None:
    """60 of 100 bytes have passed; with the limit changed to 120, 60 more pass."""
    memory, inbox, outlet = Memory(from_start=False), Inbox(1 << 20), Inbox(1 << 20)
    inbox.put(Piece(bytes(60), 0))
    LimitData(100).stage(memory, Random(1)).step(0, inbox, outlet)
    inbox.put(Piece(bytes(200), 0))
    LimitData(120).stage(memory, Random(1)).step(0, inbox, outlet)
    assert outlet.size == 120
    assert outlet.ending is Ending.CUT


def test_timeout_counts_from_the_last_chunk() -> None:
    """Chunks at 0, 200 and 400 ms restart a clock of 500 ms; nothing passes."""
    bench = Bench(Timeout(500))
    for _ in range(3):
        bench.send(b"x")
        bench.run(until_ms=bench.now_ns / MS + 200)
    assert bench.outlet.ending is None
    bench.run()
    assert (bench.ended_ms, bench.outlet.ending, bench.data) == (900, Ending.CUT, b"")


def test_timeout_zero_waits_for_ever_and_cuts_when_removed() -> None:
    """Data and end are swallowed; removal closes the connection, for its data is lost."""
    bench = Bench(Timeout(0))
    bench.send(b"x")
    bench.inbox.end(Ending.EOF)
    bench.run()
    assert bench.outlet.ending is None
    bench.stage.leave(bench.inbox, bench.outlet)
    assert bench.outlet.ending is Ending.CUT


@pytest.mark.parametrize(
    ("from_start", "ending"), [(True, Ending.RESET), (False, Ending.CUT)], ids=["new", "open"]
)
def test_reset_peer_counts_from_the_first_data(from_start: bool, ending: Ending) -> None:
    """Idle connections are spared; new ones are reset, ones that were open before are closed."""
    bench = Bench(ResetPeer(300), from_start=from_start)
    bench.run(until_ms=5000)
    assert bench.outlet.ending is None
    bench.send(b"x")
    bench.run()
    assert (bench.ended_ms, bench.outlet.ending, bench.data) == (5300, ending, b"")


def test_slow_close_delays_the_end_only() -> None:
    """Data passes at once, the end `delay` later."""
    bench = Bench(SlowClose(500))
    bench.send(b"bye")
    bench.inbox.end(Ending.EOF)
    bench.run()
    assert bench.arrived == [(0, b"bye")]
    assert bench.ended_ms == 500


def test_latency_does_not_delay_the_end() -> None:
    """With nothing in flight a close arrives at once."""
    bench = Bench(Latency(500))
    bench.inbox.end(Ending.EOF)
    bench.run()
    assert bench.ended_ms == 0


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_every_attribute_has_a_limit(kind: type[Toxic]) -> None:
    """No attribute is unbounded, and the defaults are legal."""
    toxic = kind()
    toxic.check()
    limited = {*kind.LIMITS, *getattr(kind, "TEXTS", {})}
    assert limited == set(toxic.__dataclass_fields__) - {"KIND", "LIMITS", "TEXTS"}
