"""The words a report uses for priority classes and operation kinds, and which clock each runs on.

It knows names only; an unknown class or kind keeps the name that the journal gave it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

CLASSES: Mapping[str, str] = {
    "P0": "vital emergencies",
    "P1": "inpatients",
    "P2": "chemotherapy, dialysis, day care",
    "P3": "planned care",
    "P4": "back office",
}

KINDS: Mapping[str, str] = {
    "chart.read": "read a patient's chart",
    "order.create": "order a test",
    "medication.create": "prescribe",
    "administration.create": "record a given medicine",
    "observation.create": "record an observation",
    "patient.create": "register a patient",
    "encounter.create": "admit a patient",
    "patient.update": "correct a patient's identity",
    "encounter.finish": "discharge a patient",
    "patient.merge": "merge two records of one patient",
    "specimen.load": "load a tube on an analyser",
    "specimen.result": "result ready on the analyser",
    "stat.turnaround": "urgent test, from order to ward",
    "critical.ack": "carer acknowledges a critical result",
    "copy.write": "try to write into the read-only copy",
    "back.office": "lists and statistics",
}

HUMAN_KINDS = frozenset({"specimen.result", "stat.turnaround", "critical.ack"})
"""Kinds whose duration is hospital time (people, analysers): compressed by the run's speed."""

LOCK_PROBES = frozenset({"copy.write"})
"""Kinds that must be refused: a refusal is their good outcome, so they are no failed care."""


@dataclass(frozen=True, slots=True)
class Terms:
    """The vocabulary of one kind of stack; the default speaks of a hospital."""

    classes: Mapping[str, str] = field(default_factory=lambda: CLASSES)
    kinds: Mapping[str, str] = field(default_factory=lambda: KINDS)
    human_kinds: frozenset[str] = HUMAN_KINDS
    lock_probes: frozenset[str] = LOCK_PROBES

    def klass(self, name: str) -> str:
        """What the priority class stands for; empty when the journal's name is all there is."""
        return self.classes.get(name, "")

    def kind(self, name: str) -> str:
        """What the operation is, in words; empty when the journal's name is all there is."""
        return self.kinds.get(name, "")


HOSPITAL = Terms()
