"""What our own archive refuses, and what its planted defects do."""

from __future__ import annotations

import asyncio
import signal
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stacks.hospital.imaging import dicomweb
from stacks.hospital.imaging.archive_index import Index, open_index
from stacks.hospital.imaging.archive_scp import Desk
from stacks.hospital.imaging.instances import Encoded, decode, encode
from stacks.hospital.log import Log
from stacks.hospital.store import StoreError
from tests.hospital.imaging.archives import Archive, Requester, images, pairs, send
from tests.hospital.programs import until


def restarted(archive: Archive) -> Archive:
    archive.end(signal.SIGKILL)
    return archive.start()


def test_another_image_under_a_kept_uid_is_refused(tmp_path: Path) -> None:
    """The first image stays; the second one gets C110, which a router parks for a person."""
    (first,) = images("first", 1, "MFIRST")
    (other,) = images("other", 1, "MOTHER")
    forged = decode(other)
    forged.SOPInstanceUID = first.sop_uid
    with Archive("archive", tmp_path / "data") as archive:
        assert send(archive, [first, encode(forged)]) == [0, 0xC110]
        (kept,) = dicomweb.instances(archive.http)
        assert (kept.patient, kept.sop_uid) == ("MFIRST", first.sop_uid)
        assert "UID taken" in archive.lines()


def test_request_and_data_set_must_agree(tmp_path: Path) -> None:
    """A request that announces another UID than its data set is A900; nothing is kept."""
    one, two = images("agree", 2)
    with Archive("archive", tmp_path / "data") as archive:
        assert send(archive, [one._replace(sop_uid=two.sop_uid)]) == [0xA900]
        assert list(dicomweb.instances(archive.http)) == []


def test_a_disk_that_refuses_is_out_of_resources() -> None:
    """When the commit fails the sender hears A700 (come again), never success."""

    async def ask() -> Any:
        class FullDisk:
            async def keep(self, *_: object) -> bool:
                raise StoreError("disk full")

        loop = asyncio.get_running_loop()
        desk = Desk(FullDisk(), None, {}, loop, Log("test"))  # type: ignore[arg-type]
        return await asyncio.to_thread(desk.keep, _request(images("full", 1)[0]))

    answer = asyncio.run(ask())
    assert (answer.Status, answer.ErrorComment) == (0xA700, "disk full")


def _request(encoded: Encoded) -> Any:
    return SimpleNamespace(
        request=SimpleNamespace(
            AffectedSOPClassUID=encoded.sop_class,
            AffectedSOPInstanceUID=encoded.sop_uid,
            DataSet=BytesIO(encoded.data),
        ),
        context=SimpleNamespace(transfer_syntax=encoded.transfer_syntax),
        assoc=SimpleNamespace(requestor=SimpleNamespace(ae_title="CT1")),
    )


def test_matching_follows_the_standard(tmp_path: Path) -> None:
    """Wildcards, ranges and UID lists match as PS3.4 C.2.2.2 says; % and _ are plain letters."""

    async def ask() -> None:
        store, index = open_index(tmp_path / "archive.db")
        for exam, patient in (("a", "M_1"), ("b", "MX1"), ("c", "N%2")):
            for one in images(exam, 1, patient):
                await index.keep(one, decode(one))
        assert _patients(index, PatientID="M_1") == {"M_1"}
        assert _patients(index, PatientID="M*") == {"M_1", "MX1"}
        assert _patients(index, PatientID="M?1") == {"M_1", "MX1"}
        assert _patients(index, PatientID="N%*") == {"N%2"}
        assert _patients(index, PatientName="dupont^anne") == {"M_1", "MX1", "N%2"}
        assert _patients(index, StudyDate="20231101-20231130") == {"M_1", "MX1", "N%2"}
        assert _patients(index, StudyDate="-20230101") == set()
        uids = [one["StudyInstanceUID"] for one in index.find("STUDY", {})]
        assert _patients(index, StudyInstanceUID="\\".join(uids[:2])) == {"M_1", "MX1"}
        assert len(index.find("STUDY", {}, limit=1, offset=1)) == 1
        await store.close()

    asyncio.run(ask())


def _patients(index: Index, **wanted: str) -> set[str]:
    return {one["PatientID"] for one in index.find("STUDY", wanted)}


def test_viewer_clears_old_studies(tmp_path: Path) -> None:
    """The emergency viewer forgets a study a hospital day after its last image, not before."""
    environment = {"HOSPITAL_SPEED": str(24 * 3600 / 5)}  # a hospital day in 5 s
    with Archive("viewer", tmp_path / "data", environment) as viewer:
        assert send(viewer, images("current", 2)) == [0, 0]
        assert len(list(dicomweb.instances(viewer.http))) == 2
        until("the study is cleared", 20, lambda: not dicomweb.studies(viewer.http))
        assert viewer.get("/size").json() == {"studies": 0, "instances": 0}


@pytest.mark.parametrize("kind", ["auto", "archive"])
def test_defect_deletes_on_resend(tmp_path: Path, kind: str) -> None:
    """Planted: an image sent again is gone, and vouched for; a sound archive keeps it (see
    test_archive)."""
    requester = Requester("CT1")
    environment = {"HOSPITAL_BUG": "archive-deletes-on-resend"}
    with Archive(kind, tmp_path / "data", environment) as archive:
        sent = images("bug", 2)
        assert send(archive, sent) + send(archive, sent[:1]) == [0, 0, 0]
        assert {one.sop_uid for one in dicomweb.instances(archive.http)} == {sent[1].sop_uid}
        requester.ask(archive, pairs(sent), wait_s=10)
        assert requester.reports[0][0] == 1


def test_defect_does_not_keep_after_a_restart(tmp_path: Path) -> None:
    """Planted: after a restart images are acknowledged and vouched for, and are nowhere."""
    requester = Requester("CT1")
    environment = {"HOSPITAL_BUG": "store-not-kept"}
    with Archive("archive", tmp_path / "data", environment) as archive:
        assert send(archive, images("before", 1)) == [0]
        restarted(archive)
        lost = images("lost", 2)
        assert send(archive, lost) == [0, 0]
        requester.ask(archive, pairs(lost), wait_s=10)
        assert requester.reports[0][0] == 1
        assert len(list(dicomweb.instances(archive.http))) == 1


def test_defect_mixes_patients_after_a_restart(tmp_path: Path) -> None:
    """Planted: after a restart a study is filed under the patient of the study before."""
    environment = {"HOSPITAL_BUG": "archive-mixes-patients"}
    with Archive("archive", tmp_path / "data", environment) as archive:
        send(archive, images("before", 1, "MBEFORE"))
        restarted(archive)
        send(archive, images("mixed", 1, "MMIXED"))
        filed = [(one.patient, one.image_patient) for one in dicomweb.instances(archive.http)]
        assert ("MBEFORE", "MMIXED") in filed
