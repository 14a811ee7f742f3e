"""What every act of the traffic needs: the people, the ways, the ledger, and how to write.

It refuses to know what is written: see care.py and administration.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from stacks.hospital.fhir import KEY_SYSTEMS
from stacks.hospital.traffic import forms
from stacks.hospital.traffic.callers import READ_S, Ask, Callers
from stacks.hospital.traffic.http import Answer, NoAnswer
from stacks.hospital.traffic.ledger import Ledger, Op
from stacks.hospital.traffic.people import Census, Person
from stacks.hospital.traffic.schedule import Arrival


@dataclass(slots=True)
class Hospital:
    """What every operation needs: the people, the ways and the ledger."""

    ledger: Ledger
    callers: Callers
    census: Census
    prefix: str
    real_s: Callable[[float], float]
    spawn: Callable[..., object]

    def key(self, letter: str, arrival: Arrival) -> str:
        """A business key that no other arrival of any run on this hospital has."""
        return f"{self.prefix}{letter}{arrival.klass}{arrival.flow}-{arrival.number}"

    def write(
        self,
        op: Op,
        services: Callable[[], Sequence[str]],
        ask: Ask,
        one: Person,
        done_already: Callable[[], bool] | None = None,
    ) -> Answer | None:
        """Write until there is a last word; the patient in the answer is noted."""
        answer = self.callers.write(op, services, ask, done_already)
        if answer is not None:
            found = forms.chart(answer.body)
            named = found.patients[0] if found and found.patients else ""
            op.ok(str(answer.status), op.via, one.mrn if named in (one.aliases or ()) else named)
        return answer

    @property
    def has_record(self) -> bool:
        """Whether the record stands in this topology."""
        return self.callers.reaches("ehr-a") or self.callers.reaches("ehr-b")

    def is_readable(self, one: Person) -> bool:
        """Whether one of the record's nodes shows this patient now; true where none stands."""
        if not self.has_record:
            return True
        ask = Ask("GET", f"/fhir/Patient/{one.mrn}", headers=marks(one.klass, one.ward))
        for node in self.callers.record_nodes(one.ward):
            try:
                answer = self.callers.attempt(node, ask, READ_S)
            except NoAnswer:
                continue
            if answer.good:
                return True
        return False


def create_ask(type_: str, key: str, body: bytes, klass: str, ward: str) -> Ask:
    """The conditional create of a resource: asked twice, it happens once."""
    condition = {"If-None-Exist": f"identifier={KEY_SYSTEMS[type_]}|{key}"}
    return Ask("POST", f"/fhir/{type_}", body, {**marks(klass, ward), **condition})


def marks(klass: str, ward: str) -> dict[str, str]:
    """Who asks, and how urgently."""
    return {"X-Priority": klass, "X-Ward": ward}
