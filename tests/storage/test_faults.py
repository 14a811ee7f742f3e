"""Each fault acts as ordered, only where ordered, says what it did, and is gone when it is over."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chaos.storage.client import StorageError
from tests.conditions import until
from tests.storage.arrays import Array, mounted, needs_fuse

pytestmark = [pytest.mark.storage, needs_fuse]
BLOCK = b"b" * 8192
TRIES = 5  # the best counts: a busy machine only ever makes it later


def failed(act: Callable[[], Any]) -> str:
    """The name of the error, '' when there was none."""
    try:
        act()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return ""


def took_ms(act: Callable[[], Any]) -> float:
    began = time.perf_counter()
    act()
    return (time.perf_counter() - began) * 1e3


@contextmanager
def opened(path: Path, size: int = 65_536) -> Iterator[int]:
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        os.pwrite(handle, b"a" * size, 0)
        os.fsync(handle)
        yield handle
    finally:
        os.close(handle)


@contextmanager
def armed(array: Array, kind: str, **terms: Any) -> Iterator[Callable[[], Any]]:
    """Arms one fault; yields what asks for its record; clears it and sees it gone."""
    name = f"{kind}-{time.monotonic_ns()}"
    array.orders.arm({"name": name, "kind": kind, **terms})
    try:
        yield lambda: array.orders.records()[name]
    finally:
        assert name not in array.orders.clear([name])
        assert array.orders.records()[name]["over"]


# ---------------------------------------------------------------- slow


@pytest.mark.parametrize("operation", ["read", "write", "fsync", "meta"])
def test_latency_meets_its_order_for_its_operation_only(operation: str) -> None:
    """A quiet moment's wait is within 10 % of the order, never less; other operations stay quick.
    In memory, where nothing but the order takes time."""
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with (
        tempfile.TemporaryDirectory(dir=memory) as place,
        mounted(Path(place) / "stack") as array,
        opened(array.mount / "f") as handle,
    ):
        acts: dict[str, Callable[[], Any]] = {
            "read": lambda: os.pread(handle, 100, 0),
            "write": lambda: os.pwrite(handle, BLOCK, 0),
            "fsync": lambda: os.fdatasync(handle),
            "meta": lambda: os.fchmod(handle, 0o600),
        }
        usual = {what: quiet([took_ms(act) for _ in range(12)]) for what, act in acts.items()}
        with armed(array, "slow", latency_ms=30, operations=[operation]) as record:
            slow = {what: quiet([took_ms(act) for _ in range(12)]) for what, act in acts.items()}
            assert record()["acted"] >= 12
            assert record()["by_operation"][operation] == record()["acted"]
            assert record()["ordered_ms"] == 30
        assert slow[operation] - usual[operation] == pytest.approx(30, abs=3)
        for other in acts.keys() - {operation}:
            assert slow[other] < usual[other] + 15
        assert quiet([took_ms(acts[operation]) for _ in range(12)]) < usual[operation] + 15


def quiet(numbers: list[float]) -> float:
    """What is met when no other program has the processor: a busy machine only adds to it."""
    return sorted(numbers)[len(numbers) // 6]


def median(numbers: list[float]) -> float:
    return sorted(numbers)[len(numbers) // 2]


def test_jitter_spreads_evenly_and_the_same_with_the_same_seed(array: Array) -> None:
    """Delays lie between latency ± jitter; one seed gives one sequence."""
    rounds = []
    with opened(array.mount / "f") as handle:
        for _ in range(2):
            with armed(
                array, "slow", latency_ms=20, jitter_ms=15, seed=5, operations=["write"]
            ):  # fmt: skip
                rounds.append([took_ms(lambda: os.pwrite(handle, BLOCK, 0)) for _ in range(12)])
    assert min(map(min, rounds)) >= 4.9
    assert max(rounds[0]) - min(rounds[0]) > 8
    assert median([abs(a - b) for a, b in zip(*rounds, strict=True)]) < 3


def test_bandwidth_bounds_all_bytes_together(array: Array) -> None:
    """Two writers at 1 MB/s together need a second for a megabyte, not half of one."""
    with opened(array.mount / "f") as one, opened(array.mount / "g") as other:
        with armed(array, "slow", kb_per_s=2000, operations=["write"]):
            threads = [
                threading.Thread(target=lambda h=h: [os.pwrite(h, BLOCK * 4, 0) for _ in range(8)])
                for h in (one, other)
            ]
            began = time.monotonic()
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            took_s = time.monotonic() - began
    wanted_s = 2 * 8 * 4 * 8192 / 2e6
    assert wanted_s * 0.9 < took_s < wanted_s * 1.1 + 0.05


def test_arming_and_clearing_take_effect_within_50_ms(array: Array) -> None:
    """From the order to its effect, on reads, writes and looks, ten times over."""
    path = array.mount / "f"
    with opened(path) as handle:
        acts = (lambda: os.pread(handle, 1, 0), lambda: os.pwrite(handle, b"x", 0), path.stat)
        for act in acts:
            late_s = []
            for _ in range(10):
                act()
                began = time.monotonic()
                with armed(array, "gone"):
                    assert until(lambda act=act: failed(act) == "EIO", 1.0, 0.0005)
                    on_s, began = time.monotonic() - began, time.monotonic()
                assert until(lambda act=act: failed(act) == "", 1.0, 0.0005)
                late_s.append(max(on_s, time.monotonic() - began))
            assert median(late_s) < 0.05


# ---------------------------------------------------------------- errors


def test_the_chosen_operations_fail_and_no_others(array: Array) -> None:
    """`nth` hits one, `every` each third, `probability` about its share; by operation and path."""
    with opened(array.mount / "f") as handle, opened(array.mount / "g") as other:
        with armed(array, "failing", operations=["fsync"], nth=3, path="f") as record:
            assert not failed(lambda: os.fsync(other))
            assert [failed(lambda: os.fsync(handle)) for _ in range(5)] == ["", "", "EIO", "", ""]
            assert not failed(lambda: os.pwrite(handle, BLOCK, 0))
            assert (record()["seen"], record()["acted"]) == (5, 1)
        with armed(array, "failing", operations=["read"], every=3):
            assert [bool(failed(lambda: os.pread(handle, 1, 0))) for _ in range(7)] == [
                False, False, True, False, False, True, False,
            ]  # fmt: skip
        with armed(array, "failing", operations=["read"], probability=0.3, seed=1) as record:
            hits = sum(bool(failed(lambda: os.pread(handle, 1, 0))) for _ in range(400))
            assert 80 < hits < 160
            assert record()["acted"] == hits
        assert not failed(lambda: os.fsync(handle))


def test_a_full_array_refuses_growth_and_says_so(array: Array) -> None:
    """Growing fails with ENOSPC once the free bytes are used, rewriting does not; removing a file
    gives its bytes back; `df` agrees."""
    with opened(array.mount / "f", 10_000) as handle, opened(array.mount / "old", 50_000):
        with armed(array, "full", free_bytes=10_000) as record:
            assert not failed(lambda: os.pwrite(handle, BLOCK, 0))
            assert not failed(lambda: os.pwrite(handle, BLOCK, 10_000))
            assert failed(lambda: os.pwrite(handle, BLOCK, 18_192)) == "ENOSPC"
            assert failed(lambda: os.posix_fallocate(handle, 0, 1 << 20)) == "ENOSPC"
            refused = record()["acted"]
            assert refused >= 2
            assert os.statvfs(array.mount).f_bavail == 0
            assert record()["acted"] == refused  # whoever asks has not been refused
            (array.mount / "old").unlink()
            assert not failed(lambda: os.pwrite(handle, BLOCK, 18_192))
        with armed(array, "full"):
            assert failed((array.mount / "new").touch) == "ENOSPC"
            assert failed((array.mount / "new").mkdir) == "ENOSPC"
        assert os.statvfs(array.mount).f_bavail > 0
        assert not failed((array.mount / "new").touch)


def test_a_read_only_array_refuses_every_change(array: Array) -> None:
    """Open handles included; reading goes on."""
    with opened(array.mount / "f") as handle, armed(array, "read_only"):
        path = array.mount / "f"
        for change in (
            lambda: os.pwrite(handle, b"x", 0), lambda: os.ftruncate(handle, 0), path.unlink,
            lambda: path.rename(array.mount / "g"), lambda: path.chmod(0o777),
            lambda: open(path, "r+b").close(), (array.mount / "d").mkdir,
            lambda: (array.mount / "l").symlink_to("f"), lambda: os.posix_fallocate(handle, 0, 99),
        ):  # fmt: skip
            assert failed(change) == "EROFS"
        assert path.read_bytes() == b"a" * 65_536
        assert not failed(lambda: os.fsync(handle))


def test_a_lost_array_fails_everything_with_the_chosen_error(array: Array) -> None:
    """EIO or ENOTCONN, also for handles that are open; closing them works."""
    with opened(array.mount / "f") as handle:
        for error in ("EIO", "ENOTCONN"):
            with armed(array, "gone", error=error):
                for act in (
                    lambda: os.pread(handle, 1, 0), lambda: os.pwrite(handle, b"x", 0),
                    lambda: os.fsync(handle), lambda: os.listdir(array.mount),
                    lambda: os.statvfs(array.mount), (array.mount / "new").touch,
                ):  # fmt: skip
                    assert failed(act) == error
    assert os.listdir(array.mount) == ["f"]


def test_faults_of_one_volume_spare_the_others(array: Array) -> None:
    """A glob of one service's folder hits everything below it and nothing else."""
    for service in ("ehr", "pacs"):
        (array.mount / service / "deep").mkdir(parents=True)
        (array.mount / service / "deep" / "f").write_bytes(b"x")
    with armed(array, "gone", path="ehr/*"):
        assert failed((array.mount / "ehr" / "deep" / "f").read_bytes) == "EIO"
        assert (array.mount / "pacs" / "deep" / "f").read_bytes() == b"x"


