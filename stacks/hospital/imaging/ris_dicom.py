"""Radiology's DICOM side: worklist questions, reports of examinations, echo.

    scanner ──C-FIND──▶ open orders        scanner ──N-CREATE, N-SET──▶ book (committed, then 0000)

It refuses to confirm a report before the commit, and to let a malformed one end the service.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from pydicom.dataset import Dataset
from pynetdicom import evt

from stacks.hospital.imaging import mpps, worklist
from stacks.hospital.imaging import ris_book as book
from stacks.hospital.imaging import ris_matching as matching
from stacks.hospital.imaging.association import (
    OUT_OF_RESOURCES,
    PENDING,
    VERIFICATION,
    Listening,
    Scp,
    caller_of,
    contexts,
    known_callers,
    listen,
    title_of,
)
from stacks.hospital.log import Log, describe
from stacks.hospital.settings import Settings
from stacks.hospital.store import Store, StoreError

T = TypeVar("T")
WORKLIST = "1.2.840.10008.5.1.4.31"
SCANNERS = frozenset({"CT1", "MR1", "CR1", "US1", "MODALITIES"})
STORE_S = 3.0  # a disk that takes longer hangs: the scanner is told to come again
ROWS_MAX = 5_000  # open orders looked at for one question
MATCHES_MAX = 500
CANCELLED, MISMATCH, UNABLE = 0xFE00, 0xA900, 0xC001


class Answers:
    """The handlers of one radiology system; they run in the listener's threads."""

    def __init__(self, store: Store, settle_s: float, log: Log) -> None:
        self._store, self._settle_s, self._log = store, settle_s, log
        self._loop = asyncio.get_running_loop()
        self.questions = 0

    def find(self, event: Any) -> Iterator[tuple[int | Dataset, Dataset | None]]:
        """C-FIND: the open orders that answer the question."""
        self.questions += 1
        try:
            asked = worklist.question(event.identifier)
            worklist.fits(asked, _NOBODY, "")  # a malformed date is said before anything is sent
            found = self._read(
                lambda c: book.open_entries(c, ROWS_MAX, asked.patient, asked.modality)
            )
        except worklist.Unfit as error:
            yield self._refused(event, MISMATCH, str(error)), None
            return
        except (StoreError, TimeoutError) as error:
            yield self._refused(event, OUT_OF_RESOURCES, describe(error)), None
            return
        except Exception as error:  # pydicom says anything of a data set that is none
            yield self._refused(event, UNABLE, f"unreadable: {describe(error)}"), None
            return
        now = time.time()
        day = worklist.today_of(now)
        sent = 0
        for one in found:
            if not worklist.fits(asked, one, day):
                continue
            if event.is_cancelled:
                yield CANCELLED, None
                return
            if sent == MATCHES_MAX:
                yield self._refused(event, OUT_OF_RESOURCES, "too many entries: ask narrower"), None
                return
            sent += 1
            yield PENDING, worklist.answer(asked, one, now)

    def create(self, event: Any) -> tuple[int | Dataset, Dataset | None]:
        """N-CREATE: an examination begins."""

        def keep() -> None:
            uid = mpps.step_uid(event.request.AffectedSOPInstanceUID)
            step = mpps.begun(uid, event.attribute_list, caller_of(event))
            self._write(lambda c: matching.begin(c, step, time.time(), self._settle_s))

        status = self._kept(event, keep)
        return status, Dataset() if status == mpps.SUCCESS else None

    def change(self, event: Any) -> tuple[int | Dataset, Dataset | None]:
        """N-SET: an examination goes on or ends."""

        def keep() -> None:
            uid = mpps.step_uid(event.request.RequestedSOPInstanceUID)
            state = mpps.state_of(event.modification_list, matching.IN_PROGRESS)
            self._write(lambda c: matching.end(c, uid, state, time.time()))

        status = self._kept(event, keep)
        return status, Dataset() if status == mpps.SUCCESS else None

    def _kept(self, event: Any, keep: Callable[[], None]) -> int | Dataset:
        try:
            keep()
        except mpps.Refused as error:
            return self._refused(event, error.status, error.reason)
        except matching.Repeated as error:
            return mpps.refusal(mpps.DUPLICATE, str(error))
        except matching.Unknown as error:
            return self._refused(event, mpps.NO_SUCH_STEP, str(error))
        except book.Conflict as error:
            return self._refused(event, mpps.INVALID_VALUE, str(error))
        except matching.Ended as error:
            return self._refused(event, mpps.PROCESSING_FAILURE, str(error))
        except (StoreError, TimeoutError) as error:
            return self._refused(event, mpps.LATER, f"not stored: {describe(error)}")
        except Exception as error:  # pydicom says anything of a data set that is none
            return self._refused(event, mpps.PROCESSING_FAILURE, f"unreadable: {describe(error)}")
        return mpps.SUCCESS

    def _refused(self, event: Any, status: int, reason: str) -> Dataset:
        self._log.warn_once_per(
            1.0, "report_refused", calling=caller_of(event), status=f"{status:04X}", reason=reason
        )
        return mpps.refusal(status, reason)

    def _write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return asyncio.run_coroutine_threadsafe(self._store.write(work), self._loop).result(STORE_S)

    def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        async def read() -> T:
            return self._store.read(work)

        return asyncio.run_coroutine_threadsafe(read(), self._loop).result(STORE_S)


_NOBODY = book.Entry("", "", "CT", (), "", "", "", "", "", 0.0, "", "", "", "")


def open_for_scanners(settings: Settings, answers: Answers, log: Log) -> Scp:
    """Listen on the dicom port. Raises: OSError when the address cannot be used."""
    added = known_callers(settings.environment)
    return listen(
        Listening(
            title=title_of(settings.name),
            bind=settings.bind("dicom"),
            contexts=contexts([VERIFICATION, WORKLIST, mpps.PERFORMED_STEP]),
            handlers=[
                (evt.EVT_C_FIND, answers.find),
                (evt.EVT_N_CREATE, answers.create),
                (evt.EVT_N_SET, answers.change),
            ],
            callers=None if added is None else SCANNERS | added,
        ),
        log,
    )
