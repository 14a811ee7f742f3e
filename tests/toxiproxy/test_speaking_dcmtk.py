"""The dicom toxic between dcmtk's own sender and archive, where they are installed."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from tests import dcmtk
from tests.conditions import until
from tests.ports import free_port

SEND_S = 20.0

pytestmark = dcmtk.needed("storescu", "storescp")


def image(folder: Path, number: int) -> str:
    """A CT image of half a megabyte: many P-DATA."""
    one = Dataset()
    one.file_meta = FileMetaDataset()
    one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    one.SOPClassUID, one.SOPInstanceUID = CTImageStorage, f"1.2.3.{number}"
    one.file_meta.MediaStorageSOPClassUID = one.SOPClassUID
    one.file_meta.MediaStorageSOPInstanceUID = one.SOPInstanceUID
    one.PatientID, one.Modality = "4711", "CT"
    one.StudyInstanceUID, one.SeriesInstanceUID = "1.2.4", "1.2.5"
    one.PixelData = bytes(512 * 512 * 2)
    one["PixelData"].VR = "OW"
    path = folder / f"{number}.dcm"
    one.save_as(path, enforce_file_format=True)
    return str(path)


def listens(port: int) -> bool:
    with socket.socket() as wire:
        return wire.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """dcmtk's storescp: its port, and the folder where it puts what it stored."""
    port, folder = free_port(), tmp_path / "stored"
    folder.mkdir()
    program = subprocess.Popen(
        [str(dcmtk.program("storescp")), "-od", str(folder), str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    assert until(lambda: listens(port))
    yield port, folder
    program.terminate()
    program.wait(5)


@pytest.fixture
def send(api, archive, tmp_path: Path) -> Callable[[int], tuple[int, str]]:
    """Sends that many images with storescu through proxy `p`: exit code and what it said."""
    port, storescu = api.proxy(f"127.0.0.1:{archive[0]}"), str(dcmtk.program("storescu"))

    def sent(count: int) -> tuple[int, str]:
        files = [image(tmp_path, number) for number in range(1, count + 1)]
        done = subprocess.run(
            [storescu, "-v", "-nh", "-td", "2", "127.0.0.1", str(port), *files],
            capture_output=True, text=True, timeout=SEND_S, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr

    return sent


def stored(archive: tuple[int, Path]) -> int:
    return len(list(archive[1].iterdir()))


def test_dcmtk_reads_our_refusal_and_goes_on(api, archive, send) -> None:
    """A700 is shown as a refusal for lack of resources; the other two are stored."""
    api.toxic("dicom", action="refuse", nth=2)
    _, said = send(3)
    assert "0xa700" in said.casefold() or "OutOfResources" in said
    assert stored(archive) == 2


def test_dcmtk_sees_the_abort_and_its_archive_stores_nothing_half(api, archive, send) -> None:
    """After three pieces of the second image the sender is told of an abort."""
    api.toxic("dicom", action="abort", nth=2, after=3)
    code, said = send(2)
    assert code != 0
    assert "abort" in said.casefold()
    assert until(lambda: stored(archive) == 1)


def test_without_an_act_large_images_pass_unchanged(api, archive, send) -> None:
    """Three half-megabyte images go through the toxic, and all are counted."""
    api.toxic("dicom", action="refuse", nth=100)
    code, said = send(3)
    assert (code, stored(archive)) == (0, 3), said
    assert api("GET", "/proxies/p/records")[1]["t"]["seen"] == 3
