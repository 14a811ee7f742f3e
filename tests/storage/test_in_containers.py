"""Arrays under containers: bound into them, still there after their end, never in the engine's way.

What arrays and faults do there as anywhere else, tests/contract and tests/faults show.
"""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos import reaper
from chaos.reaper.mounts import mounts_below
from chaos.runtime import NotHere, NotReady, engine
from chaos.runtime.arrays import StorageFault
from chaos.runtime.choice import no_arrays
from chaos.runtime.docker import DockerRuntime
from chaos.runtime.docker_arrays import Containers
from chaos.storage import mounting
from tests.conditions import until
from tests.light_stack import in_containers, light_stack, on_disks
from tests.storage.arrays import needs_fuse

pytestmark = [pytest.mark.storage, pytest.mark.docker, pytest.mark.timeout(300), needs_fuse]
START_S = 5.0  # the engine starts a container within that, whatever its array does


@pytest.fixture(scope="module")
def living(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerRuntime]:
    """A light stack of which disk-b can fail, raised by somebody whose files nobody else reads."""
    if why := engine.missing() or mounting.only_root():
        pytest.skip(why)
    runtime = DockerRuntime(in_containers(on_disks(light_stack())), tmp_path_factory.mktemp("run"))
    runtime.storage.prepare(("disk-b",))
    before = os.umask(0o077)
    try:
        runtime.up(lambda _service, _state: None)
        yield runtime
    finally:
        os.umask(before)
        runtime.down()
    assert mounts_below(str(runtime.folder)) == []
    assert not runtime.folder.exists()


def inspected(runtime: DockerRuntime, service: str) -> dict[str, object]:
    """What the engine says of the service's container."""
    name = runtime._container(service)
    done = subprocess.run(["docker", "inspect", name], capture_output=True, text=True, check=True)
    found: dict[str, object] = json.loads(done.stdout)[0]
    return found


def put(runtime: DockerRuntime, service: str, text: str) -> bool:
    """Whether the service says that it wrote and synced it."""
    url = f"http://{runtime.address(service, 'http')}/put"
    request = urllib.request.Request(url, text.encode(), method="PUT")
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return bool(answer.status == 201)
    except (OSError, http.client.HTTPException):
        return False


def got(runtime: DockerRuntime, service: str, what: str = "get") -> str:
    """What the service reads."""
    url = f"http://{runtime.address(service, 'http')}/{what}"
    with urllib.request.urlopen(url, timeout=5) as answer:
        return str(answer.read().decode())


def test_only_what_is_prepared_is_bound_and_belongs_to_the_container(living: DockerRuntime) -> None:
    """disk-b comes from this machine, disk-a is a volume; what a service writes is its own."""
    kinds = {
        name: [m["Type"] for m in inspected(living, name)["Mounts"]]  # type: ignore[attr-defined]
        for name in ("store", "mirror", "web", "echo")
    }
    assert kinds == {"store": ["bind"], "mirror": ["bind"], "web": ["volume"], "echo": ["volume"]}
    assert put(living, "store", "kept ")
    behind = living.folder / ".arrays" / "disk-b" / "store" / "data"
    assert "kept" in behind.read_text()
    assert os.stat(behind).st_uid == os.stat(behind.parent).st_uid == 1000
    environ = json.loads(got(living, "store", "environ"))
    assert environ["DATA_DIR"] == "/arrays/disk-b/store"


def test_a_container_that_was_killed_finds_its_array_again(living: DockerRuntime) -> None:
    """The same data, and faults that are felt: not the folder under the mount."""
    assert put(living, "store", "before ")
    living.kill("store")
    living.start("store")
    assert until(lambda: living.health("store").status == "ready", 10)
    assert "before" in got(living, "store")
    living.storage.arm("disk-b", StorageFault("f", "read_only", {}), 30)
    try:
        assert not put(living, "store", "lost ")
        assert living.storage.record("disk-b", "f").acted  # type: ignore[union-attr]
    finally:
        living.play(living.storage.undo("disk-b", ("f",)))
    assert put(living, "store", "after ")


@pytest.mark.parametrize("kind", ["hung", "gone"])
def test_the_engine_is_not_held_up_by_an_array(living: DockerRuntime, kind: str) -> None:
    """A service on a hung or lost array can be killed, started, and looked at in time; when the
    array is back, so is the service."""
    living.storage.arm("disk-b", StorageFault("f", kind, {}), 60)
    try:
        began = time.monotonic()
        living.kill("store")
        living.start("store")
        assert inspected(living, "store")["State"]
        assert time.monotonic() - began < START_S
    finally:
        living.play(living.storage.undo("disk-b", ("f",)))
    living.start("store")  # on a lost array it has ended
    assert until(lambda: living.health("store").status == "ready", 15)


def test_an_instance_is_ended_once(living: DockerRuntime) -> None:
    """The step names it: another one in its place is left alone, as is one that has ended."""
    identity = living.identity("mirror")
    steps = living.storage.undo_by_restart("mirror", identity)
    (step,) = json.loads(json.dumps(steps))
    assert "docker kill" in reaper.describe(step)
    living.pause("mirror")
    assert reaper.play_step(step) == "ended"
    assert living.state("mirror") == "gone"
    assert reaper.play_step(step) == "it does not run"
    living.start("mirror")
    assert until(lambda: living.health("mirror").status == "ready", 10)
    assert reaper.play_step(step) == "another instance runs in its place"
    assert living.identity("mirror") not in ("", identity)


def test_an_array_whose_server_died_is_lost(tmp_path: Path) -> None:
    """The run is told; nothing stays behind though containers still stood on it."""
    if why := engine.missing() or mounting.only_root():
        pytest.skip(why)
    runtime = DockerRuntime(in_containers(on_disks(light_stack())), tmp_path)
    runtime.storage.prepare(("disk-b",))
    try:
        runtime.up(lambda _service, _state: None)
        assert runtime.lost() == ""
        reaper.send(*runtime.storage._servers["disk-b"], 9)
        assert until(lambda: "disk-b" in runtime.lost())
    finally:
        runtime.down()
    assert mounts_below(str(runtime.folder)) == []
    assert not runtime.folder.exists()


def test_an_engine_that_does_not_see_the_mount_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """In words, before a container would work on the bare folder below it."""
    monkeypatch.setattr(engine, "peer", lambda _socket: os.getpid())
    guests = Containers("/nowhere", 1000)
    guests.fail_if_unseen(Path("/proc"))
    with pytest.raises(NotReady, match="mount namespace of its own"):
        guests.fail_if_unseen(Path("/nowhere/at/all"))
    monkeypatch.setattr(engine, "peer", lambda _socket: 0)
    guests.fail_if_unseen(Path("/nowhere/at/all"))  # it cannot be told


def test_without_root_they_are_refused_in_words(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Processes can have arrays then, containers cannot, and nothing is made."""
    if why := engine.missing():
        pytest.skip(why)
    monkeypatch.setattr(mounting.os, "geteuid", lambda: 1000)
    assert "only root" in no_arrays("docker")
    assert "only root" not in no_arrays("process")
    runtime = DockerRuntime(on_disks(light_stack()), tmp_path)
    monkeypatch.setattr("chaos.runtime.mounted.missing", lambda: "")
    with pytest.raises(NotHere, match="only root"):
        runtime.storage.prepare(("disk-b",))
    assert not runtime.folder.exists()
