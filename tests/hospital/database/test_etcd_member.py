"""Three real etcd members on one machine: only their links connect them, and they come back."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import signal
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from stacks.hospital import etcd_client, settings
from stacks.hospital.etcd_member import EtcdMember
from stacks.hospital.log import Log

from .pair import PORTS, WITNESS, A, B, Forwarder, Pair, until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("etcd") is None, reason="etcd is not installed"),
    pytest.mark.timeout(120),
]
AGREED_S = 20.0  # the start of three, and an election
NOTICED_S = 10.0


class Votes:
    """The three members, in this process, each with its own etcd."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.members: dict[str, EtcdMember] = {}
        for name in PORTS:
            (pair.folder / name).mkdir(parents=True)
            own = settings.read(pair.environment(name))
            rather = () if name == WITNESS else (WITNESS,)
            self.members[name] = EtcdMember(own, Log(name), rather)

    def agree(self, *names: str) -> bool:
        """Whether each of these knows a leader, and a leader is among them."""
        asked = [self.members[name].client for name in names]
        return all(map(etcd_client.has_leader, asked)) and any(map(etcd_client.leads, asked))

    def between(self, one: str, other: str) -> list[Forwarder]:
        return [self.pair.links[one, other, "raft"], self.pair.links[other, one, "raft"]]

    def around(self, name: str) -> list[Forwarder]:
        return [link for other in PORTS if other != name for link in self.between(name, other)]

    def processes(self, name: str) -> list[int]:
        return self.pair.processes(name)

    def put(self, name: str, key: str) -> bool:
        body = {"key": _text(key), "value": _text("kept")}
        try:
            return "header" in self._ask(name, "/v3/kv/put", body)
        except OSError:
            return False

    def has(self, name: str, key: str) -> bool:
        try:
            return "kvs" in self._ask(name, "/v3/kv/range", {"key": _text(key)})
        except OSError:
            return False

    def _ask(self, name: str, path: str, body: dict[str, str]) -> dict[str, object]:
        url = f"http://{self.members[name].client}{path}"
        asked = urllib.request.Request(url, json.dumps(body).encode())
        with urllib.request.urlopen(asked, timeout=2) as answer:
            found: dict[str, object] = json.loads(answer.read())
            return found


def _text(plain: str) -> str:
    return base64.b64encode(plain.encode()).decode()


@pytest.fixture
def votes(tmp_path: Path) -> Iterator[Votes]:
    pair = Pair(tmp_path / "p", tmp_path, proxied=True, votes="etcd")
    made = Votes(pair)
    with contextlib.ExitStack() as running:
        for member in made.members.values():
            running.enter_context(member)
        until("three members agree", AGREED_S, lambda: made.agree(*PORTS))
        yield made
    assert not [pid for name in PORTS for pid in pair.processes(name)]
    pair.down()


def test_members_talk_over_the_links_and_the_witness_leads(votes: Votes) -> None:
    """No etcd is connected with another's address, and no database node keeps the lead."""
    until("the witness leads", NOTICED_S, lambda: votes.agree(*PORTS) and _led_by(votes, WITNESS))
    taken = {
        number: service for (service, port), (_, number) in votes.pair.addresses.items()
        if port == "raft"
    }  # fmt: skip
    links = {link.address[1] for link in votes.pair.links.values()}
    around = [link for name in PORTS for link in votes.around(name)]
    until("every link is in use", NOTICED_S, lambda: all(link.in_use for link in around))
    seen = 0
    for name in PORTS:
        for _, port in votes.pair.callees(name):
            seen += 1
            assert taken.get(port, name) == name
            assert port not in links  # only the relay dials those
    assert seen > 6


def _led_by(votes: Votes, name: str) -> bool:
    return etcd_client.leads(votes.members[name].client)


@pytest.mark.parametrize("how", [Forwarder.cut, Forwarder.hush])
def test_a_member_whose_links_are_cut_has_no_leader(
    votes: Votes, how: Callable[[Forwarder], None]
) -> None:
    """Closed or silent, nothing gets around the links; the others go on; healed, all agree."""
    for link in votes.around(A):
        how(link)
    until("A alone", NOTICED_S, lambda: not _knows(votes, A))
    until("B and the witness go on", NOTICED_S, lambda: votes.put(B, "while-cut"))
    assert not votes.put(A, "from-alone")
    before = [link.carried_bytes for link in votes.around(A)]
    assert not _knows(votes, A)
    assert [link.carried_bytes for link in votes.around(A)] == before
    votes.pair.heal()
    until("all agree again", NOTICED_S, lambda: votes.agree(*PORTS))
    until("A has caught up", NOTICED_S, lambda: votes.has(A, "while-cut"))


def _knows(votes: Votes, name: str) -> bool:
    return etcd_client.has_leader(votes.members[name].client)


def test_a_cut_between_two_members_leaves_the_third_as_their_leader(votes: Votes) -> None:
    """A and B do not hear each other, both hear the witness: all three go on, led by it."""
    until("the witness leads", NOTICED_S, lambda: _led_by(votes, WITNESS))
    for link in votes.between(A, B):
        link.cut()
    _put(votes, A, "from-a")
    until("B has it", NOTICED_S, lambda: votes.has(B, "from-a"))
    assert not any(link.in_use for link in votes.between(A, B))
    assert _led_by(votes, WITNESS)


def test_dead_members_are_started_again_with_what_they_knew(votes: Votes) -> None:
    """SIGKILL of one, then of all three at the same instant: every acknowledged key is there."""
    _put(votes, A, "first")
    for names in ((B,), tuple(PORTS)):
        dead = [pid for name in names for pid in votes.processes(name)]
        for pid in dead:
            os.kill(pid, signal.SIGKILL)
        until("they agree again", NOTICED_S, lambda: votes.agree(*PORTS))
        assert not {pid for name in PORTS for pid in votes.processes(name)} & set(dead)
        until("B knows the first", NOTICED_S, lambda: votes.has(B, "first"))
        _put(votes, B, "second")
    until("A knows the second", NOTICED_S, lambda: votes.has(A, "second"))


def _put(votes: Votes, name: str, key: str) -> None:
    """Again while the lead goes over to the witness: then a question may get no answer."""
    until(f"{name} writes", NOTICED_S, lambda: votes.put(name, key))


def test_etcd_does_not_outlive_its_service(tmp_path: Path) -> None:
    """SIGKILL of the launcher alone ends its etcd; SIGTERM ends both, with status 0."""
    pair = Pair(tmp_path / "p", tmp_path, votes="etcd")
    try:
        for end in (signal.SIGKILL, signal.SIGTERM):
            pair.start(WITNESS)
            until("launcher and etcd", AGREED_S, lambda: len(_etcds(pair)) == 1)
            assert pair.rest(WITNESS, "/health")[0] in (0, 503)  # one vote of three is no majority
            pair.started[WITNESS].send_signal(end)
            status = pair.started[WITNESS].wait(NOTICED_S)
            assert status == (0 if end == signal.SIGTERM else -end)
            until("nothing is left", NOTICED_S, lambda: not pair.processes(WITNESS))
    finally:
        pair.down()


def _etcds(pair: Pair) -> list[int]:
    found = []
    for pid in pair.processes(WITNESS):
        with suppress(psutil.NoSuchProcess):
            found += [pid] if psutil.Process(pid).name() == "etcd" else []
    return found
