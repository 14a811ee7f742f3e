"""The engine as the runtime meets it: each way of not having one is one line that says what to do.

Against an engine that answers as wanted, through the real SDK.
"""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chaos.runtime import RuntimeFailure, engine
from chaos.runtime.docker import DockerRuntime
from tests.fake_engine import Answer, FakeEngine
from tests.light_stack import in_containers, light_stack

pytest.importorskip("docker")
VERSION = {"ApiVersion": "1.41", "Version": "20.10.24", "MinAPIVersion": "1.12"}


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeEngine]:
    """An engine of that version that has nothing; DOCKER_HOST names it."""
    made = FakeEngine(tmp_path, lambda *_: (404, {"message": "no such thing"}))
    monkeypatch.setenv("DOCKER_HOST", f"unix://{made.path}")
    yield made
    made.stop()


def refusing(status: int, words: str) -> Callable[[str, str, object], Answer]:
    """Says its version, and that to everything else."""

    def answer(_method: str, path: str, _body: object) -> Answer:
        return (200, VERSION) if path.endswith("/version") else (status, {"message": words})

    return answer


def test_an_engine_elsewhere_is_refused_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """Containers are reached by their addresses, which another machine keeps to itself."""
    for host in ("tcp://10.0.0.5:2375", "ssh://root@ward"):
        monkeypatch.setenv("DOCKER_HOST", host)
        assert host in engine.missing()
        assert "unset DOCKER_HOST" in engine.missing()
        with pytest.raises(RuntimeFailure, match="needs the engine of this machine"):
            DockerRuntime(in_containers(light_stack()), Path("run"))


def test_no_socket_no_engine(fake: FakeEngine) -> None:
    """Nothing at the path, then a plain file: what is missing, and how to get it."""
    assert f"no Docker engine listens at {fake.path}" in engine.missing()
    assert "install and start one" in engine.missing()
    Path(fake.path).write_text("plain")
    assert "is no socket" in engine.missing()


def test_a_socket_that_nobody_serves_is_told(fake: FakeEngine) -> None:
    """What an engine leaves that was killed."""
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(fake.path)
    assert "Connection refused" in engine.missing()
    assert "start dockerd" in engine.missing()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody without permission")
@pytest.mark.parametrize("folder_mode", [0o755, 0o700])
def test_a_socket_that_is_not_ours_says_how_to_be_let_in(
    fake: FakeEngine, folder_mode: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked by a user without permission, for the socket or for the folder that it lies in."""
    folder = Path(tempfile.mkdtemp(prefix="engine-", dir="/tmp"))
    fake.path = str(folder / "s")
    monkeypatch.setenv("DOCKER_HOST", f"unix://{fake.path}")
    fake.start()
    os.chmod(fake.path, 0o600)
    folder.chmod(folder_mode)
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        os.setuid(65534)
        os.write(writing, engine.missing().encode())
        os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    said = os.read(reading, 1000).decode()
    os.close(reading)
    fake.stop()
    folder.rmdir()
    assert f"you may not use the Docker engine's socket {fake.path}" in said
    assert "usermod -aG docker" in said


def test_an_engine_that_answers_nonsense_is_a_failure_in_words(fake: FakeEngine) -> None:
    """Whatever the SDK raises for it."""
    for answer in ((500, {"message": "out of order"}), (200, b"<html>"), (200, {"No": "version"})):
        fake.answer = lambda *_, answer=answer: answer  # type: ignore[misc]
        fake.start()
        assert "cannot" in engine.missing()
        fake.stop()


@pytest.mark.parametrize(
    ("status", "words", "kind", "told"),
    [
        (409, 'The container name "/x" is already in use by container "1"', engine.NameTaken, "/x"),
        (409, "network with name x already exists", engine.NameTaken, "is not of this run"),
        (403, "Pool overlaps with other one on this address space", engine.SubnetTaken, "overlaps"),
        (500, "mkdir /var/lib/x: no space left on device", RuntimeFailure, "free some space"),
        (404, "No such image: x:1", RuntimeFailure, "make image"),
        (409, "You cannot remove a running container", RuntimeFailure, "running container"),
    ],
)
def test_what_an_engine_refuses_is_told_in_its_words_and_ours(
    fake: FakeEngine, status: int, words: str, kind: type[Exception], told: str
) -> None:
    """Only a taken subnet is tried elsewhere, so the kinds must not be mixed up."""
    fake.answer = refusing(status, words)
    fake.start()
    api = engine.connect()
    with pytest.raises(RuntimeFailure, match="cannot try it") as caught, engine.told("try it"):
        api.create_container("x:1", "true")
    assert type(caught.value) is kind
    assert words in str(caught.value)
    assert told in str(caught.value)


def test_a_subnet_that_is_taken_is_tried_elsewhere_and_a_name_is_not(
    fake: FakeEngine, tmp_path: Path
) -> None:
    """The first costs another round with other subnets; the second ends it at once, unharmed."""
    tried: list[str] = []
    clashes = ["Pool overlaps with other one on this address space"] * 2

    def answer(_method: str, path: str, body: object) -> Answer:
        if path.endswith("/version"):
            return 200, VERSION
        if path.endswith("/networks/create"):
            assert isinstance(body, dict)
            tried.append(body["IPAM"]["Config"][0]["Subnet"])
            if clashes:
                return 403, {"message": clashes.pop()}
            return 201, {"Id": f"n{len(tried)}"}
        if "/networks/n" in path:
            return 200, {"Id": path.rpartition("/")[2], "Name": "made"}
        return 200, {"Volumes": None} if "/volumes" in path else []

    fake.answer = answer
    fake.start()
    runtime = DockerRuntime(in_containers(light_stack()), tmp_path)
    runtime._make_networks()
    count = len(runtime._plan.networks)
    assert {net.subnet for net in runtime._plan.networks.values()} == set(tried[-count:])
    tried.clear()
    clashes[:] = ["network with name x already exists"]
    fake.answer = lambda method, path, body: (
        (409, {"message": "network with name x already exists"})
        if path.endswith("/networks/create")
        else answer(method, path, body)
    )
    with pytest.raises(engine.NameTaken):
        runtime._make_networks()


def test_a_restarted_engine_is_another_process(fake: FakeEngine, tmp_path: Path) -> None:
    """The same while it runs; '' while nobody listens."""
    fake.start()
    assert engine.process(fake.path) == engine.process(fake.path) != ""
    assert engine.process(fake.path).startswith(f"{os.getpid()}/")
    fake.stop()
    assert engine.process(fake.path) == ""
    assert not engine.shares_processes(str(tmp_path / "nowhere"))