# ---------------------------------------------------------------- hung


def test_hung_operations_wait_and_wake(array: Array) -> None:
    """They block while the fault lasts, others do not, and within 50 ms of its end they are done:
    cleared, and expired."""
    with opened(array.mount / "f") as handle, opened(array.mount / "g") as other:
        late_s: dict[float, list[float]] = {0.0: [], 0.4: []}
        for turn, expires_s in enumerate([0.0, 0.4] * TRIES):
            done: list[float] = []
            name = f"hung-{turn}"
            before = time.monotonic()
            array.orders.arm(
                {"name": name, "kind": "hung", "path": "f", "expires_s": expires_s,
                 "operations": ["write"]}
            )  # fmt: skip
            began = time.monotonic()

            def write(done: list[float] = done) -> None:
                os.pwrite(handle, BLOCK, 0)
                done.append(time.monotonic())

            threads = [threading.Thread(target=write) for _ in range(20)]
            for thread in threads:
                thread.start()
            assert until(lambda name=name: array.orders.records()[name]["waiting"] >= 1)
            assert not failed(lambda: os.pwrite(other, BLOCK, 0))
            assert not failed(lambda: os.pread(handle, 1, 0))
            assert not done
            if not expires_s:
                before = time.monotonic()
                array.orders.clear([name])
                began = time.monotonic()
            for thread in threads:
                thread.join(5)
            assert len(done) == 20
            assert min(done) > before + expires_s - 0.01
            late_s[expires_s].append(min(done) - began - expires_s)
        assert min(late_s[0.0]) < 0.05
        assert min(late_s[0.4]) < 0.05


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_process_that_hangs_on_the_array_can_be_killed(array: Array, number: int) -> None:
    """Also one that was stopped first, as the reaper does it, and one that got a signal it keeps
    before: nobody stays behind in the kernel."""
    words = (
        "import os,signal,sys; signal.signal(signal.SIGUSR1, lambda *_: None);"
        "print('on', flush=True); open(sys.argv[1], 'w').write('x')"
    )
    with armed(array, "hung") as record:
        children = [
            subprocess.Popen(
                [sys.executable, "-c", words, str(array.mount / f"f{n}")], stdout=subprocess.PIPE
            )
            for n in range(3)
        ]
        assert until(lambda: record()["waiting"] >= 3)
        children[0].send_signal(signal.SIGSTOP)
        children[1].send_signal(signal.SIGUSR1)
        time.sleep(0.1)  # the signals must have interrupted the kernel's wait
        assert [child.poll() for child in children] == [None] * 3
        began = time.monotonic()
        for child in children:
            child.send_signal(number)
            child.send_signal(signal.SIGCONT)
        assert [child.wait(5) for child in children] == [-number] * 3
        assert time.monotonic() - began < 1.0


