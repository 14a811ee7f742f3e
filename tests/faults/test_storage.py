"""What every fault of storage must do, on services that write all the while, and in memory."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos import reaper
from chaos.faults import BitRot, Fault, LostArray, LostWrites, SlowStorage, TargetError
from chaos.faults.fault import Prepared
from chaos.reaper.mounts import mounts_below
from chaos.runtime import RuntimeFailure, engine
from chaos.runtime.docker import DockerRuntime
from chaos.runtime.fake import FakeRuntime
from chaos.runtime.process import ProcessRuntime
from chaos.storage.mounting import only_root
from tests.conditions import seen, until
from tests.faults.stories import STORED, injected, quiet
from tests.light_stack import in_containers, light_stack, on_disks
from tests.storage.arrays import needs_fuse

Living = ProcessRuntime | DockerRuntime
BOUND = pytest.param("docker", marks=[pytest.mark.docker, pytest.mark.timeout(900)])
every_fault = pytest.mark.parametrize("fault", STORED.values(), ids=STORED.keys())


class Writer:
    """Puts something into the store all the while; what is acknowledged is remembered."""

    def __init__(self, runtime: Living) -> None:
        self._address = runtime.address("store", "http")
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.kept = 0
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join(5)

    def _run(self) -> None:
        number = 0
        while not self._over.wait(0.01):
            number += 1
            connection = http.client.HTTPConnection(self._address.host, self._address.port, 1)
            try:
                connection.request("PUT", "/put", f"{number} ".encode() * 50)
                self.kept += connection.getresponse().status == 201
            except (OSError, http.client.HTTPException):
                pass
            finally:
                connection.close()


@pytest.fixture(scope="module", params=["process", BOUND])
def living(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Living]:
    """A light stack of which disk-b can fail, and somebody who writes there."""
    stack, folder = on_disks(light_stack()), tmp_path_factory.mktemp("run")
    runtime: Living
    if request.param == "process":
        runtime = ProcessRuntime(stack, folder)
    elif why := engine.missing() or only_root():
        pytest.skip(why)
    else:
        runtime = DockerRuntime(in_containers(stack), folder)
    runtime.storage.prepare(("disk-b",))
    try:
        runtime.up(quiet)
        writer = Writer(runtime)
        yield runtime
        writer.stop()
    finally:
        runtime.down()
        runtime.forget_remains()
    assert not mounts_below(str(runtime.folder))
    assert not runtime.folder.exists()


@pytest.fixture
def fake() -> FakeRuntime:
    runtime = FakeRuntime(on_disks(light_stack()))
    runtime.storage.prepare(("disk-b",))
    runtime.up(quiet)
    return runtime


def data_of(runtime: Living, service: str) -> Path:
    """The service's own file, on the mounted array."""
    folder = runtime.storage.folder_of(runtime.stack.service(service))
    assert folder is not None
    return folder / "data"


def healed(runtime: Living) -> bool:
    """Everything is ready, once what rotted is replaced: that the fault's end does not repair."""
    with contextlib.suppress(OSError):
        os.truncate(data_of(runtime, "store"), 0)
    return {runtime.health(s.name).status for s in runtime.stack.services} == {"ready"}


@pytest.mark.storage
@needs_fuse
def test_only_what_is_prepared_is_mounted(living: Living) -> None:
    """disk-a is a plain folder, disk-b a mount; both hold their services' data."""
    assert [m.rpartition("/")[2] for m in mounts_below(str(living.folder))] == ["disk-b"]
    assert data_of(living, "store").parent.is_dir()
    assert until((living.folder / ".arrays" / "disk-b" / "store" / "data").exists)
    with pytest.raises(RuntimeFailure, match="was not raised so that it can fail"):
        living.storage.faults("disk-a")


@pytest.mark.storage
@needs_fuse
@every_fault
def test_on_real_services_it_is_seen_and_seen_gone(fault: Fault, living: Living) -> None:
    """Before: not seen. Injected: seen. Ended: seen gone, and everything is ready again."""
    assert until(lambda: healed(living), 20)
    pinned = fault.pinned(living)
    assert not pinned.seen(living).ok
    with injected(pinned, living) as pinned:
        look, _ = seen(lambda: pinned.seen(living))
        assert look.ok, look.text
        assert not pinned.gone(living).ok
    look, _ = seen(lambda: pinned.gone(living), 20)
    assert look.ok, look.text
    assert not pinned.seen(living).ok
    assert until(lambda: healed(living), 20)


@pytest.mark.storage
@needs_fuse
@every_fault
def test_its_undo_on_disk_is_enough(fault: Fault, living: Living) -> None:
    """Another process that plays only the steps heals it as well, and services on a hung or lost
    array can be killed meanwhile."""
    assert until(lambda: healed(living), 20)
    pinned = fault.pinned(living)
    steps = json.loads(json.dumps([dict(step) for step in pinned.undo(living)]))
    pinned.begin(living, 30.0)
    look, _ = seen(lambda: pinned.seen(living))
    assert look.ok, look.text
    if pinned.kind in ("hung-storage", "lost-array"):
        living.kill("store")
        assert living.state("store") == "gone"
    for step in steps:
        reaper.play_step(step)
    look, _ = seen(lambda: pinned.gone(living), 20)
    assert look.ok, look.text
    assert until(lambda: healed(living), 20)


@pytest.mark.storage
@needs_fuse
def test_it_ends_with_its_lease_by_itself(living: Living) -> None:
    """Nobody undoes it: the array drops the fault when the lease is over."""
    assert until(lambda: healed(living), 20)
    fault = LostArray("disk-b").pinned(living)
    fault.begin(living, 3.0)
    assert fault.seen(living).ok
    assert until(lambda: not living.storage.faults("disk-b"), 4.0)
    living.play(fault.undo(living))
    assert seen(lambda: fault.gone(living), 20)[0].ok


