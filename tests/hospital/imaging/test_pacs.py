"""Which kind of archive a PACS becomes, and that Orthanc is kept to its place."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from stacks.hospital import bugs
from stacks.hospital.imaging import orthanc, pacs
from stacks.hospital.settings import Settings, SettingsError
from tests.hospital.imaging.archives import Archive, usable
from tests.hospital.programs import ROOT
from tests.ports import free_port

ORTHANC = orthanc.Installed("/somewhere/Orthanc", "/somewhere/libOrthancDicomWeb.so")


def place(folder: Path, host: str = "127.0.0.1", **environment: str) -> Settings:
    binds = {"BIND_HTTP": f"{host}:8042", "BIND_DICOM": f"{host}:4242"}
    return Settings("pacs-a", "A", folder, environment={**binds, **environment})


@pytest.fixture(autouse=True)
def no_defect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(bugs.VARIABLE, raising=False)
    monkeypatch.setattr(orthanc, "compiler", lambda: "/usr/bin/cc")


def test_auto_prefers_orthanc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Orthanc when installed; ours without it, without its guard, or with a defect of ours."""
    assert pacs.kind({}, ORTHANC) == "orthanc"
    assert pacs.kind({}, None) == "archive"
    monkeypatch.setenv(bugs.VARIABLE, "store-not-kept")
    assert pacs.kind({}, ORTHANC) == "archive"
    monkeypatch.setenv(bugs.VARIABLE, "no-failover")
    assert pacs.kind({}, ORTHANC) == "orthanc"
    monkeypatch.setattr(orthanc, "compiler", lambda: None)
    assert pacs.kind({}, ORTHANC) == "archive"
    guard = tmp_path / "guard.so"
    guard.touch()
    assert pacs.kind({orthanc.GUARD: str(guard)}, ORTHANC) == "orthanc"


def test_every_defect_of_the_archive_has_its_place() -> None:
    """`auto` recognises the defects of the archive by where they are."""
    ours = {bug.name for bug in bugs.BUGS.values() if bug.where == pacs.WHERE}
    assert ours == {
        "any-title", "archive-deletes-on-resend", "store-not-kept", "archive-mixes-patients",
        "archive-vouches-when-full",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("environment", "said"),
    [({"PACS_KIND": "tape"}, "unknown"), ({"PACS_KIND": "orthanc"}, "not installed")],
)
def test_a_wrong_kind_is_one_clear_line(environment: dict[str, str], said: str) -> None:
    """An unknown kind, or Orthanc without Orthanc, is refused with what to do."""
    with pytest.raises(SettingsError, match=said):
        pacs.kind(environment, None)


def test_program_ends_with_usage_status(tmp_path: Path) -> None:
    """A wrong PACS_KIND ends the program with status 64 and one line."""
    done = subprocess.run(
        [sys.executable, "-m", "stacks.hospital.imaging.pacs"], capture_output=True, text=True,
        timeout=30, check=False, cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "SERVICE_NAME": "pacs-a", "SERVICE_ROOM": "A",
             "DATA_DIR": str(tmp_path), "PACS_KIND": "tape"},
    )  # fmt: skip
    assert done.returncode == 64
    assert done.stderr.strip().splitlines()[-1].startswith("PACS_KIND='tape' is unknown")


def test_orthanc_configuration_is_narrow(tmp_path: Path) -> None:
    """Only peers of the topology may be moved to; uploads, Lua, WebDAV, explorer are off."""
    chosen = place(
        tmp_path, LINK_DICOM_ROUTER_DICOM="127.0.0.1:5000", DICOM_PEERS="VIEW=127.0.0.1:6000"
    )
    found = orthanc.configuration(chosen, ORTHANC)
    modalities = found["DicomModalities"]
    assert isinstance(modalities, dict)
    assert {title: one["Port"] for title, one in modalities.items()} == {
        "DICOM_ROUTER": 5000, "VIEW": 6000,
    }  # fmt: skip
    assert found["DicomAet"] == "PACS_A"
    assert found["RemoteAccessAllowed"] is False
    for off in (
        "OrthancExplorerEnabled",
        "WebDavEnabled",
        "ExecuteLuaEnabled",
        "DicomAlwaysAllowGet",
    ):
        assert found[off] is False, off


def test_orthanc_needs_an_ipv4_address(tmp_path: Path) -> None:
    """What Orthanc cannot listen on is said in one line, with the way out."""
    with pytest.raises(SettingsError, match="PACS_KIND=archive"):
        orthanc.configuration(place(tmp_path, "[::1]"), ORTHANC)


def test_orthanc_listens_only_where_told(tmp_path: Path) -> None:
    """Orthanc's two ports are on the given address, on no other, and no third port is open."""
    with Archive(usable("orthanc"), tmp_path / "data") as archive:
        assert archive.process is not None
        listening = _listening(archive.process.pid)
        assert listening == {tuple(archive.http), tuple(archive.dicom)}
        assert archive.get("/app/explorer.html").status_code == 403
        assert archive.get("/patients").status_code == 403
        assert (tmp_path / "data" / "orthanc").is_dir()


def _listening(pid: int) -> set[tuple[str, int]]:
    connections = psutil.Process(pid).net_connections("tcp")
    return {tuple(one.laddr) for one in connections if one.status == psutil.CONN_LISTEN}


def test_a_taken_port_ends_orthanc(tmp_path: Path) -> None:
    """When its port is taken Orthanc ends with a failure instead of living without it."""
    usable("orthanc")
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        archive = Archive("orthanc", tmp_path / "data", {"BIND_HTTP": f"127.0.0.1:{port}"})
        archive.start(ready=False)
        assert archive.process is not None
        assert archive.process.wait(20) != 0