# ---------------------------------------------------------------- torn, power cut, rot


def test_a_torn_write_leaves_a_prefix_of_whole_sectors(array: Array) -> None:
    """The second write fails, and what reached the file is its beginning."""
    with opened(array.mount / "f") as handle:
        for seed in range(8):
            os.pwrite(handle, b"a" * 8192, 0)
            with armed(array, "torn", nth=1, seed=seed) as record:
                assert failed(lambda: os.pwrite(handle, BLOCK, 0)) == "EIO"
                assert not failed(lambda: os.pwrite(handle, b"z", 20_000))
                assert record()["acted"] == 1
            found = os.pread(handle, 8192, 0)
            prefix = found.count(b"b")
            assert prefix % 512 == 0
            assert prefix < 8192
            assert found == b"b" * prefix + b"a" * (8192 - prefix)
        with armed(array, "torn", nth=1, then="gone"):
            assert failed(lambda: os.pwrite(handle, BLOCK, 0)) == "EIO"
            assert failed(lambda: os.pread(handle, 1, 0)) == "EIO"


def test_fsync_that_lies_loses_what_it_promised(array: Array) -> None:
    """With `lying` a synced write is lost by the power cut; without, it is not."""
    for lying, kept in ((True, b"a"), (False, b"b")):
        with opened(array.mount / "f") as handle, armed(array, "unsynced", lying=lying) as record:
            os.pwrite(handle, BLOCK, 0)
            os.fsync(handle)
            array.orders.power_cut(record()["name"])
            assert failed(lambda: os.pread(handle, 1, 0)) == "EIO"
        assert (array.mount / "f").read_bytes()[:1] == kept


