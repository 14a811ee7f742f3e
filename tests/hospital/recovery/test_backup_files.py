"""What the vault keeps as files: a hole in the log and any changed byte are found by name."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from stacks.hospital.recovery import backup_log, backup_manifest, backup_marker
from stacks.hospital.recovery.backup_marker import Marker

SIZE = 4_096
NAMES = [f"0000000100000000{number:08X}" for number in range(1, 6)]


@pytest.fixture
def chain(tmp_path: Path) -> Path:
    """Five sealed segments and a partial one."""
    folder = tmp_path / "chain-0001"
    folder.mkdir()
    for number, name in enumerate([*NAMES, "000000010000000000000006.partial"]):
        (folder / name).write_bytes(bytes([number]) * SIZE)
    assert backup_log.seal(folder, {}) == len(NAMES)
    return folder


def test_a_whole_chain_has_no_damage_and_is_sealed_once(chain: Path) -> None:
    """The partial segment counts for the span, and is not sealed yet."""
    known = backup_log.sealed(chain)
    assert set(known) == set(NAMES)
    assert backup_log.seal(chain, known) == 0
    looked = backup_log.check(chain, SIZE, 6 * SIZE)
    assert (looked.files, looked.damages) == (5, ())
    assert (chain / NAMES[0]).stat().st_mode & 0o222 == 0


@pytest.mark.parametrize("number", range(5))
def test_a_missing_segment_is_a_hole(chain: Path, number: int) -> None:
    """Whichever it is: by its name, and as a hole."""
    (chain / NAMES[number]).unlink()
    damages = backup_log.check(chain, SIZE, 6 * SIZE).damages
    assert any(NAMES[number] in one and "gone" in one for one in damages)
    assert any("1 segments are missing" in one for one in damages)


def test_log_that_ends_too_early_is_missing(chain: Path) -> None:
    """A base that needs more log than there is cannot be restored."""
    assert backup_log.check(chain, SIZE, 8 * SIZE).damages == (
        "chain-0001: 1 segments are missing, first 7",
    )


def test_a_changed_byte_is_found_where_it_matters(chain: Path) -> None:
    """In a segment that the base needs; what lies before it does not count."""
    path = chain / NAMES[0]
    path.chmod(0o600)
    path.write_bytes(b"x" + path.read_bytes()[1:])
    assert "not as it was received" in backup_log.check(chain, SIZE, 6 * SIZE).damages[0]
    assert backup_log.check(chain, 2 * SIZE, 6 * SIZE).damages == ()


def test_a_torn_note_loses_only_its_last_line(chain: Path) -> None:
    """A power cut while a hash was written: that segment is sealed again."""
    note = chain / backup_log.HASHES
    note.write_bytes(note.read_bytes()[:-20])
    known = backup_log.sealed(chain)
    assert set(known) == set(NAMES[:-1])
    assert backup_log.seal(chain, known) == 1


def test_what_is_let_go_is_no_damage(chain: Path) -> None:
    """Retention removes what no base needs, and only that."""
    assert backup_log.let_go(chain, 3 * SIZE) == 2
    assert backup_log.check(chain, 3 * SIZE, 6 * SIZE).damages == ()
    assert set(backup_log.sealed(chain)) == set(NAMES[2:])


def manifest(data: Path) -> None:
    """A manifest as PostgreSQL writes it."""
    files = [
        {"Path": path.relative_to(data).as_posix(), "Size": path.stat().st_size,
         "Checksum": hashlib.sha256(path.read_bytes()).hexdigest()}
        for path in sorted(data.rglob("*")) if path.is_file()
    ]  # fmt: skip
    ranges = [{"Timeline": 1, "Start-LSN": "0/2000028", "End-LSN": "1/20"}]
    body = json.dumps({"Files": files, "WAL-Ranges": ranges})[:-1] + ",\n"
    checksum = hashlib.sha256(body.encode()).hexdigest()
    (data / "backup_manifest").write_text(f'{body}"Manifest-Checksum": "{checksum}"}}\n')


def test_a_base_backup_is_what_was_sent_and_nothing_else(tmp_path: Path) -> None:
    """Changed, longer, missing, added, and a manifest that somebody wrote again: all are told."""
    data = tmp_path / "base-1" / "data"
    (data / "base").mkdir(parents=True)
    for name in ("one", "two", "three", "four"):
        (data / "base" / name).write_bytes(name.encode() * 100)
    manifest(data)
    assert backup_manifest.check(data).damages == ()
    assert backup_manifest.span(backup_manifest.manifest(data)) == (1, 0x2000028, (1 << 32) + 0x20)
    (data / "base" / "one").write_bytes(b"onf" * 100)
    (data / "base" / "two").write_bytes(b"two" * 101)
    (data / "base" / "three").unlink()
    (data / "base" / "five").write_bytes(b"five")
    damages = backup_manifest.check(data).damages
    for name, why in (("one", "not what"), ("two", "303 bytes"), ("three", ""), ("five", "nobody")):
        assert any(f"base-1/base/{name}: " in one and why in one for one in damages), name
    assert len(damages) == 4
    text = (data / "backup_manifest").read_text()
    (data / "backup_manifest").write_text(text.replace('"Size": 300', '"Size": 303', 1))
    assert "does not fit its own checksum" in backup_manifest.check(data).damages[0]
    (data / "backup_manifest").unlink()
    assert "cannot be read" in backup_manifest.check(data).damages[0]


def test_a_marker_wants_every_row_in_its_version_and_content() -> None:
    """Newer is fine; missing, older and other content are not."""
    rows = {"A/1": (1, "a"), "A/2": (2, "b"), "A/3": (1, "c"), "A/4": (3, "d")}
    found = {"A/1": (1, "a"), "A/2": (2, "x"), "A/4": (2, "d"), "A/5": (1, "e")}
    wrong = backup_marker.differences(Marker(1, 1, "a", rows), Marker(2, 2, "b", found))
    assert wrong == [
        "A/2 has another content in version 2", "A/3 is missing",
        "A/4 is version 2 instead of 3",
    ]  # fmt: skip
    newer = found | {"A/2": (3, "x"), "A/3": (1, "c"), "A/4": (3, "d")}
    assert backup_marker.differences(Marker(1, 1, "a", rows), Marker(2, 2, "b", newer)) == []