@pytest.mark.storage
@needs_fuse
def test_what_stood_on_a_lost_array_is_started_anew_once(living: Living) -> None:
    """The instances that met the errors are replaced; a second undo leaves the new ones."""
    assert until(lambda: healed(living), 20)
    fault = LostArray("disk-b").pinned(living)
    before = {name: living.identity(name) for name in ("store", "mirror", "web")}
    fault.begin(living, 30)
    steps = fault.undo(living)
    living.play(steps)
    after = {name: living.identity(name) for name in before}
    assert [name for name in before if before[name] == after[name]] == ["web"]
    living.play(steps)
    assert {name: living.identity(name) for name in before} == after
    assert seen(lambda: fault.gone(living), 20)[0].ok


@pytest.mark.storage
@needs_fuse
def test_a_server_that_dies_is_noticed(tmp_path_factory: pytest.TempPathFactory) -> None:
    """An array whose server was killed is lost, in words; taking the stack down leaves nothing."""
    runtime = ProcessRuntime(on_disks(light_stack()), tmp_path_factory.mktemp("run"))
    runtime.storage.prepare(("disk-b", "disk-a"))
    try:
        runtime.up(quiet)
        assert runtime.lost() == ""
        pid, start = runtime.storage._servers["disk-b"]
        reaper.send(pid, start, 9)
        assert until(lambda: "disk-b" in runtime.lost())
    finally:
        runtime.down()
        runtime.forget_remains()
    assert not mounts_below(str(runtime.folder))
    assert not runtime.folder.exists()


@every_fault
def test_an_order_in_vain_is_not_seen(fault: Fault, fake: FakeRuntime) -> None:
    """A runtime that does nothing when told: the effect probe says so."""
    fake.deaf = {"arm_storage", "kill"}
    pinned = fault.pinned(fake)
    if isinstance(fault, LostWrites):
        with pytest.raises(RuntimeFailure):
            pinned.begin(fake, 30)
    else:
        pinned.begin(fake, 30)
    assert not pinned.seen(fake).ok
    pinned.end(fake)


@every_fault
def test_an_undo_in_vain_is_not_gone(fault: Fault, fake: FakeRuntime) -> None:
    """A runtime that undoes nothing when told: the heal is not seen."""
    pinned = fault.pinned(fake)
    pinned.begin(fake, 30)
    look = pinned.seen(fake)
    assert look.ok, look.text
    fake.deaf = {"clear_storage", "start"}
    pinned.end(fake)
    assert not pinned.gone(fake).ok
    fake.deaf = set()
    pinned.end(fake)
    pinned.end(fake)
    assert pinned.gone(fake).ok


@every_fault
def test_it_is_planned_on_a_stack_that_is_not_raised(fault: Fault) -> None:
    """Targets, story and undo are known in words before anything runs."""
    fake = FakeRuntime(on_disks(light_stack()))
    assert isinstance(fault, Prepared)
    fault.prepare(fake)
    pinned = fault.pinned(fake)
    assert set(pinned.targets(fake.stack)) <= {"store", "mirror"}
    assert pinned.story
    assert all(reaper.describe(dict(step)) for step in pinned.undo(fake))
    assert fake.calls == []
    assert fake.storage.prepared == ("disk-b",)


@every_fault
def test_nothing_begins_without_being_pinned(fault: Fault) -> None:
    """A rehearsed fault changes nothing when begun by mistake, and nothing counts as seen."""
    fake = FakeRuntime(on_disks(light_stack()))
    with pytest.raises(TargetError, match="pinned"):
        fault.begin(fake, 30)
    assert not fault.seen(fake).ok
    assert not fault.gone(fake).ok
    assert fake.calls == []


def test_a_quiet_volume_is_not_taken_for_a_hit_one(fake: FakeRuntime) -> None:
    """A fault that waits for a service's own operation is unseen while there is none."""
    fake.storage.still.add("disk-b")
    for name in ("failing-third-sync", "torn", "slow-some-files"):
        pinned = STORED[name].pinned(fake)
        pinned.begin(fake, 30)
        assert not pinned.seen(fake).ok
        pinned.end(fake)


def test_wrong_targets_and_terms_are_refused() -> None:
    """Unknown, unstored, doubled: TargetError; terms that order nothing: ValueError."""
    fake = FakeRuntime(on_disks(light_stack()))
    for targets in (("nowhere",), ("echo",), (), ("disk-b", "disk-b")):
        with pytest.raises(TargetError):
            LostArray(*targets).targets(fake.stack)
    with pytest.raises(ValueError, match="latency_ms"):
        SlowStorage("disk-b")
    with pytest.raises(ValueError, match="no operation need be late"):
        SlowStorage("disk-b", latency_ms=5, jitter_ms=5)
    with pytest.raises(ValueError, match="reads and writes only"):
        SlowStorage("disk-b", kb_per_s=100, operations=("fsync",))
    with pytest.raises(ValueError, match="flips"):
        BitRot("disk-b", flips=0)


def test_a_runtime_without_arrays_says_so() -> None:
    """The rehearsal of a storage experiment on it ends there, in words."""
    fake = FakeRuntime(on_disks(light_stack()), abilities=())
    fault = LostArray("disk-b")
    for act in (lambda: fault.prepare(fake), lambda: fault.pinned(fake).undo(fake)):
        with pytest.raises(RuntimeFailure, match="needs FUSE"):
            act()