def test_two_watches_over_syncs_must_be_apart(array: Array) -> None:
    """Of two volumes at once, each loses its own; of the same files twice, refused."""
    for name in ("a", "b"):
        (array.mount / name).mkdir()
        array.orders.arm({"name": name, "kind": "unsynced", "path": f"{name}/*"})
        (array.mount / name / "f").write_bytes(b"x")
        with pytest.raises(StorageError, match="watched already"):
            array.orders.arm({"name": "c", "kind": "unsynced", "path": f"{name}/f"})
    assert array.orders.power_cut("a")["lost"]["names"] == 1
    assert (array.mount / "b" / "f").read_bytes() == b"x"
    array.orders.clear()
    assert os.listdir(array.mount / "a") == []
    assert os.listdir(array.mount / "b") == ["f"]
    assert os.listdir(array.backing.parent) == ["A"]


def test_arming_and_ending_a_log_disturbs_nobody(array: Array) -> None:
    """Four writers go on while the watch over syncs begins and ends thirty times: no error, and
    every byte is there."""
    wrong: list[BaseException] = []
    over = threading.Event()

    def work(me: int) -> None:
        path, rounds = array.mount / f"w{me}", 0
        try:
            while not over.is_set():
                rounds += 1
                path.write_bytes(b"%d " % rounds * 700)
                handle = os.open(path, os.O_RDWR)
                os.fsync(handle)
                os.close(handle)
                path.rename(path.with_suffix(".old"))
                assert path.with_suffix(".old").read_bytes() == b"%d " % rounds * 700
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for turn in range(30):
        with armed(array, "unsynced", lying=bool(turn % 2)):
            time.sleep(0.01)
    over.set()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    assert not wrong
    assert os.listdir(array.backing.parent) == ["A"]


act = st.one_of(
    st.tuples(
        st.just("write"), st.integers(0, 4), st.integers(0, 30_000), st.integers(1, 9_000),
        st.integers(1, 255),
    ),
    st.tuples(st.just("truncate"), st.integers(0, 4), st.integers(0, 30_000)),
    st.tuples(st.just("sync"), st.integers(0, 4)),
    st.tuples(st.just("replace"), st.integers(0, 4), st.integers(0, 4)),
    st.tuples(st.just("remove"), st.integers(0, 4)),
)  # fmt: skip


class Model:
    """What must be there after a power cut: content is durable by the sync of its file, names by
    any sync."""

    def __init__(self) -> None:
        self.now: dict[int, int] = {}  # name → file
        self.content: dict[int, bytes] = {}  # file → now
        self.synced: dict[int, bytes] = {}  # file → content that is durable
        self.durable: dict[int, int] = {}  # name → file, durable

    def sync(self, name: int) -> None:
        self.synced[self.now[name]] = self.content[self.now[name]]
        self.durable = dict(self.now)

    def left(self) -> dict[str, bytes]:
        return {str(name): self.synced.get(file, b"") for name, file in self.durable.items()}


def play(folder: Path, acts: list[tuple[Any, ...]], model: Model) -> None:
    made = len(model.content)
    for what in acts:
        name = what[1]
        path = folder / str(name)
        if what[0] == "write":
            if name not in model.now:
                made += 1
                model.now[name], model.content[made] = made, b""
            file = model.now[name]
            handle = os.open(path, os.O_RDWR | os.O_CREAT)
            os.pwrite(handle, bytes([what[4]]) * what[3], what[2])
            os.close(handle)
            old = model.content[file].ljust(what[2], b"\0")
            model.content[file] = (
                old[: what[2]] + bytes([what[4]]) * what[3] + old[what[2] + what[3] :]
            )
        elif name not in model.now:
            continue
        elif what[0] == "truncate":
            os.truncate(path, what[2])
            file = model.now[name]
            model.content[file] = model.content[file][: what[2]].ljust(what[2], b"\0")
        elif what[0] == "sync":
            handle = os.open(path, os.O_RDWR)
            os.fsync(handle)
            os.close(handle)
            model.sync(name)
        elif what[0] == "remove":
            path.unlink()
            del model.now[name]
        elif what[2] != name:
            path.rename(folder / str(what[2]))
            model.now[what[2]] = model.now.pop(name)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(act, max_size=12), st.lists(act, max_size=40))
