"""Order entry: an order and the message that takes it to the laboratory or to radiology.

It refuses to depend on the engine: an order is taken whenever the database takes it.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from stacks.hospital import fhir
from stacks.hospital.bugs import planted
from stacks.hospital.ehr.inbound import SENDER
from stacks.hospital.ehr.pair import Unavailable
from stacks.hospital.log import Log
from stacks.hospital.wire import hl7
from stacks.hospital.wire.mllp import MllpClient, MllpError
from stacks.hospital.wire.writing import joined, msh_of

ASK_S = 2.0
"""How long the planted defects wait for the engine's answer."""


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


async def for_outbox(message: Message | None, client: MllpClient, log: Log) -> Message | None:
    """What goes into the outbox: the message, unless a planted defect finds the engine away."""
    if message is None or not (planted("order-not-sent") or planted("order-needs-engine")):
        return message
    away = await _away(client)
    if away and planted("order-needs-engine"):
        raise Unavailable(f"the engine does not answer: {away}")
    if away:
        log.warn("order_not_sent", reason=away)
        return None
    return message


async def _away(client: MllpClient) -> str:
    """Planted defects only: why the engine does not answer a question that changes nothing. (The
    order itself, written to a link whose other end is away, could arrive long after it was given
    up: more than the defect is about.)"""
    now = time.time()
    header = hl7.Header(hl7.new_control_id(), sender=SENDER, receiver="ENGINE", at=now)
    try:
        async with asyncio.timeout(ASK_S):  # the wait for one's turn included
            question = joined([msh_of(header, "NMQ^N01", hl7.to_timestamp(now))])
            await client.send(question, header.control_id, ASK_S)  # "no such service" will do
    except TimeoutError:
        return "no answer in time"
    except MllpError as error:
        return error.reason
    return ""
