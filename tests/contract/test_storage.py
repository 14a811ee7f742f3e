"""What arrays must do in memory as on FUSE: a fault cannot tell them apart."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from chaos.runtime import Runtime, RuntimeFailure, engine
from chaos.runtime.arrays import StorageFault
from chaos.runtime.docker import DockerRuntime
from chaos.runtime.fake import FakeRuntime
from chaos.runtime.process import ProcessRuntime
from chaos.stack import TopologyError
from chaos.storage.mounting import only_root
from tests.conditions import until
from tests.light_stack import in_containers, light_stack, on_disks
from tests.storage.arrays import needs_fuse

MOUNTED = pytest.param("process", marks=[pytest.mark.storage, needs_fuse])
BOUND = pytest.param(
    "docker", marks=[pytest.mark.storage, pytest.mark.docker, needs_fuse, pytest.mark.timeout(900)]
)


@pytest.fixture(scope="module", params=["fake", MOUNTED, BOUND])
def raised(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[
    Runtime
]:  # fmt: skip
    """A light stack of which disk-b can fail."""
    stack = on_disks(light_stack())
    runtime: Runtime = FakeRuntime(stack)
    if request.param == "process":
        runtime = ProcessRuntime(stack, tmp_path_factory.mktemp("run"))
    elif request.param == "docker":
        if why := engine.missing() or only_root():
            pytest.skip(why)
        runtime = DockerRuntime(in_containers(stack), tmp_path_factory.mktemp("run"))
    runtime.storage.prepare(("disk-b",))
    try:
        runtime.up(lambda _service, _state: None)
        yield runtime
    finally:
        runtime.down()
        runtime.forget_remains()


@pytest.fixture
def runtime(raised: Runtime) -> Iterator[Runtime]:
    yield raised
    raised.play(raised.storage.undo("disk-b", raised.storage.faults("disk-b")))
    assert raised.storage.faults("disk-b") == ()


@pytest.mark.parametrize(
    ("kind", "terms", "operation", "outcome"),
    [
        ("gone", {}, "read", "EIO"), ("gone", {"error": "ENOTCONN"}, "write", "ENOTCONN"),
        ("read_only", {}, "write", "EROFS"), ("hung", {}, "write", "hung"),
        ("failing", {"operations": ["fsync"]}, "fsync", "EIO"),
        ("failing", {"operations": ["fsync"]}, "write", "done"),
        ("hung", {"operations": ["fsync"]}, "write", "done"),
    ],
)  # fmt: skip
def test_a_fault_is_felt_as_ordered_and_gone_when_undone(
    runtime: Runtime, kind: str, terms: dict[str, object], operation: str, outcome: str
) -> None:
    """Armed: listed, met by an operation of ours, recorded. Undone: neither listed nor met."""
    arrays = runtime.storage
    assert arrays.look("disk-b", "store", operation, 1.0).outcome == "done"  # type: ignore[arg-type]
    arrays.arm("disk-b", StorageFault("f", kind, terms), 30.0)
    assert arrays.faults("disk-b") == ("f",)
    within_s = 0.4 if outcome == "hung" else 5.0  # a program of its own has to start
    look = arrays.look("disk-b", "store", operation, within_s)  # type: ignore[arg-type]
    assert look.outcome == outcome
    undo = arrays.undo("disk-b", ("f",))
    runtime.play(undo)
    runtime.play(undo)
    assert arrays.faults("disk-b") == ()
    assert arrays.look("disk-b", "store", operation, 1.0).outcome == "done"  # type: ignore[arg-type]
    assert arrays.record("disk-b", "f") is not None
    assert arrays.record("disk-b", "other") is None


def test_a_slow_array_takes_its_time(runtime: Runtime) -> None:
    """Latency, and bytes at a rate."""
    arrays = runtime.storage
    quick = arrays.look("disk-b", "mirror", "write", 5.0).ms
    arrays.arm("disk-b", StorageFault("slow", "slow", {"latency_ms": 80}), 30.0)
    arrays.arm("disk-b", StorageFault("thin", "slow", {"kb_per_s": 500}), 30.0)
    look = arrays.look("disk-b", "mirror", "write", 5.0, 50_000)
    assert look.outcome == "done"
    assert look.ms >= 80 + 100
    assert quick < 80


def test_a_full_array_says_how_much_is_free(runtime: Runtime) -> None:
    """No more than is left, and much when the fault is over."""
    arrays = runtime.storage
    arrays.arm("disk-b", StorageFault("full", "full", {"free_bytes": 5000}), 30.0)
    assert 0 <= arrays.look("disk-b", "store", "space", 5.0).free_bytes <= 5000
    runtime.play(arrays.undo("disk-b", ("full",)))
    assert arrays.look("disk-b", "store", "space", 5.0).free_bytes > 5000


def test_it_expires(runtime: Runtime) -> None:
    """Without anybody's help."""
    runtime.storage.arm("disk-b", StorageFault("f", "gone"), 3.0)
    assert runtime.storage.look("disk-b", "store", "read", 5.0).outcome == "EIO"
    assert until(lambda: runtime.storage.faults("disk-b") == (), 5.0)
    assert runtime.storage.look("disk-b", "store", "read", 5.0).outcome == "done"


def test_power_is_cut_where_syncs_are_watched_only(runtime: Runtime) -> None:
    """The array is gone then; without such a fault there is nothing to lose."""
    arrays = runtime.storage
    with pytest.raises(RuntimeFailure):
        arrays.cut_power("disk-b", "cut")
    arrays.arm("disk-b", StorageFault("cut", "unsynced"), 30.0)
    assert arrays.look("disk-b", "store", "fsync", 5.0).outcome == "done"
    assert arrays.cut_power("disk-b", "cut").gone
    assert arrays.look("disk-b", "store", "read", 5.0).outcome == "EIO"


def test_what_was_not_prepared_or_is_unknown_is_refused(runtime: Runtime) -> None:
    """A name twice, an array that cannot fail, one that there is not."""
    arrays = runtime.storage
    arrays.arm("disk-b", StorageFault("f", "gone"), 30.0)
    with pytest.raises(RuntimeFailure, match="armed"):
        arrays.arm("disk-b", StorageFault("f", "gone"), 30.0)
    with pytest.raises(RuntimeFailure, match="was not raised so that it can fail"):
        arrays.arm("disk-a", StorageFault("g", "gone"), 30.0)
    for act in (lambda: arrays.prepare(("disk-x",)), lambda: arrays.undo("disk-x", ("f",))):
        with pytest.raises(TopologyError, match="disk-x"):
            act()