def test_a_power_cut_loses_exactly_what_was_not_synced(
    array: Array, before: list[tuple[Any, ...]], acts: list[tuple[Any, ...]]
) -> None:
    """Nothing that was synced is lost and everything else is gone, for any sequence of writes,
    cuts, replacements and removals, whatever was there before."""
    model = Model()
    for old in array.mount.iterdir():
        old.unlink()
    play(array.mount, before, model)
    model.synced, model.durable = dict(model.content), dict(model.now)
    with armed(array, "unsynced") as record:
        play(array.mount, acts, model)
        assert {p.name: p.read_bytes() for p in array.mount.iterdir()} == {
            str(name): model.content[file] for name, file in model.now.items()
        }
        array.orders.power_cut(record()["name"])
        assert failed(lambda: os.listdir(array.mount)) == "EIO"
    assert {p.name: p.read_bytes() for p in array.mount.iterdir()} == model.left()
    assert os.listdir(array.backing.parent) == ["A"]


def test_bit_rot_is_reported_exactly(array: Array) -> None:
    """Twenty bits in chosen files: every report is true, nothing else changed, and one seed flips
    the same bits."""
    reports = []
    for _ in range(2):
        (array.mount / "db").mkdir(exist_ok=True)
        before = {}
        for number in range(4):
            for path in (array.mount / f"db/{number}", array.mount / f"other-{number}"):
                path.write_bytes(before.setdefault(path, bytes([number]) * 100_000))
        with armed(array, "rot", flips=20, seed=3, path="db/*") as record:
            flipped = record()["flipped"]
        reports.append(flipped)
        assert len({(f["path"], f["offset"] // 8192) for f in flipped}) == 20
        wrong = {
            (str(path.relative_to(array.mount)), place, after ^ old)
            for path, content in before.items()
            for place, (old, after) in enumerate(zip(content, path.read_bytes(), strict=True))
            if old != after
        }
        assert wrong == {(f["path"], f["offset"], 1 << f["bit"]) for f in flipped}
    assert reports[0] == reports[1]


# ---------------------------------------------------------------- orders


def test_a_fault_ends_by_itself(array: Array) -> None:
    """At its expiry, to 50 ms, with nobody there to clear it."""
    late_s = []
    with opened(array.mount / "f") as handle:
        for _ in range(TRIES):
            before = time.monotonic()
            array.orders.arm({"name": "e", "kind": "gone", "expires_s": 0.3})
            began = time.monotonic()
            assert failed(lambda: os.pread(handle, 1, 0)) == "EIO"
            assert until(lambda: not failed(lambda: os.pread(handle, 1, 0)), 2.0, 0.001)
            assert time.monotonic() - before > 0.29
            late_s.append(time.monotonic() - began - 0.3)
            assert array.orders.records()["e"]["over"] == "expired"
    assert min(late_s) < 0.05


def test_wrong_orders_are_refused_in_one_line(array: Array) -> None:
    """Nothing is armed by them, and the array goes on."""
    for order in (
        {"kind": "slow", "name": "x"}, {"kind": "levitate", "name": "x"}, {"kind": "gone"},
        {"kind": "gone", "name": ""}, {"kind": "rot", "name": "x", "flips": 1},
        {"kind": "slow", "name": "x", "latency_ms": -1}, {"kind": "gone", "name": "x", "odd": 1},
        {"kind": "failing", "name": "x", "probability": 2}, {"kind": "gone", "name": ["x"]},
        {"kind": "gone", "name": "x", "error": "EWHAT"}, {"kind": "slow", "name": "x",
        "latency_ms": float("inf")}, {"kind": "rot", "name": "x", "flips": 0},
        {"kind": "failing", "name": "x", "nth": 1, "every": 2},
    ):  # fmt: skip
        with pytest.raises(StorageError) as caught:
            array.orders.arm(order)
        assert "\n" not in str(caught.value)
        assert not caught.value.silent
    array.orders.arm({"kind": "gone", "name": "x", "path": "none"})
    with pytest.raises(StorageError, match="armed already"):
        array.orders.arm({"kind": "gone", "name": "x"})
    with pytest.raises(StorageError, match="nothing to lose"):
        array.orders.power_cut("x")
    assert array.orders.clear() == ()
