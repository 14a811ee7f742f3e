"""The database pair as real processes: what is acknowledged survives, and there is one primary."""

from __future__ import annotations

import itertools
import shutil
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from .pair import PORTS, WITNESS, A, B, Pair, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
Raise = Callable[..., Pair]
NO_ETCD = pytest.mark.skipif(shutil.which("etcd") is None, reason="etcd is not installed")
# Experiments in containers show the same of etcd.
WITH_ETCD = pytest.param("etcd", marks=[NO_ETCD, pytest.mark.campaign])
VOTES = pytest.mark.parametrize("votes", ["raft", WITH_ETCD])
FAILOVER_S = 25.0
PAUSE_S = 30.0
CUT_S = 45.0


class Writer:
    """Writes rows one after the other and notes when each was acknowledged."""

    def __init__(self, pair: Pair, *services: str) -> None:
        self.acknowledged: list[tuple[float, str]] = []
        self._pair, self._services = pair, services
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        number = 0
        while not self._stop.is_set():
            number += 1
            key = f"{'+'.join(self._services) or 'any'}-{number}"
            if self._pair.write(key, *self._services):
                self.acknowledged.append((time.monotonic(), key))
            self._stop.wait(0.02)

    def __enter__(self) -> Writer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(20)
        assert not self._thread.is_alive()

    @property
    def keys(self) -> set[str]:
        return {key for _, key in self.acknowledged}

    def longest_gap_s(self) -> float:
        times = [at for at, _ in self.acknowledged]
        return max(later - earlier for earlier, later in itertools.pairwise(times))

    def wait_for_more(self, count: int, within_s: float) -> None:
        goal = len(self.acknowledged) + count
        until(f"{count} more rows", within_s, lambda: len(self.acknowledged) >= goal)


@VOTES
def test_up_synchronous_and_only_over_the_links(raised: Raise, votes: str) -> None:
    """Every process lies in its folder, and no connection between nodes bypasses a link."""
    pair = raised(proxied=True, votes=votes)
    assert pair.query(A, "SHOW synchronous_standby_names") == '"ehr-db-b"'
    assert pair.query(A, "SHOW data_checksums") == "on"
    assert pair.query(A, "SHOW fsync") == "on"
    owner = {number: service for (service, _), (_, number) in pair.addresses.items()}
    crossing = []
    for service in PORTS:
        assert pair.started[service].pid in pair.processes(service)
        for host, port in pair.callees(service):
            if owner.get(port, service) != service:
                crossing.append((service, host, port))
    assert crossing == []
    # Replication, REST, and two of raft's three.
    until("links in use", 10, lambda: pair.links_in_use() >= 4)


@VOTES
def test_acknowledged_rows_survive_the_death_of_the_primary(
    raised: Raise, votes: str, record_property: Any
) -> None:
    """SIGKILL of the whole node: the standby takes over and has every acknowledged row."""
    pair = raised(votes=votes)
    with Writer(pair) as writer:
        writer.wait_for_more(20, 15)
        pair.kill(A)
        died = time.monotonic()
        until("promotion of the standby", FAILOVER_S, lambda: pair.is_primary(B))
        record_property("promoted_after_s", round(time.monotonic() - died, 1))
        writer.wait_for_more(20, 15)
    record_property("write_interruption_s", round(writer.longest_gap_s(), 1))
    print({"interruption_s": round(writer.longest_gap_s(), 1)})
    assert writer.keys <= pair.keys(B)
    pair.start(A)
    started = time.monotonic()
    until("the dead node back as synchronous standby", 40, lambda: pair.synchronous(B, A))
    print({"rejoined_s": round(time.monotonic() - started, 1)})
    assert pair.write("after", B)
    until("every row on the standby", 10, lambda: pair.keys(A) >= writer.keys | {"after"})


@pytest.mark.campaign
@VOTES
def test_a_paused_primary_never_acknowledges_again(raised: Raise, votes: str) -> None:
    """SIGSTOP 30 s, SIGCONT: one node acknowledges at any instant, the old one rejoins."""
    pair = raised(votes=votes)
    with Writer(pair, A) as on_a, Writer(pair, B) as on_b:
        on_a.wait_for_more(10, 15)
        paused = time.monotonic()
        pair.signal(A, signal.SIGSTOP)
        time.sleep(PAUSE_S)
        resumed = time.monotonic()
        assert pair.is_primary(B)
        pair.signal(A, signal.SIGCONT)
        until("the old primary as synchronous standby", 40, lambda: pair.synchronous(B, A))
        on_b.wait_for_more(10, 15)
    first_on_b = on_b.acknowledged[0][0]
    print(
        {
            "promoted_s": round(first_on_b - paused, 1),
            "rejoined_s": round(time.monotonic() - resumed, 1),
        }
    )
    # The client may read an answer late that the node gave before it froze; such a row is on
    # both nodes. What may not be: a row acknowledged by A that the truth on B does not hold.
    rows = pair.keys(B)
    assert on_a.keys <= rows
    assert on_b.keys <= rows
    assert len([at for at, _ in on_a.acknowledged if at > first_on_b]) <= 1
    until("equal rows", 10, lambda: pair.keys(A) == pair.keys(B))


