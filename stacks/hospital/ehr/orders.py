"""Order entry: an order and the message that takes it to the laboratory or to radiology.

It refuses to depend on the engine: an order is taken whenever the database takes it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from stacks.hospital import fhir
from stacks.hospital.bugs import planted
from stacks.hospital.ehr.inbound import SENDER
from stacks.hospital.ehr.pair import Unavailable
from stacks.hospital.log import Log
from stacks.hospital.wire import hl7
from stacks.hospital.wire.mllp import MllpClient, MllpError

DIRECT_S = 2.0
"""How long the planted defects wait for the engine."""


@dataclass(frozen=True, slots=True)
class Message:
    """An HL7 message for the outbox; `control_id` is its MSH-10."""

    control_id: str
    payload: bytes


def order_message(order: fhir.ServiceRequest, ward: str) -> Message | None:
    """OML^O21 of a laboratory order, OMI^O23 of an imaging order; None for any other order."""
    placer, mrn, visit = fhir.key_of(order), fhir.mrn_of(order), fhir.visit_of(order)
    codes = tuple(fhir.tests_of(order))
    body: hl7.Order | hl7.ImagingOrder
    if fhir.is_imaging(order):
        modality, priority = fhir.modality_of(order), fhir.imaging_priority(order)
        body = hl7.ImagingOrder(placer, mrn, modality, codes, priority, visit, ward)
    elif fhir.is_laboratory(order):
        body = hl7.Order(placer, mrn, codes, fhir.is_stat(order), visit, ward)
    else:
        return None
    control_id = hl7.new_control_id()
    header = hl7.Header(control_id, sender=SENDER, receiver="ENGINE", at=time.time())
    return Message(control_id, hl7.build(header, body))


async def sent_directly(message: Message | None, client: MllpClient, log: Log) -> Message | None:
    """What goes into the outbox: the message, unless a planted defect talks to the engine here."""
    if message is None or not (planted("order-not-sent") or planted("order-needs-engine")):
        return message
    try:
        await client.send(message.payload, message.control_id, DIRECT_S)
    except MllpError as error:
        if planted("order-needs-engine"):
            raise Unavailable(f"the engine did not take the order: {error.reason}") from None
        log.warn("order_not_sent", reason=error.reason)
    return message if planted("order-needs-engine") else None
