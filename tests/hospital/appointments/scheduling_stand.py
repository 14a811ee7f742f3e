"""Scheduling as a process, and what clinics ask of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stacks.hospital.wire.hl7 import Ack, Adt, Appointment, Header, build, new_control_id
from stacks.hospital.wire.mllp import MllpClient
from tests.ports import free_port

from ..programs import Engine, Program

SYSTEM = "urn:hospital:appointment"
AT = "2026-11-22T08:00:00.000+00:00"
DAY = {"from": "2026-11-22T00:00:00Z", "to": "2026-11-23T00:00:00Z"}


class Clinic(Program):
    """The scheduling service with its clients' requests."""

    def __init__(self, folder: Path, engine: Engine, bug: str = "") -> None:
        self.mllp = free_port()
        super().__init__(
            "appointments.scheduling", folder / "scheduling",
            {
                "LINK_ENGINE_MLLP": f"127.0.0.1:{engine.port}", "HOSPITAL_BUG": bug,
                "BIND_MLLP": f"127.0.0.1:{self.mllp}",
            },
        )  # fmt: skip

    def book(self, name: str, slot: str, mrn: str = "M1", **more: Any) -> Any:
        wish = {"If-None-Exist": f"identifier={SYSTEM}|{name}"}
        return self.http.post(
            "/fhir/Appointment", json=asked(name, slot, mrn, **more), headers=wish
        )

    def change(
        self, name: str, slot: str, version: int, mrn: str = "M1", key: str = "", **more: Any
    ) -> Any:
        headers = {"If-Match": f'W/"{version}"', **({"Idempotency-Key": key} if key else {})}
        body = asked(name, slot, mrn, **more)
        return self.http.put(f"/fhir/Appointment/{name}", json=body, headers=headers)

    def decide(self, name: str, *services: str, **more: Any) -> Any:
        body = {"decision": name, "services": services, **DAY, "reason": "ransomware", **more}
        return self.http.post("/decisions", json=body)

    def export(self, kind: str) -> dict[str, dict[str, Any]]:
        rows = [json.loads(line) for line in self.http.get("/export").text.splitlines()]
        found = [row for row in rows if row["kind"] == kind]
        assert len({row["key"] for row in found}) == len(found)
        return {row["key"]: row for row in found}

    def tell(self, adt: Adt) -> Ack:
        async def send() -> Ack:
            header = Header(new_control_id(), sender="ENGINE", at=1e9)
            client = MllpClient(("127.0.0.1", self.mllp))
            try:
                return await client.send(build(header, adt), header.control_id)
            finally:
                await client.close()

        return asyncio.run(send())


def asked(
    name: str, slot: str, mrn: str = "M1", status: str = "booked", at: str = AT, phone: str = "0470"
) -> dict[str, Any]:
    """An Appointment resource; its service is the slot's."""
    service = slot.rsplit("-", 2)[0]
    return {
        "resourceType": "Appointment", "identifier": [{"system": SYSTEM, "value": name}],
        "status": status, "start": at, "serviceType": [{"coding": [{"code": service}]}],
        "slot": [{"reference": f"Slot/{slot}"}],
        "participant": [{"actor": {"reference": f"Patient/{mrn}"}, "status": "accepted"}],
        "extension": [{"url": "urn:hospital:phone", "valueString": phone}],
    }  # fmt: skip


def notices(engine: Engine) -> list[Appointment]:
    """What the engine was told, each notice's first copy, in order."""
    bodies = [one.body for one in engine.messages if isinstance(one.body, Appointment)]
    return list({(one.appointment, one.version): one for one in bodies}.values())


def events(found: Sequence[Appointment], name: str) -> list[str]:
    return [one.event for one in found if one.appointment == name]