@VOTES
def test_a_deliberate_stop_hands_over_quickly(raised: Raise, votes: str) -> None:
    """SIGTERM to the primary: exit 0 and a new primary in a few seconds, nothing lost."""
    pair = raised(votes=votes)
    with Writer(pair) as writer:
        writer.wait_for_more(10, 15)
        asked = time.monotonic()
        pair.started[A].send_signal(signal.SIGTERM)
        assert pair.started[A].wait(12) == 0
        stopped = time.monotonic()
        until("hand-over", 10, lambda: pair.is_primary(B))
        writer.wait_for_more(10, 10)
    print({"stopped_s": round(stopped - asked, 1), "gap_s": round(writer.longest_gap_s(), 1)})
    assert not pair.processes(A)
    assert writer.keys <= pair.keys(B)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_losing_the_standby_stops_writes_only_for_a_moment(
    raised: Raise, how: signal.Signals
) -> None:
    """Commits wait until Patroni drops the requirement; a standby that returns is synchronous."""
    pair = raised()
    with Writer(pair) as writer:
        writer.wait_for_more(10, 15)
        pair.signal(B, how)
        writer.wait_for_more(20, 15)
        print({"how": how.name, "gap_s": round(writer.longest_gap_s(), 1)})
        assert writer.longest_gap_s() < 12
        if how == signal.SIGKILL:
            pair.kill(B)
            pair.start(B)
        else:
            pair.signal(B, signal.SIGCONT)
        until("synchronous again", 40, pair.synchronous)
    assert pair.is_primary(A)
    # Acknowledged means that the standby has it on disk; it shows it when it has replayed it.
    until("every row on the standby", 10, lambda: writer.keys <= pair.keys(B))


@pytest.mark.campaign
@VOTES
def test_a_room_cut_off_loses_its_primary_to_the_other_room(raised: Raise, votes: str) -> None:
    """Cut every link of room A: A's primary steps down, B takes over; healed, A follows B."""
    pair = raised(proxied=True, votes=votes)
    with Writer(pair, A) as on_a, Writer(pair, B) as on_b:
        on_a.wait_for_more(10, 15)
        cut = time.monotonic()
        pair.cut(A)
        until("promotion of B", FAILOVER_S + 5, lambda: pair.is_primary(B))
        print({"promoted_s": round(time.monotonic() - cut, 1)})
        assert not pair.is_primary(A)
        on_b.wait_for_more(5, 15)
        pair.heal()
        until("A following B", 40, lambda: pair.synchronous(B, A))
    first_on_b = on_b.acknowledged[0][0]
    assert not [at for at, _ in on_a.acknowledged if at > first_on_b]
    assert on_a.keys | on_b.keys <= pair.keys(B)


@pytest.mark.campaign  # a minute; experiment `rooms-cut` shows it on the whole hospital
@VOTES
def test_a_cut_between_the_two_rooms_leaves_one_primary(raised: Raise, votes: str) -> None:
    """A and B do not see each other, both see the witness: one goes on, nothing is lost."""
    pair = raised(proxied=True, votes=votes)
    with Writer(pair, A) as on_a, Writer(pair, B) as on_b:
        on_a.wait_for_more(10, 15)
        cut = time.monotonic()
        pair.cut(A, B)
        time.sleep(CUT_S)
        healed = time.monotonic()
        pair.heal()
        until("a synchronous pair", 40, lambda: pair.synchronous(A, B) or pair.synchronous(B, A))
    print(
        {
            "gap_s": round(on_a.longest_gap_s(), 1),
            "b_wrote": len(on_b.acknowledged),
            "synchronous_s": round(time.monotonic() - healed, 1),
            "acks": len([1 for at, _ in on_a.acknowledged if cut + 10 < at < healed]),
        }
    )
    primary = A if pair.is_primary(A) else B
    assert on_a.keys | on_b.keys <= pair.keys(primary)
    if on_b.acknowledged:  # B took over: A may not have acknowledged anything since
        first_on_b = on_b.acknowledged[0][0]
        assert not [at for at, _ in on_a.acknowledged if at > first_on_b]


@VOTES
def test_two_rooms_without_the_witness_go_on(raised: Raise, votes: str) -> None:
    """The witness is a vote, not a dependency: without it the pair keeps writing."""
    pair = raised(votes=votes)
    pair.kill(WITNESS)
    with Writer(pair) as writer:
        time.sleep(8)  # longer than any raft timer: an election would be over by now
        assert pair.is_primary(A)
        assert writer.longest_gap_s() < 6
