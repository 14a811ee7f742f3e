"""Without a fault the array is no more than the folder behind it."""

from __future__ import annotations

import mmap
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from tests.storage.arrays import Array, mounted, needs_fuse
from tests.storage.twin import BEGINNING, Side, operations, tree

pytestmark = [pytest.mark.storage, needs_fuse]


@pytest.fixture(scope="module")
def standing() -> Iterator[Array]:
    with tempfile.TemporaryDirectory() as place, mounted(Path(place) / "stack") as found:
        yield found


def compare(array: Array, every: list[tuple[Any, ...]]) -> None:
    plain = Path(tempfile.mkdtemp(dir=array.folder))
    place = Path(tempfile.mkdtemp(dir=array.mount))
    mine, theirs = Side(place), Side(plain)
    try:
        for number, what in enumerate([*BEGINNING, *every]):
            assert mine.do(what) == theirs.do(what), (number, what, every)
        assert tree(place) == tree(plain)
        assert tree(array.backing / place.name) == tree(plain)
    finally:
        mine.close()
        theirs.close()
        shutil.rmtree(place)
        shutil.rmtree(plain)


fast = settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])


@fast
@given(operations)
def test_any_operations_give_the_same_as_in_a_plain_folder(
    standing: Array, every: list[tuple[Any, ...]]
) -> None:
    """Results, errors and what is there in the end are the same, mapped memory included."""
    compare(standing, every)


@settings(fast, max_examples=80)
@given(operations)
def test_faults_on_other_files_and_an_undo_log_change_nothing(
    standing: Array, every: list[tuple[Any, ...]]
) -> None:
    """What is armed elsewhere, or only notes what could be lost, is not felt."""
    elsewhere = {"kind": "gone", "name": "elsewhere", "path": "elsewhere/*"}
    standing.orders.arm(elsewhere)
    standing.orders.arm({"kind": "unsynced", "name": "log"})
    try:
        compare(standing, every)
    finally:
        standing.orders.clear()


def test_many_at_once_lose_nothing(array: Array) -> None:
    """Eight writers with files and folders of their own and one folder in common, renaming and
    removing all the while: every file has the content that was written last."""
    wrong: list[BaseException] = []

    def work(me: int) -> None:
        try:
            for turn in range(120):
                path = array.mount / f"{me}-{turn % 7}"
                path.with_suffix(".new").write_bytes(f"{me} {turn}".encode() * 500)
                path.with_suffix(".new").rename(path)
                assert path.read_bytes() == f"{me} {turn}".encode() * 500
                if turn % 5 == 4:
                    path.unlink()
                    assert not path.exists()
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong
    assert len(os.listdir(array.mount)) == len(os.listdir(array.backing))


def test_an_open_file_outlives_its_name(array: Array) -> None:
    """A file that was removed while it is open can be read, written, looked at and cut."""
    path = array.mount / "temporary"
    with open(path, "w+b", buffering=0) as file:
        file.write(b"x" * 10_000)
        path.unlink()
        assert os.fstat(file.fileno()).st_nlink == 0
        assert os.pread(file.fileno(), 5, 9_000) == b"xxxxx"
        os.ftruncate(file.fileno(), 100)
        assert os.fstat(file.fileno()).st_size == 100
        path.write_bytes(b"another")
        assert os.fstat(file.fileno()).st_size == 100
    assert path.read_bytes() == b"another"


def test_a_moved_folder_takes_its_files_along(array: Array) -> None:
    """Open files and names below a renamed folder go on working."""
    deep = array.mount / "a" / "b"
    deep.mkdir(parents=True)
    with open(deep / "f", "wb", buffering=0) as file:
        (array.mount / "a").rename(array.mount / "z")
        file.write(b"later")
        assert (array.mount / "z" / "b" / "f").read_bytes() == b"later"
        assert os.fstat(file.fileno()).st_size == 5
    with pytest.raises(FileNotFoundError):
        (deep / "f").stat()


def test_odd_names_and_long_folders(array: Array) -> None:
    """Names that are no text, and folders of thousands of files, are passed on as they are."""
    odd = os.fsencode(array.mount) + b"/\xff\xfe \n\\040"
    with open(odd, "wb") as file:
        file.write(b"1")
    assert os.listdir(os.fsencode(array.mount)) == [b"\xff\xfe \n\\040"]
    os.unlink(odd)
    for number in range(3000):
        (array.mount / f"file-{number:05}").touch()
    assert sorted(os.listdir(array.mount)) == [f"file-{n:05}" for n in range(3000)]
    with pytest.raises(OSError, match="name too long"):
        (array.mount / ("n" * 300)).touch()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can serve others")
def test_what_others_make_is_theirs() -> None:
    """As root, the array serves every user as himself: his files are his, others' closed to him."""
    with tempfile.TemporaryDirectory() as place, mounted(Path(place) / "stack") as array:
        for folder in (Path(place), array.folder, array.backing):
            folder.chmod(0o755)
        made_by_another(array.mount)


def made_by_another(mount: Path) -> None:
    shared, closed = mount / "shared", mount / "closed"
    shared.mkdir()
    shared.chmod(0o777)
    closed.mkdir(0o700)
    done = subprocess.run(
        ["sh", "-c", f"echo hi > {shared}/f && mkdir {shared}/d && ! touch {closed}/f"],
        user=12345, group=23456, stderr=subprocess.PIPE, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for made in ("f", "d"):
        seen = (shared / made).stat()
        assert (seen.st_uid, seen.st_gid) == (12345, 23456)
    assert os.listdir(closed) == []


@pytest.mark.parametrize("latency_ms", [0, 5])
def test_a_mapped_file_shows_what_was_written_past_the_mapping(
    array: Array, latency_ms: int
) -> None:
    """As bbolt (etcd) reads: pages mapped, written by others through the file, also slowly and
    while they are read. After a write nobody sees what was there before."""
    page = mmap.PAGESIZE
    handle = os.open(array.mount / "f", os.O_RDWR | os.O_CREAT)
    os.pwrite(handle, bytes(2 * page), 0)
    over = threading.Event()
    with mmap.mmap(handle, 2 * page, mmap.MAP_SHARED, mmap.PROT_READ) as mapped:

        def read() -> None:
            while not over.wait(0.0005):
                hash(mapped[::page])

        reader = threading.Thread(target=read)
        reader.start()
        if latency_ms:
            array.orders.arm({"name": "s", "kind": "slow", "latency_ms": latency_ms})
        try:
            for number in range(1, 101):
                at = number % 2 * page
                os.pwrite(handle, number.to_bytes(8, "little"), at)
                assert int.from_bytes(mapped[at : at + 8], "little") == number
        finally:
            over.set()
            reader.join()
            array.orders.clear()
    os.close(handle)
