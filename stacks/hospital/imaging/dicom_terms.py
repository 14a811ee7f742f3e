"""Terms that callers and listeners of DICOM share: UIDs, statuses, AE titles, contexts, bounds.

It refuses to open or answer anything itself (association.py, listening.py).
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pydicom.config
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import _config as pynetdicom_config
from pynetdicom import build_context
from pynetdicom.ae import ApplicationEntity
from pynetdicom.presentation import PresentationContext

from stacks.hospital.imaging.instances import STORAGE
from stacks.hospital.settings import Address, SettingsError, address

VERIFICATION = "1.2.840.10008.1.1"
COMMITMENT = "1.2.840.10008.1.20.1"
"""Storage Commitment Push Model; its well-known instance is COMMITMENT_INSTANCE."""
COMMITMENT_INSTANCE = "1.2.840.10008.1.20.1.1"
TITLE_CHARS = 16
POLL_S = 0.004
"""How often an open association of ours looks whether something came."""
UNCOMPRESSED = (str(ExplicitVRLittleEndian), str(ImplicitVRLittleEndian))
ANYBODY = "*"
SUCCESS, OUT_OF_RESOURCES = 0x0000, 0xA700
PENDING = 0xFF00
Handler = tuple[Any, Callable[..., Any]]

pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
pydicom.config.settings.writing_validation_mode = pydicom.config.IGNORE
pynetdicom_config.LOG_HANDLER_LEVEL = "none"
pynetdicom_config.LOG_REQUEST_IDENTIFIERS = False
pynetdicom_config.LOG_RESPONSE_IDENTIFIERS = False


@dataclass(frozen=True, slots=True)
class Bounds:
    """Longest waits of an association in real seconds."""

    connect_s: float = 3.0
    negotiate_s: float = 5.0
    answer_s: float = 15.0
    """For the answer to one request."""
    idle_s: float = 60.0
    """An association on which nothing moves for so long is aborted."""
    stall_s: float = 20.0
    """For the rest of a message that has begun, in either direction."""
    nodelay: bool = True
    """TCP_NODELAY; off only to measure what it is worth."""


USUAL = Bounds()


def title_of(service: str) -> str:
    """The AE title of a service: PACS_A for pacs-a. Raises: ValueError if it does not fit."""
    title = service.upper().replace("-", "_")
    if not 0 < len(title) <= TITLE_CHARS:
        raise ValueError(f"{title!r} is no AE title: 1 to {TITLE_CHARS} characters")
    return title


def known_peers(environment: Mapping[str, str]) -> dict[str, Address]:
    """AE title → address, from LINK_X_DICOM and DICOM_PEERS ("AE=host:port,...").

    Raises: SettingsError for a malformed DICOM_PEERS.
    """
    found: dict[str, Address] = {}
    for variable, text in environment.items():
        if variable.startswith("LINK_") and variable.endswith("_DICOM") and text:
            found[variable[len("LINK_") : -len("_DICOM")]] = address(variable, text)
    for part in filter(None, environment.get("DICOM_PEERS", "").split(",")):
        title, equals, where = part.strip().partition("=")
        if not equals or not 0 < len(title) <= TITLE_CHARS:
            raise SettingsError(f"DICOM_PEERS: {part!r} is not AE=host:port; correct it")
        found[title] = address("DICOM_PEERS", where)
    return found


def known_callers(environment: Mapping[str, str]) -> frozenset[str] | None:
    """The AE titles that DICOM_CALLERS adds; None = anybody may call (`*`)."""
    titles = {one.strip() for one in environment.get("DICOM_CALLERS", "").split(",")} - {""}
    return None if ANYBODY in titles else frozenset(titles)


def contexts(
    sop_classes: Sequence[str], transfer_syntaxes: Sequence[str] = UNCOMPRESSED
) -> list[PresentationContext]:
    """One presentation context per SOP class; commitment is offered in both roles."""
    found = []
    for one in sop_classes:
        context = build_context(one, list(transfer_syntaxes))
        if one == COMMITMENT:
            context.scu_role = context.scp_role = True
        found.append(context)
    return found


def storage_contexts() -> list[PresentationContext]:
    """Contexts to send images of our modalities as they are encoded, and to ping."""
    return contexts([VERIFICATION]) + contexts(list(STORAGE.values()), UNCOMPRESSED[:1])


def connection_opened(event: Any, bounds: Bounds) -> None:
    """Small messages leave at once (else 40 ms of delayed ACK each), and no stall is endless.

    pynetdicom polls every open association each millisecond, about 4 % of a core; it has no
    public setting for that.
    """
    event.assoc.dul._run_loop_delay = POLL_S
    wrapped = event.assoc.dul.socket
    if wrapped is None or wrapped.socket is None:
        return
    if bounds.nodelay:
        wrapped.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    wrapped.socket.settimeout(bounds.stall_s)


def entity(title: str, bounds: Bounds) -> ApplicationEntity:
    """An application entity that waits no longer than `bounds` say."""
    entity = ApplicationEntity(ae_title=title)
    entity.connection_timeout = bounds.connect_s
    entity.acse_timeout = bounds.negotiate_s
    entity.dimse_timeout = bounds.answer_s
    entity.network_timeout = bounds.idle_s
    return entity


def caller_of(event: Any) -> str:
    """The AE title of who called."""
    return str(event.assoc.requestor.ae_title).strip()
