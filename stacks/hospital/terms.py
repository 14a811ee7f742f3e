"""The hospital's words for its priority classes and operations, for reports.

It knows no run and no service.
"""

from __future__ import annotations

from chaos.terms import Terms

CLASSES = {
    "P0": "vital emergencies",
    "P1": "inpatients",
    "P2": "chemotherapy, dialysis, day care",
    "P3": "planned care",
    "P4": "back office",
}
KINDS = {
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
    "imaging.order": "order an X-ray or a scan",
    "examination.start": "patient on the scanner's table",
    "examination.done": "examination finished on the scanner",
    "study.view": "images readable, from the last one taken",
    "image.read": "open an image",
    "appointment.book": "book an appointment",
    "appointment.move": "move an appointment",
    "appointment.cancel": "a patient cancels",
    "appointment.calledoff": "appointment called off by a decision",
    "appointment.ask": "patient asks whether it stands",
    "decision.cancel": "crisis cell calls off appointments",
    "session.held": "protected session held",
    "operator.act": "an operator acts at a console",
    "message.poison": "a partner sends a message that nobody can use",
    "bad.image": "send an image that nobody can read",
    "bad.title": "call an AE title that nobody has",
    "bad.syntax": "offer images in an encoding that nobody takes",
    "bad.patient": "report a study of an unknown patient",
    "bad.slot": "book a slot that is gone",
    "bad.cancel": "cancel what is cancelled already",
    "bad.message": "send an HL7 message that nobody routes",
}
HUMAN_KINDS = frozenset({"specimen.result", "stat.turnaround", "critical.ack", "examination.done"})
LOCK_PROBES = frozenset({"copy.write", *(kind for kind in KINDS if kind.startswith("bad."))})
ACTS = {
    "decision.cancel": "The crisis cell calls off appointments",
    "operator.act": "An operator acts",
    "message.poison": "A partner sends a message that nobody can use",
}

HOSPITAL = Terms(CLASSES, KINDS, HUMAN_KINDS, LOCK_PROBES, ACTS)
