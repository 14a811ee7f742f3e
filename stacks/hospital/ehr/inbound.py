"""HL7 messages from the engine: movements of patients (ADT) and reports (ORU).

It refuses to acknowledge before the commit; a repeated message is acknowledged and changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import psycopg

from stacks.hospital import fhir, records
from stacks.hospital.ehr import reports, store
from stacks.hospital.ehr.node import Connection
from stacks.hospital.ehr.pair import NotThisOne, Pair, Unavailable, Unknown
from stacks.hospital.ehr.schema import Schema
from stacks.hospital.ehr.store import Draft
from stacks.hospital.log import Log, describe
from stacks.hospital.unstored import NOTHING_CAN_BE, THIS_ONE_WAS_NOT
from stacks.hospital.wire import hl7
from stacks.hospital.wire.mllp import Frame

SENDER = "EHR"
_GENDER = {"M": "male", "F": "female", "O": "other", "U": "unknown"}


class Inbound:
    """Answers the frames of the engine; `answer` is what MllpServer wants."""

    def __init__(self, pair: Pair, schema: Schema, log: Log) -> None:
        self._pair, self._schema, self._log = pair, schema, log

    async def answer(self, frame: Frame) -> Sequence[bytes]:
        """Store one message and acknowledge it, or refuse it with a reason."""
        header = hl7.Header("", accept="", application="")
        refusal: hl7.Hl7Error | None = None
        try:
            header = hl7.parse_header(frame.payload)
            if frame.oversized:
                raise hl7.Hl7Error("102", "the message exceeds 1 MiB")
            await self._take(hl7.parse(frame.payload))
        except hl7.Hl7Error as error:
            refusal = error
        except fhir.Invalid as error:
            refusal = hl7.Hl7Error("102", str(error))
        except (NotThisOne, Unknown) as error:
            refusal = hl7.Hl7Error(THIS_ONE_WAS_NOT, str(error))
        except Unavailable as error:
            refusal = hl7.Hl7Error(NOTHING_CAN_BE, str(error))
        except psycopg.DataError as error:
            refusal = hl7.Hl7Error("102", describe(error))
        except Exception as error:
            self._log.defect("message_failed", error, control_id=header.control_id)
            refusal = hl7.Hl7Error(THIS_ONE_WAS_NOT, f"unexpected: {type(error).__name__}")
        if refusal is not None:
            self._log.warn_once_per(
                1.0,
                "message_refused",
                control_id=header.control_id,
                code=refusal.code,
                reason=refusal.reason,
            )
        return hl7.replies(header, refusal, SENDER)

    async def _take(self, message: hl7.Message) -> None:
        body = message.body
        if not isinstance(body, hl7.Adt | hl7.Report):
            raise hl7.Hl7Error("200", f"the record takes no {message.header.kind}")
        if not self._schema.ready:
            raise Unavailable("the record's tables are not there yet")

        async def work(connection: Connection) -> None:
            async with connection.transaction():
                if await _first_time(connection, message.header):
                    if isinstance(body, hl7.Report):
                        await take_report(connection, body)
                    else:
                        await take_movement(connection, body, message.header.at)

        await self._pair.write(work)


async def _first_time(connection: Connection, header: hl7.Header) -> bool:
    cursor = await connection.execute(
        "INSERT INTO inbound (sender, control_id) VALUES (%s, %s) ON CONFLICT DO NOTHING",
        (header.sender, header.control_id),
    )
    return cursor.rowcount == 1


# -- reports --------------------------------------------------------------------------------------


def report_resource(report: hl7.Report) -> dict[str, Any]:
    """The DiagnosticReport of an ORU^R01."""
    issued = datetime.fromtimestamp(report.issued_at, UTC).isoformat(timespec="milliseconds")
    values = [records.ReportValue(one.test, one.value, one.unit, one.flag) for one in report.values]
    observations = [
        records.observation_of(number, value, report.status)
        for number, value in enumerate(values, 1)
    ]
    return {
        "resourceType": "DiagnosticReport",
        "identifier": [
            {"system": fhir.SPECIMEN, "value": report.specimen},
            {"system": fhir.REPORT, "value": report.specimen},
        ],
        "status": report.status,
        "code": {"text": "Laboratory report"},
        "subject": fhir.patient_reference(report.mrn),
        "basedOn": [
            {
                "reference": f"ServiceRequest/{report.placer}",
                "identifier": {"system": fhir.PLACER, "value": report.placer},
            }
        ],
        "issued": issued,
        "contained": observations,
        "result": [{"reference": f"#{one['id']}"} for one in observations],
    }


async def take_report(connection: Connection, report: hl7.Report) -> None:
    """Store a report; one that the stored version outranks changes nothing."""
    data = store.encoded(report_resource(report))
    resource = fhir.decode(data, "DiagnosticReport")
    assert isinstance(resource, fhir.DiagnosticReport)
    await reports.take(connection, store.draft(data, resource), resource)


# -- movements ------------------------------------------------------------------------------------


async def take_movement(connection: Connection, adt: hl7.Adt, at: float) -> None:
    """Admission, registration, update, discharge or merge."""
    fhir.key(adt.mrn, "PID-3")
    if adt.event == "A40":
        await merge(connection, fhir.key(adt.prior_mrn, "MRG-1"), adt)
        return
    survivor = await _survivor(connection, adt.mrn)
    if survivor is None:
        await _put(connection, "Patient", adt.mrn, adt.mrn, identity(adt))
        await connection.execute(
            "UPDATE resource SET pending = false WHERE patient = %s AND pending", (adt.mrn,)
        )
    if adt.visit:
        visit = fhir.key(adt.visit, "PV1-19")
        await _put(connection, "Encounter", visit, adt.mrn, encounter(adt, survivor or adt.mrn, at))


def identity(adt: hl7.Adt) -> dict[str, Any]:
    """The elements of a Patient that PID holds."""
    patient: dict[str, Any] = {
        "resourceType": "Patient",
        "identifier": [{"system": fhir.MRN, "value": adt.mrn}],
        "active": True,
    }
    if adt.family or adt.given:
        patient["name"] = [{"family": adt.family, "given": [adt.given] if adt.given else []}]
    if adt.sex:
        patient["gender"] = _GENDER.get(adt.sex, "unknown")
    if len(adt.birth) >= 8:
        patient["birthDate"] = f"{adt.birth[:4]}-{adt.birth[4:6]}-{adt.birth[6:8]}"
    return patient


def encounter(adt: hl7.Adt, mrn: str, at: float) -> dict[str, Any]:
    """The elements of an Encounter that PV1 holds; status and period follow from the event."""
    moment = datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
    found: dict[str, Any] = {
        "resourceType": "Encounter",
        "identifier": [{"system": fhir.VISIT, "value": adt.visit}],
        "subject": fhir.patient_reference(mrn),
    }
    if adt.event == "A03":
        found |= {"status": "finished", "period": {"end": moment}}
    elif adt.event in ("A01", "A04"):
        found |= {"status": "in-progress", "period": {"start": moment}}
    if adt.encounter_class:
        system = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
        found["class"] = {"system": system, "code": adt.encounter_class}
    if adt.ward:
        location = {"reference": f"Location/{adt.ward}", "display": adt.ward}
        found["location"] = [{"location": location}]
    return found


async def _put(
    connection: Connection, type_: str, key: str, patient: str, elements: dict[str, Any]
) -> None:
    """Create the resource, or replace these elements of the stored one if they differ."""
    found = await store.find(connection, type_, key, lock=True)
    if not found:
        defaults = {"status": "in-progress", "class": {"code": "AMB"}}
        new = (defaults | elements) if type_ == "Encounter" else elements
        if await store.create(connection, Draft(type_, key, patient, new)) is None:
            raise Unavailable(f"{type_} {key} is just being stored by somebody else")
        return
    old = store.decoded(found[-1].body)
    if isinstance(old.get("period"), dict) and "period" in elements:
        elements = elements | {"period": old["period"] | elements["period"]}
    if all(old.get(name) == value for name, value in elements.items()):
        return
    await store.update(connection, Draft(type_, key, patient, old | elements), found[-1].version)


async def _survivor(connection: Connection, mrn: str) -> str | None:
    cursor = await connection.execute("SELECT survivor FROM merged WHERE source = %s", (mrn,))
    row = await cursor.fetchone()
    return str(row[0]) if row is not None else None


async def merge(connection: Connection, source: str, adt: hl7.Adt) -> None:
    """All that lies under `source` belongs to the survivor from now on, and stays so."""
    survivor = await _survivor(connection, adt.mrn) or adt.mrn
    if survivor == source:
        return  # it was merged the other way round before: already one patient
    if not await store.find(connection, "Patient", survivor):
        await _put(connection, "Patient", survivor, survivor, identity(adt))
    await connection.execute(
        "UPDATE merged SET survivor = %s WHERE survivor = %s", (survivor, source)
    )
    await connection.execute(
        "INSERT INTO merged (source, survivor) VALUES (%s, %s) "
        "ON CONFLICT (source) DO UPDATE SET survivor = excluded.survivor",
        (source, survivor),
    )
    link = [{"other": fhir.patient_reference(survivor), "type": "replaced-by"}]
    gone = {
        "resourceType": "Patient",
        "identifier": [{"system": fhir.MRN, "value": source}],
        "active": False,
        "link": link,
    }
    await _put(connection, "Patient", source, source, gone)
    await store.rebind(connection)
