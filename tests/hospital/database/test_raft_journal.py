"""A journal that a failing disk has torn is cut so that pysyncobj can read what is left."""

from __future__ import annotations

import importlib
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stacks.hospital import raft_links  # first: it undoes what pysyncobj does to `socket`
from stacks.hospital.raft_journal import HEAD_BYTES, mend

assert raft_links
pysyncobj = importlib.import_module("pysyncobj.journal")
Entry = tuple[bytes, int, int]


def written(file: Path, entries: list[Entry]) -> None:
    file.unlink(missing_ok=True)
    journal = pysyncobj.FileJournal(str(file))
    for one in entries:
        journal.add(*one)
    journal._destroy()


def read(file: Path) -> list[Entry]:
    journal = pysyncobj.FileJournal(str(file))
    found = [journal[n] for n in range(len(journal))]
    journal._destroy()
    return found


PAGE = 4_096
ENTRIES: list[Entry] = [(bytes([n]) * (n % 7 * 150), n, 1 + n // 10) for n in range(1, 100)]


def test_its_head_is_as_long_as_pysyncobj_says() -> None:
    assert pysyncobj.FIRST_RECORD_OFFSET == HEAD_BYTES
    assert pysyncobj.LAST_RECORD_OFFSET_OFFSET == HEAD_BYTES - 4


def test_a_whole_journal_is_left_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "a.journal"
    written(file, ENTRIES)
    before = file.read_bytes()
    assert mend(file) == 0
    assert file.read_bytes() == before
    assert read(file) == ENTRIES


@settings(max_examples=150)
@given(page=st.integers(1, 11), pages=st.integers(1, 3))
def test_what_lies_in_front_of_a_hole_is_kept(
    tmp_path_factory: pytest.TempPathFactory, page: int, pages: int
) -> None:
    """Pages that never reached the disk read as zeros; nothing beyond them is believed."""
    file = tmp_path_factory.getbasetemp() / "holes.journal"
    written(file, ENTRIES)
    content = bytearray(file.read_bytes())
    end = struct.unpack_from("<I", content, pysyncobj.LAST_RECORD_OFFSET_OFFSET)[0]
    start = page * PAGE
    assert start < end
    hole = slice(start, min(start + pages * PAGE, len(content)))
    content[hole] = bytes(hole.stop - hole.start)
    file.write_bytes(content)
    assert mend(file) > 0
    left = read(file)
    at, whole = HEAD_BYTES, 0
    for command, _, _ in ENTRIES:
        at += len(command) + 24
        whole += at <= start
    assert [index for _, index, _ in left] == list(range(1, len(left) + 1))
    assert left == ENTRIES[:whole]
    assert mend(file) == 0


def test_what_was_overwritten_by_an_older_page_is_not_believed(tmp_path: Path) -> None:
    file = tmp_path / "a.journal"
    written(file, [(b"", 1, 1), (b"", 2, 1), (b"", 7, 1)])
    assert mend(file) == 24
    assert [index for _, index, _ in read(file)] == [1, 2]


def test_a_journal_without_a_head_is_begun_anew(tmp_path: Path) -> None:
    file = tmp_path / "a.journal"
    file.write_bytes(b"PYSY")
    assert mend(file) == 4
    assert read(file) == []
    assert mend(tmp_path / "none.journal") == 0
