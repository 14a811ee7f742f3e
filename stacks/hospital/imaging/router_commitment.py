"""Asks one archive to vouch for the images that it took, and takes in its reports.

It refuses to believe a C-STORE success alone: an image counts as kept when the archive says so.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import evt
from pynetdicom.association import Association

from stacks.hospital.imaging import commitment
from stacks.hospital.imaging.association import (
    COMMITMENT,
    SUCCESS,
    AssociationError,
    associate,
    contexts,
)
from stacks.hospital.imaging.buffer import BOUNDS, IDLE_S, Route
from stacks.hospital.imaging.buffer_threads import Duty
from stacks.hospital.imaging.router_book import Destination
from stacks.hospital.log import Log, describe
from stacks.hospital.store import StoreError

ITEMS = 250  # images per request
LOOK_S = 1.5  # each request costs two associations
HEAR_S = 3.0  # an association stays open so long for the report
GRACE_S = 0.1  # in which our answer to the report leaves
PAUSE_S = 2.0  # after a failed attempt
PROCESSING_FAILURE = 0x0110


class Asker:
    """One thread that asks one archive, on an association of its own."""

    def __init__(
        self, route: Route, destination: Destination, log: Log, on_commit: Callable[[], None]
    ) -> None:
        self.name = route.called
        self.committed = self.missing = 0
        self.trouble = ""
        self.duty = Duty(f"commit-{route.called}", self._step, log, self._release)
        self._route, self._destination, self._log = route, destination, log
        self._on_commit = on_commit
        self._heard = threading.Event()
        self._open: Association | None = None
        self._used_at = 0.0

    def _step(self) -> float:
        self._heard.clear()
        ids, items = self._destination.uncommitted(ITEMS)
        if not ids:
            if self._open is not None and time.monotonic() - self._used_at > IDLE_S:
                self._release()
            return LOOK_S
        try:
            commitment.ask(self._association(), commitment.new_transaction(), items)
        except AssociationError as error:
            self.trouble = str(error)
            self._log.warn_once_per(
                10.0, "commitment_not_asked", archive=self.name, reason=self.trouble
            )
            self._abandon()
            return PAUSE_S
        self.trouble = ""
        self._used_at = time.monotonic()
        self._destination.asked(ids)
        if self._heard.wait(HEAR_S):  # the archive may report on this association, or on its own
            self.duty.pause(GRACE_S)
        if len(ids) < ITEMS:
            self._release()  # an open association costs CPU: its threads poll
            return LOOK_S
        return 0.0

    def reported(self, event: Any) -> int | Dataset:
        """N-EVENT-REPORT of the archive; success only after the commit."""
        try:
            report = commitment.reported(event.event_information)
            self._destination.reported(report)
        except StoreError as error:
            return commitment.refusal(PROCESSING_FAILURE, str(error))
        except Exception as error:  # pydicom says anything of a data set that is none
            self._log.warn("request_refused", caller=self.name, reason=describe(error))
            return commitment.refusal(commitment.INVALID_ARGUMENT, describe(error))
        self.committed += len(report.kept)
        if report.missing:
            self.missing += len(report.missing)
            self._log.warn("images_not_kept", archive=self.name, images=len(report.missing))
        self._on_commit()
        self._heard.set()
        return SUCCESS

    def _association(self) -> Association:
        if self._open is not None and not self._open.is_established:
            self._open = None
        if self._open is None:
            self._open = associate(
                self._route.address, self._route.called, self._route.calling,
                contexts([COMMITMENT]), bounds=BOUNDS,
                handlers=[(evt.EVT_N_EVENT_REPORT, lambda event: (self.reported(event), None))],
            )  # fmt: skip
        return self._open

    def _release(self) -> None:
        open_, self._open = self._open, None
        if open_ is not None and open_.is_established:
            open_.release()

    def _abandon(self) -> None:
        open_, self._open = self._open, None
        if open_ is not None and open_.is_established:
            open_.abort()
