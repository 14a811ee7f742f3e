"""The archive's DICOM face: C-ECHO, C-STORE, C-FIND, C-MOVE and the storage commitment request.

It refuses in DICOM's own terms, with a status and a comment; an image is answered with success
only when it is on disk.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator, Mapping
from typing import Any, TypeVar

from pydicom.dataset import Dataset
from pynetdicom import evt

from stacks.hospital.imaging.archive_attributes import KEYS, LEVELS, as_dataset
from stacks.hospital.imaging.archive_commitment import Commitment, Malformed
from stacks.hospital.imaging.archive_index import FIND_MAX, Differs, Full, Index
from stacks.hospital.imaging.association import (
    COMMITMENT,
    OUT_OF_RESOURCES,
    PENDING,
    SUCCESS,
    VERIFICATION,
    Bounds,
    Handler,
    caller_of,
    connection_opened,
    contexts,
    received,
)
from stacks.hospital.imaging.instances import STORAGE, decode, part10, read_part10
from stacks.hospital.log import Log, describe
from stacks.hospital.settings import Address
from stacks.hospital.store import StoreError

T = TypeVar("T")
STORE_S = 10.0
"""A disk that takes longer hangs: the sender is told to come again."""
NOT_THIS_SOP_CLASS, NOT_UNDERSTOOD, OTHER_IMAGE_HERE = 0xA900, 0xC000, 0xC110
UNABLE, NO_SUCH_DESTINATION, CANCELLED, NO_SUCH_ACTION = 0xC001, 0xA801, 0xFE00, 0x0123
INVALID_ARGUMENT = 0x0115
COMMENT_CHARS = 64
FURTHER_STORAGE = (
    "1.2.840.10008.5.1.4.1.1.1.1",  # digital X-ray
    "1.2.840.10008.5.1.4.1.1.1.2",  # mammography
    "1.2.840.10008.5.1.4.1.1.2.1",  # enhanced CT
    "1.2.840.10008.5.1.4.1.1.3.1",  # ultrasound, several frames
    "1.2.840.10008.5.1.4.1.1.4.1",  # enhanced MR
    "1.2.840.10008.5.1.4.1.1.7",  # secondary capture
    "1.2.840.10008.5.1.4.1.1.12.1",  # angiography
    "1.2.840.10008.5.1.4.1.1.20",  # nuclear medicine
    "1.2.840.10008.5.1.4.1.1.128",  # positron emission
)
PATIENT_ROOT, STUDY_ROOT = "1.2.840.10008.5.1.4.1.2.1", "1.2.840.10008.5.1.4.1.2.2"
QUERY = (f"{PATIENT_ROOT}.1", f"{STUDY_ROOT}.1")
MOVE = (f"{PATIENT_ROOT}.2", f"{STUDY_ROOT}.2")
OFFERED = contexts([VERIFICATION, *STORAGE.values(), *FURTHER_STORAGE, *QUERY, *MOVE, COMMITMENT])
"""Uncompressed only: a compressed transfer syntax is refused at the association."""


def refusal(status: int, comment: str) -> Dataset:
    """A status with a comment (0000,0902) for the person at the other end."""
    answer = Dataset()
    answer.Status = status
    answer.ErrorComment = comment[:COMMENT_CHARS]
    return answer


class Desk:
    """Answers DICOM requests from the index; its handlers run in the associations' threads."""

    def __init__(
        self,
        index: Index,
        commitment: Commitment,
        peers: Mapping[str, Address],
        loop: asyncio.AbstractEventLoop,
        log: Log,
    ) -> None:
        self._index, self._commitment, self._peers = index, commitment, peers
        self._loop, self._log = loop, log

    def handlers(self) -> list[Handler]:
        """For `listen`."""
        return [
            (evt.EVT_C_STORE, self.keep),
            (evt.EVT_C_FIND, self.find),
            (evt.EVT_C_MOVE, self.move),
            (evt.EVT_N_ACTION, self.commit),
        ]

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        async def bounded() -> T:
            try:
                async with asyncio.timeout(STORE_S):
                    return await work
            except TimeoutError:
                raise StoreError(f"no commit within {STORE_S:.0f} s") from None

        try:
            return asyncio.run_coroutine_threadsafe(bounded(), self._loop).result(STORE_S + 1)
        except (TimeoutError, RuntimeError, asyncio.CancelledError):
            raise StoreError("this archive is stopping or hangs") from None

    # -- C-STORE --------------------------------------------------------------------------------

    def keep(self, event: Any) -> int | Dataset:
        """Success only after the commit; a full or broken disk is A700: come again."""
        encoded = received(event)
        try:
            dataset = decode(encoded)
            found = (str(dataset.SOPInstanceUID), str(dataset.SOPClassUID))
            if not (dataset.StudyInstanceUID and dataset.SeriesInstanceUID):
                raise ValueError("study or series UID is empty")
        except Exception as error:  # whatever a parser makes of nonsense
            return self._refused(event, NOT_UNDERSTOOD, f"data set not readable: {describe(error)}")
        if found != (encoded.sop_uid, encoded.sop_class):
            return self._refused(event, NOT_THIS_SOP_CLASS, "request and data set differ in UIDs")
        try:
            self._wait(self._index.keep(encoded, dataset))
        except Differs as error:
            return self._refused(event, OTHER_IMAGE_HERE, f"UID taken: {error}")
        except StoreError as error:
            return self._refused(event, OUT_OF_RESOURCES, str(error))
        return SUCCESS

    def _refused(self, event: Any, status: int, reason: str) -> Dataset:
        self._log.warn(
            "image_refused", calling=caller_of(event), status=f"{status:04X}", reason=reason,
            sop_uid=str(event.request.AffectedSOPInstanceUID),
        )  # fmt: skip
        return refusal(status, reason)

    # -- C-FIND, C-MOVE -------------------------------------------------------------------------

    def find(self, event: Any) -> Iterator[tuple[int | Dataset, Dataset | None]]:
        """Matches at the level that the identifier names."""
        try:
            asked = event.identifier
            level, wanted = _asked(asked)
            found = self._index.find(level, wanted, FIND_MAX)
        except StoreError as error:
            yield self._query_refused(event, OUT_OF_RESOURCES, str(error)), None
            return
        except Exception as error:
            yield self._query_refused(event, NOT_THIS_SOP_CLASS, _text(error)), None
            return
        tags = [int(element.tag) for element in asked]
        for one in found:
            if event.is_cancelled:
                yield CANCELLED, None
                return
            yield PENDING, as_dataset(one, tags, level)

    def move(self, event: Any) -> Iterator[Any]:
        """Sends what matches to a known AE title; anybody else is A801."""
        called = str(event.move_destination).strip()
        where = self._peers.get(called)
        if where is None:
            self._query_refused(event, NO_SUCH_DESTINATION, f"AE title {called} is not known")
            yield None, None
            return
        uids: list[str] = []
        trouble: Dataset | None = None
        try:
            uids = self._index.uids(_asked(event.identifier)[1])
        except Full as error:
            trouble = self._query_refused(event, OUT_OF_RESOURCES, str(error))
        except Exception as error:
            trouble = self._query_refused(event, NOT_THIS_SOP_CLASS, _text(error))
        classes = [*STORAGE.values(), *FURTHER_STORAGE]
        opened = (evt.EVT_CONN_OPEN, lambda opening: connection_opened(opening, Bounds()))
        yield (
            where.host, where.port,
            {"contexts": contexts(classes), "evt_handlers": [opened]},
        )  # fmt: skip
        yield max(len(uids), 1 if trouble else 0)
        if trouble:
            yield trouble, None
        for uid in uids:
            if event.is_cancelled:
                yield CANCELLED, None
                return
            for image in self._index.images({KEYS["IMAGE"]: uid}, limit=1):
                yield PENDING, read_part10(part10(image.encoded))

    def _query_refused(self, event: Any, status: int, reason: str) -> Dataset:
        self._log.warn(
            "query_refused", calling=caller_of(event), status=f"{status:04X}", reason=reason
        )
        return refusal(status, reason)

    # -- storage commitment ---------------------------------------------------------------------

    def commit(self, event: Any) -> tuple[int | Dataset, None]:
        """Takes the request durably; the report follows (archive_commitment)."""
        try:
            if event.action_type != 1 or str(event.request.RequestedSOPClassUID) != COMMITMENT:
                return self._query_refused(event, NO_SUCH_ACTION, "only commitment requests"), None
            self._wait(self._commitment.take(event.action_information, event.assoc))
        except StoreError as error:
            return self._query_refused(event, OUT_OF_RESOURCES, str(error)), None
        except Exception as error:
            return self._query_refused(event, INVALID_ARGUMENT, _text(error)), None
        return SUCCESS, None


def _asked(identifier: Dataset) -> tuple[str, dict[str, str]]:
    """Level and matching keys of a C-FIND or C-MOVE identifier. Raises: Malformed."""
    level = str(identifier.get("QueryRetrieveLevel", "")).strip()
    if level not in LEVELS:
        raise Malformed(f"QueryRetrieveLevel is {level!r}; one of {', '.join(LEVELS)}")
    wanted: dict[str, str] = {}
    for element in identifier:
        value = element.value
        if element.VR == "SQ" or value is None or element.keyword in ("", "QueryRetrieveLevel"):
            continue
        many = not isinstance(value, str) and hasattr(value, "__iter__") and element.VM > 1
        wanted[element.keyword] = "\\".join(map(str, value)) if many else str(value).strip()
    return level, wanted


def _text(error: BaseException) -> str:
    return str(error) if isinstance(error, Malformed) else describe(error)


__all__ = ["OFFERED", "Desk"]
