"""What an etcd member is told, and the relay that keeps its calls on the links."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from stacks.hospital import database_place, etcd, etcd_member, settings
from stacks.hospital.etcd_links import Relay
from stacks.hospital.patroni_config import Defects, patroni_config
from stacks.hospital.settings import Address
from tests.ports import free_port

from .pair import PORTS, A, B, Pair

NAMES = tuple(PORTS)
IDENTITY = Address("192.0.2.7", 2380)
WAIT_S = 5.0


def read(pair: Pair, service: str, **changed: str) -> settings.Settings:
    (pair.folder / service).mkdir(parents=True, exist_ok=True)
    return settings.read({**pair.environment(service), **changed})


def option(command: tuple[str, ...], name: str) -> str:
    (found,) = (word for word in command if word.startswith(f"--{name}="))
    return found.partition("=")[2]


def test_members_agree_on_names_that_nobody_can_dial(tmp_path: Path) -> None:
    """The list of members is equal on all three, in any run, and holds no address of a service."""
    lists = set()
    for run in ("one", "two"):
        pair = Pair(tmp_path / run, tmp_path)
        for name in NAMES:
            own = etcd.member(read(pair, name))
            told = etcd.command(Path("/usr/bin/etcd"), own)
            lists.add(option(told, "initial-cluster"))
            assert option(told, "initial-advertise-peer-urls") in option(told, "initial-cluster")
            assert option(told, "listen-peer-urls") == f"http://{own.listen}"
    (members,) = lists
    assert members.startswith("ehr-db-a=http://192.0.2.")
    assert "127.0.0.1" not in members


def test_each_peer_is_called_by_its_link_and_clients_only_by_loopback(tmp_path: Path) -> None:
    """The relay is told one link per peer; Patroni is told its own member and no other."""
    pair = Pair(tmp_path / "p", tmp_path, proxied=True)
    try:
        found = read(pair, A)
        own = etcd.member(found)
        called = {str(link) for link in own.links.values()}
        assert called == {pair.link(A, other, "raft") for other in NAMES if other != A}
        assert own.identities[A] not in own.links
        told = etcd.command(Path("/usr/bin/etcd"), own)
        assert option(told, "listen-client-urls") == f"http://127.1.0.1:{own.listen.port}"
        votes = {"etcd3": etcd.patroni_section(own.client)}
        place = database_place.node(found, Path("/opt/pg/bin"))
        made = patroni_config(place, Defects(), votes)
        assert made["etcd3"] == {"proxy": f"http://127.1.0.1:{own.listen.port}"}
        assert "raft" not in made
        assert database_place.voters(place) == {"ehr-db-witness"}
    finally:
        pair.down()


def test_the_surroundings_cannot_send_etcd_around_its_relay() -> None:
    """Proxies and ETCD_ variables of the caller are dropped; everything else stays."""
    ambient = {
        "no_proxy": "*", "NO_PROXY": "*", "http_proxy": "http://10.0.0.1:3128",
        "ETCD_LISTEN_CLIENT_URLS": "http://0.0.0.0:2379", "PATH": "/usr/bin", "HOSPITAL_X": "1",
    }  # fmt: skip
    assert etcd.environment(ambient, Address("127.0.0.1", 99)) == {
        "PATH": "/usr/bin", "HOSPITAL_X": "1", "HTTP_PROXY": "socks5://127.0.0.1:99",
    }  # fmt: skip


def test_an_unknown_store_of_votes_is_refused(tmp_path: Path) -> None:
    """raft is the default; anything but raft and etcd is one line that names the variable."""
    pair = Pair(tmp_path / "p", tmp_path)
    assert database_place.dcs(read(pair, B, HOSPITAL_DCS="")) == "raft"
    assert database_place.dcs(read(pair, B, HOSPITAL_DCS="etcd")) == "etcd"
    with pytest.raises(settings.SettingsError, match="HOSPITAL_DCS='consul'"):
        database_place.dcs(read(pair, B, HOSPITAL_DCS="consul"))


def test_a_machine_without_etcd_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """No traceback of a program that is not there."""
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(etcd_member.EtcdMissing, match="etcd-server"):
        etcd_member.binary()


@pytest.fixture
def echo() -> Iterator[socket.socket]:
    """A peer that sends everything back."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                end, _ = listener.accept()
            except OSError:
                return
            with end:
                while data := end.recv(4096):
                    end.sendall(data)

    threading.Thread(target=serve, daemon=True).start()
    yield listener
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


def ask(relay: Relay, place: Address, command: int = 1) -> tuple[int, socket.socket]:
    """The relay's status for a wish to be connected, and the connection."""
    near = socket.create_connection(relay.address, timeout=WAIT_S)
    near.sendall(b"\x05\x01\x00")
    assert near.recv(2) == b"\x05\x00"
    near.sendall(
        bytes((5, command, 0, 1)) + socket.inet_aton(place.host) + struct.pack("!H", place.port)
    )
    answer = near.recv(10, socket.MSG_WAITALL)
    assert (len(answer), answer[0]) == (10, 5)
    return answer[1], near


def test_the_relay_carries_bytes_to_the_link_of_an_identity(echo: socket.socket) -> None:
    """A tunnel is plain TCP both ways, and ends at both ends when one of them ends."""
    relay = Relay({IDENTITY: Address(*echo.getsockname())})
    status, near = ask(relay, IDENTITY)
    assert status == 0
    big = b"votes" * 100_000
    sender = threading.Thread(target=near.sendall, args=(big,))
    sender.start()
    back = b""
    while len(back) < len(big):
        back += near.recv(65_536)
    sender.join(WAIT_S)
    assert back == big
    near.shutdown(socket.SHUT_WR)
    assert near.recv(1) == b""
    near.close()
    relay.close()


def test_the_relay_refuses_whom_it_does_not_know(echo: socket.socket) -> None:
    """A real address, even one that listens, is not allowed: nothing gets around the links."""
    there = Address(*echo.getsockname())
    relay = Relay({IDENTITY: there})
    assert ask(relay, there)[0] == 2
    assert ask(relay, Address("192.0.2.8", 2380))[0] == 2
    assert ask(relay, IDENTITY, command=2)[0] == 7  # BIND
    closed = Address("127.0.0.1", free_port())
    assert ask(Relay({IDENTITY: closed}), IDENTITY)[0] == 5


@pytest.mark.parametrize("said", [b"GET / HTTP/1.1\r\n\r\n", b"\x05\x01\x02", b"\x04\x01", b""])
def test_the_relay_hangs_up_on_anything_else(said: bytes) -> None:
    """Another protocol, a wish for a password or silence end the connection and nothing else."""
    relay = Relay({})
    with socket.create_connection(relay.address, timeout=WAIT_S) as near:
        near.sendall(said)
        if not said:
            near.shutdown(socket.SHUT_WR)
        try:
            assert near.recv(16) == b""
        except ConnectionResetError:
            pass
    assert ask(relay, IDENTITY)[0] == 2
