"""Storage commitment: an archive vouches only for what it keeps, and its word always arrives."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hospital.imaging.archives import (
    KINDS,
    Archive,
    Requester,
    images,
    pairs,
    send,
    usable,
)
from tests.hospital.programs import until

WAIT_S = 10.0


@pytest.fixture(scope="module")
def requester() -> Requester:
    return Requester()


@pytest.fixture(scope="module", params=KINDS)
def pacs(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, requester: Requester
) -> Iterator[Archive]:
    kind = usable(request.param)
    environment = {"LINK_DICOM_ROUTER_DICOM": str(requester.address)}
    with Archive(kind, tmp_path_factory.mktemp(kind) / "data", environment) as archive:
        yield archive


def test_report_comes_on_a_new_association(pacs: Archive, requester: Requester) -> None:
    """Whoever hangs up after asking gets the report at the address known for its AE title."""
    kept = images(f"new-{pacs.kind}", 3)
    assert send(pacs, kept) == [0, 0, 0]
    requester.reports.clear()
    with requester.listening():
        transaction = requester.ask(pacs, pairs(kept))
        until("a report", WAIT_S, lambda: requester.reports)
    event_type, report, same = requester.reports[0]
    assert (event_type, same) == (1, False)
    assert report.TransactionUID == transaction
    vouched = {str(one.ReferencedSOPInstanceUID) for one in report.ReferencedSOPSequence}
    assert vouched == {one.sop_uid for one in kept}


def test_missing_images_are_named(pacs: Archive, requester: Requester) -> None:
    """A report with event type 2 lists exactly the images that are not kept, with a reason."""
    kept, never_sent = images(f"some-{pacs.kind}", 4)[:2], images(f"never-{pacs.kind}", 1)
    send(pacs, kept)
    requester.reports.clear()
    with requester.listening():
        requester.ask(pacs, pairs([*kept, *never_sent]))
        until("a report", WAIT_S, lambda: requester.reports)
    event_type, report, _ = requester.reports[0]
    assert event_type == 2
    missing = [str(one.ReferencedSOPInstanceUID) for one in report.FailedSOPSequence]
    assert missing == [never_sent[0].sop_uid]
    assert report.FailedSOPSequence[0].FailureReason == 0x0112
    assert len(report.ReferencedSOPSequence) == len(kept)


def test_report_comes_on_the_open_association(tmp_path: Path) -> None:
    """Whoever stays on the line gets the report there; no address need be known for it."""
    requester = Requester("CT1")
    with Archive("archive", tmp_path / "data") as archive:
        kept = images("same", 2)
        send(archive, kept)
        requester.ask(archive, pairs(kept), wait_s=WAIT_S)
    assert [(kind, same) for kind, _, same in requester.reports] == [(1, True)]


def test_a_report_survives_a_kill(tmp_path: Path) -> None:
    """An acknowledged request is answered even when the archive dies before its report."""
    requester = Requester()
    environment = {"LINK_DICOM_ROUTER_DICOM": str(requester.address)}
    with Archive("archive", tmp_path / "data", environment) as archive:
        kept = images("killed", 2)
        send(archive, kept)
        transaction = requester.ask(archive, pairs(kept))  # nobody listens yet
        archive.end(signal.SIGKILL)
        with requester.listening():
            archive.start()
            until("a report", WAIT_S, lambda: requester.reports)
    assert requester.reports[0][1].TransactionUID == transaction
