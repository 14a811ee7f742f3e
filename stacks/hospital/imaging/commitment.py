"""Storage commitment as one who asks and one who reports (PS3.4 annex J), as plain values.

    transaction, items = requested(event.action_information)
    ask(open_, transaction, items)             deliver(where, "MODALITIES", "DICOM_ROUTER", report)

It refuses a request or a report without transaction or without images: Malformed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom.association import Association

from stacks.hospital.imaging.association import (
    COMMITMENT,
    COMMITMENT_INSTANCE,
    AssociationError,
    Bounds,
    association,
    contexts,
)
from stacks.hospital.imaging.instances import UID_ROOT
from stacks.hospital.settings import Address

ALL_KEPT, SOME_MISSING = 1, 2
"""Event types of a report (PS3.4 J.3.3)."""
REQUEST = 1  # the only action type
NO_SUCH_INSTANCE = 0x0112
INVALID_ARGUMENT, NO_SUCH_ACTION, NO_SUCH_EVENT = 0x0115, 0x0123, 0x0113
ITEMS_MAX = 10_000
COMMENT_CHARS = 64


class Malformed(ValueError):
    """Not understood; the text says what is missing."""


class Item(NamedTuple):
    """One image of a request or a report."""

    sop_class: str
    sop_uid: str


@dataclass(frozen=True, slots=True)
class Report:
    """What an archive answers: which images it keeps, which it does not have."""

    transaction: str
    kept: tuple[Item, ...]
    missing: tuple[Item, ...] = field(default=())


def new_transaction() -> str:
    """A transaction UID that nobody else uses."""
    return str(generate_uid(prefix=f"{UID_ROOT}."))


def refusal(status: int, reason: str) -> Dataset:
    """A status with its one-line comment."""
    found = Dataset()
    found.Status = status
    found.ErrorComment = reason[:COMMENT_CHARS]
    return found


def requested(asked: Any) -> tuple[str, tuple[Item, ...]]:
    """Transaction and images of an N-ACTION. Raises: Malformed."""
    return _transaction(asked), _items(asked, "ReferencedSOPSequence", required=True)


def reported(said: Any) -> Report:
    """The content of an N-EVENT-REPORT. Raises: Malformed."""
    kept = _items(said, "ReferencedSOPSequence")
    missing = _items(said, "FailedSOPSequence")
    if not kept and not missing:
        raise Malformed("the report names no images")
    return Report(_transaction(said), kept, missing)


def ask(open_: Association, transaction: str, items: Sequence[Item]) -> None:
    """N-ACTION: please keep these. Raises: AssociationError when it is not accepted."""
    question = Dataset()
    question.TransactionUID = transaction
    question.ReferencedSOPSequence = [_item(one) for one in items]
    try:
        status, _ = open_.send_n_action(question, REQUEST, COMMITMENT, COMMITMENT_INSTANCE)
    except (ValueError, RuntimeError) as error:
        raise AssociationError(f"commitment cannot be asked: {error}") from None
    _check(status, "the request for commitment")


def deliver(where: Address, called: str, calling: str, report: Report, bounds: Bounds) -> None:
    """N-EVENT-REPORT on a new association. Raises: AssociationError when it is not taken."""
    content = Dataset()
    content.TransactionUID = report.transaction
    if report.kept:
        content.ReferencedSOPSequence = [_item(one) for one in report.kept]
    if report.missing:
        content.FailedSOPSequence = [_item(one, NO_SUCH_INSTANCE) for one in report.missing]
    kind = SOME_MISSING if report.missing else ALL_KEPT
    asked = contexts([COMMITMENT])
    with association(where, called, calling, asked, bounds=bounds, reporting=True) as open_:
        try:
            status, _ = open_.send_n_event_report(content, kind, COMMITMENT, COMMITMENT_INSTANCE)
        except (ValueError, RuntimeError) as error:
            raise AssociationError(f"the report cannot be sent: {error}") from None
        _check(status, "the report of commitment")


def _check(status: Dataset, what: str) -> None:
    if "Status" not in status:
        raise AssociationError(f"{what} was not answered")
    if status.Status != 0:
        comment = str(status.get("ErrorComment", ""))
        raise AssociationError(f"{what} was answered with {status.Status:04X} {comment}".strip())


def _item(one: Item, failure: int | None = None) -> Dataset:
    found = Dataset()
    found.ReferencedSOPClassUID = one.sop_class
    found.ReferencedSOPInstanceUID = one.sop_uid
    if failure is not None:
        found.FailureReason = failure
    return found


def _transaction(content: Any) -> str:
    found = str(content.get("TransactionUID", "") or "") if isinstance(content, Dataset) else ""
    if not found:
        raise Malformed("TransactionUID is missing")
    return found


def _items(content: Dataset, keyword: str, required: bool = False) -> tuple[Item, ...]:
    rows = content.get(keyword, None) or []
    if len(rows) > ITEMS_MAX or (required and not rows):
        raise Malformed(f"{keyword} must hold 1 to {ITEMS_MAX} items")
    found = tuple(
        Item(
            str(one.get("ReferencedSOPClassUID", "")), str(one.get("ReferencedSOPInstanceUID", ""))
        )
        for one in rows
    )
    if not all(one.sop_uid for one in found):
        raise Malformed(f"an item of {keyword} has no ReferencedSOPInstanceUID")
    return found
