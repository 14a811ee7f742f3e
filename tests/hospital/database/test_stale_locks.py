"""The lock of a server that is gone names nobody, whoever has its process id now or later."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from stacks.hospital.stale_locks import NOBODY, free_stale_locks
from tests.conditions import until
from tests.hospital.ehr.cluster import Cluster


@pytest.fixture
def node(tmp_path: Path) -> Path:
    """A node's folder with its data directory and its sockets."""
    for name in ("pgdata", "s"):
        (tmp_path / name).mkdir()
    return tmp_path


def written(node: Path, pid: object) -> list[Path]:
    locks = [node / "pgdata" / "postmaster.pid", node / "s" / ".s.PGSQL.7000.lock"]
    for lock in locks:
        lock.write_text(f"{pid}\n{node / 'pgdata'}\n")
    return locks


def freed(node: Path) -> list[Path]:
    return free_stale_locks(node / "pgdata", node / "s")


def names_nobody(node: Path, lock: Path) -> bool:
    return lock.read_text() == f"{NOBODY}\n{node / 'pgdata'}\n"


def named(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


@contextmanager
def server(node: Path, works_in: Path) -> Iterator[int]:
    """A process that the kernel calls `postgres`."""
    program = node / "postgres"
    shutil.copy("/bin/sleep", program)
    with subprocess.Popen([program, "60"], cwd=works_in) as process:
        try:
            assert until(lambda: named(process.pid) == "postgres")
            yield process.pid
        finally:
            process.kill()


def test_another_process_with_that_id_is_no_server(node: Path) -> None:
    locks = written(node, os.getpid())
    assert freed(node) == locks
    assert all(names_nobody(node, lock) for lock in locks)
    assert freed(node) == [], "once is enough"


def test_another_process_s_thread_with_that_id_is_no_server(node: Path) -> None:
    """As in a container, where etcd's threads take the low numbers."""
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait, daemon=True)
    thread.start()
    try:
        locks = written(node, thread.native_id)
        assert freed(node) == locks
    finally:
        stop.set()
        thread.join()


def test_an_id_that_nobody_has_now_may_be_somebody_s_soon(node: Path) -> None:
    """Before etcd has started its threads, nobody has it."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    locks = written(node, process.pid)
    assert freed(node) == locks


def test_nobody_can_have_that_id() -> None:
    """The kernel's own bound is far below it."""
    assert int(Path("/proc/sys/kernel/pid_max").read_text()) < NOBODY
    with pytest.raises(ProcessLookupError):
        os.kill(NOBODY, 0)


def test_a_server_of_this_folder_keeps_its_locks(node: Path) -> None:
    with server(node, node / "pgdata") as pid:
        locks = written(node, pid)
        assert freed(node) == []
        assert not any(names_nobody(node, lock) for lock in locks)


def test_what_is_left_of_a_dead_server_keeps_its_locks(node: Path) -> None:
    """Somebody else has the server's id, and one of its sessions still runs."""
    with server(node, node / "pgdata"):
        locks = written(node, os.getpid())
        assert freed(node) == []
        assert not any(names_nobody(node, lock) for lock in locks)


def test_a_server_of_another_folder_has_no_claim(node: Path) -> None:
    with server(node, node) as pid:
        locks = written(node, pid)
        assert freed(node) == locks


@pytest.mark.parametrize("text", ["", "half a num"])
def test_what_is_no_process_id_is_left_to_postgresql(node: Path, text: str) -> None:
    written(node, text)
    assert freed(node) == []


@pytest.mark.slow
def test_a_crashed_server_starts_although_somebody_has_its_id(tmp_path: Path) -> None:
    """PostgreSQL itself does not start beside such a lock."""
    cluster = Cluster(tmp_path, tmp_path / "template")
    try:
        server = cluster.primary
        server.kill()
        lock = server.data / "postmaster.pid"
        with subprocess.Popen(["sleep", "60"]) as stranger:
            lock.write_text(f"{stranger.pid}\n{lock.read_text().partition(chr(10))[2]}")
            try:
                with pytest.raises(psycopg.OperationalError):
                    server.start()
                assert free_stale_locks(server.data, None) == [lock]
                server.start()
            finally:
                stranger.kill()
        assert server.query("SELECT 1") == [(1,)]
    finally:
        cluster.stop()
