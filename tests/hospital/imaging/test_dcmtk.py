"""The tools that hospitals use (dcmtk) work against either kind of archive."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from stacks.hospital.imaging.instances import part10, read_part10
from tests import dcmtk
from tests.hospital.imaging.archives import KINDS, TITLE, Archive, images, send, usable
from tests.ports import free_port

TOOL_S = 30
pytestmark = dcmtk.needed("echoscu", "storescu", "findscu", "movescu")
MOVE_PORT = free_port()


@pytest.fixture(scope="module", params=KINDS)
def pacs(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Archive]:
    kind = usable(request.param)
    environment = {"DICOM_PEERS": f"READER=127.0.0.1:{MOVE_PORT}"}
    with Archive(kind, tmp_path_factory.mktemp(kind) / "data", environment) as archive:
        yield archive


def tool(pacs: Archive, name: str, *arguments: str, called: str = TITLE) -> tuple[int, str]:
    program = dcmtk.program(name)
    assert program is not None
    done = subprocess.run(
        [program, "-v", "-aet", "READER", "-aec", called, *arguments[:-1], pacs.dicom.host,
         str(pacs.dicom.port), *filter(None, arguments[-1:])],
        capture_output=True, text=True, timeout=TOOL_S, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def test_echo(pacs: Archive) -> None:
    """echoscu is answered, and rejected when it calls somebody else."""
    assert tool(pacs, "echoscu", "")[0] == 0
    status, said = tool(pacs, "echoscu", "", called="SOMEBODY")
    assert status != 0
    assert "Called AE Title Not Recognized" in said


def test_store_then_find_at_each_level(pacs: Archive, tmp_path: Path) -> None:
    """What storescu stored, findscu finds by patient, study, series and image."""
    sent = images("tools", 2, patient="MTOOLS")
    for number, one in enumerate(sent):
        (tmp_path / f"{number}.dcm").write_bytes(part10(one))
    files = sorted(map(str, tmp_path.glob("*.dcm")))
    for file in files:
        status, said = tool(pacs, "storescu", file)
        assert status == 0, said
    for level, key in (
        ("PATIENT", "PatientID=MTOOLS"), ("STUDY", "AccessionNumber=Atools"),
        ("STUDY", "PatientName=dupont*"), ("SERIES", "PatientID=MTOOLS"),
        ("IMAGE", f"SOPInstanceUID={sent[1].sop_uid}"),
    ):  # fmt: skip
        status, said = tool(
            pacs, "findscu", "-P", "-k", f"QueryRetrieveLevel={level}", "-k", key,
            "-k", "PatientID", "-k", "StudyInstanceUID", "-k", "SOPInstanceUID", "",
        )  # fmt: skip
        assert status == 0, said
        assert "Find Response: 1 (Pending)" in said, (level, said)
        assert "Find Response: 2 (Pending)" not in said or level == "IMAGE", (level, said)
    status, said = tool(
        pacs, "findscu", "-S", "-k", "QueryRetrieveLevel=STUDY", "-k", "PatientID=NOBODY", ""
    )
    assert status == 0
    assert "Pending" not in said


def test_move_to_a_known_title_only(pacs: Archive, tmp_path: Path) -> None:
    """movescu gets the same images back; an unknown destination is refused and nothing is sent."""
    sent = images("moved", 3, patient="MMOVE")
    assert send(pacs, sent) == [0, 0, 0]
    asked = ("-S", "-k", "QueryRetrieveLevel=STUDY", "-k", "PatientID=MMOVE",
             "-k", f"StudyInstanceUID={read_part10(part10(sent[0])).StudyInstanceUID}")  # fmt: skip
    status, said = tool(
        pacs, "movescu", "-aem", "READER", "+P", str(MOVE_PORT), "-od", str(tmp_path), *asked, ""
    )
    assert status == 0, said
    got = [read_part10(file.read_bytes()) for file in tmp_path.iterdir()]
    assert {str(one.SOPInstanceUID) for one in got} == {one.sop_uid for one in sent}
    pixels = {read_part10(part10(one)).PixelData for one in sent}
    assert {one.PixelData for one in got} == pixels
    _, said = tool(pacs, "movescu", "-aem", "STRANGER", *asked, "")
    assert "Move" in said
    assert "Success" not in said.rpartition("Move Response")[2]
