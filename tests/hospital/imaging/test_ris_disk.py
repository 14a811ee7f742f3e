"""A disk that refuses or hangs under radiology: scanners are told to come again, never success."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from pydicom.dataset import Dataset

from stacks.hospital.imaging import ris_dicom
from stacks.hospital.imaging.ris_dicom import Answers
from stacks.hospital.log import Log
from stacks.hospital.store import StoreError

from .ris_stand import question, report


class BrokenDisk:
    """A store on a disk that is full, or that never answers."""

    def __init__(self, hangs: bool) -> None:
        self._hangs = hangs

    async def write(self, _: Callable[..., Any]) -> None:
        if self._hangs:
            await asyncio.Event().wait()
        raise StoreError("disk full; nothing was stored")

    def read(self, _: Callable[..., Any]) -> None:
        raise StoreError("disk I/O error")


def event(**fields: Any) -> Any:
    requestor = SimpleNamespace(ae_title="CT1")
    return SimpleNamespace(assoc=SimpleNamespace(requestor=requestor), is_cancelled=False, **fields)


def status_of(answer: int | Dataset) -> int:
    return answer if isinstance(answer, int) else int(answer.Status)


@pytest.mark.parametrize("hangs", [False, True])
def test_a_report_is_not_confirmed_by_a_broken_disk(
    hangs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """N-CREATE and N-SET: 0213 (resource limitation), which a scanner repeats, within the bound."""
    monkeypatch.setattr(ris_dicom, "STORE_S", 0.2)
    change = Dataset()
    change.PerformedProcedureStepStatus = "COMPLETED"
    begun = event(
        request=SimpleNamespace(AffectedSOPInstanceUID="2.25.1"),
        attribute_list=report("2.25.2", "M1"),
    )
    ended = event(
        request=SimpleNamespace(RequestedSOPInstanceUID="2.25.1"), modification_list=change
    )

    async def ask() -> list[int]:
        answers = Answers(BrokenDisk(hangs), 0.0, Log("ris"))  # type: ignore[arg-type]
        created = await asyncio.to_thread(answers.create, begun)
        changed = await asyncio.to_thread(answers.change, ended)
        return [status_of(created[0]), status_of(changed[0])]

    assert asyncio.run(asyncio.wait_for(ask(), 5)) == [0x0213, 0x0213]


def test_a_worklist_that_cannot_be_read_is_no_empty_list() -> None:
    """C-FIND: A700 (out of resources) and no entry: the scanner goes to manual entry, it does not
    believe that nobody is expected."""

    async def ask() -> list[tuple[int | Dataset, Dataset | None]]:
        answers = Answers(BrokenDisk(False), 0.0, Log("ris"))  # type: ignore[arg-type]
        asked = event(identifier=question("M1", "CT"))
        return await asyncio.to_thread(lambda: list(answers.find(asked)))

    ((status, entry),) = asyncio.run(asyncio.wait_for(ask(), 5))
    assert (status_of(status), entry) == (0xA700, None)
