"""The appointments of the hand-written day: booked, called off by class at 48, told and kept."""

from __future__ import annotations

from datetime import datetime, timedelta

from tests.claims.day import TRAFFIC_END, UTC, Day, Entry, Look, Row

DECIDED = 48.2
KNOWN_S, TOLD_S = 0.5, 1.5  # from booking or calling off to the channels' word
CHANNELS = ("website", "callcentre", "sms", "clinic-lists")
ELECTIVE, PROTECTED = 230, 70
SERVICES = ("dialysis", "chemotherapy", "inpatient-exam", "vital-surgery")
CLASS_OF = {"dialysis": "P2", "chemotherapy": "P2", "inpatient-exam": "P1", "vital-surgery": "P0"}
SLOT = (datetime.fromisoformat(UTC) + timedelta(seconds=DECIDED + 15 * 60)).isoformat()
"""Fifteen hours of hospital time after the decision."""


def add_appointments(day: Day) -> None:
    """230 elective appointments that a decision calls off, 70 protected ones that are kept."""
    for i in range(ELECTIVE):
        _booked(day, f"AP{i:04}", f"M{i % 40:03}", 20 + i * 0.11, "consultation", off=True)
    for i in range(PROTECTED):
        service = SERVICES[i % len(SERVICES)]
        _booked(day, f"AK{i:04}", f"M{i % 40:03}", 20 + i * 0.5, service, off=False)
    day.ops.append(Entry("decision.cancel", "P3", DECIDED - 0.2, 0.2, key="D1", via="scheduling"))
    for i in range(ELECTIVE):
        _called_off(day, f"AP{i:04}", f"M{i % 40:03}")
    for i in range(PROTECTED):
        service = SERVICES[i % len(SERVICES)]
        day.ops.append(Entry(
            "session.held", CLASS_OF[service], 41 + i * 0.25, key=f"AK{i:04}",
            subject=f"M{i % 40:03}", value=service, strength="seen",
            via="scheduling" if i % 5 else "clinic-lists",
        ))  # fmt: skip
    _asked(day)
    for second in range(20, int(TRAFFIC_END)):
        for channel in CHANNELS:
            day.looks.append(Look("channel.poll", channel, second + 0.3, ELECTIVE + PROTECTED))


def _booked(day: Day, key: str, mrn: str, at: float, service: str, off: bool) -> None:
    slot = f"{service}-north-{key}"
    klass = CLASS_OF.get(service, "P3")
    day.ops.append(Entry("appointment.book", klass, at, key=key, subject=mrn, found=mrn,
                         value=f"a{key}", answer=slot, via="scheduling"))  # fmt: skip
    day.rows += [
        Row("scheduling", "appointment", key, mrn, "cancelled" if off else "booked",
            2 if off else 1, f"a{key}", at=DECIDED if off else at),
        Row("scheduling", "slot", slot, status="free" if off else "busy", count=0 if off else 1),
    ]  # fmt: skip
    for channel in CHANNELS:
        word, version = ("cancelled", 2) if off else ("confirmed", 1)
        day.rows.append(Row(channel, "appointment", key, mrn, word, version))
        day.looks.append(Look("channel.word", channel, at + KNOWN_S, 1, f"{key} confirmed"))
    if not off:
        day.rows.append(Row("sms", "notice", key, mrn, "delivered", digest="confirmed", at=at + 1))


def _called_off(day: Day, key: str, mrn: str) -> None:
    number = int(key[2:])
    day.ops.append(Entry(
        "appointment.calledoff", "P3", DECIDED, 0.0, key=key, subject=mrn, value="D1",
        answer=SLOT if number % 2 else "", strength="200", via="scheduling",
    ))  # fmt: skip
    unreachable = number % 50 == 0
    day.rows += [
        Row("scheduling", "rebooking", key, mrn, "requested", at=DECIDED),
        Row("sms", "notice", key, mrn, "unreachable" if unreachable else "delivered", 2,
            "cancelled", at=DECIDED + 2),
    ]  # fmt: skip
    for channel in CHANNELS:
        day.looks.append(Look("channel.word", channel, DECIDED + TOLD_S, 2, f"{key} cancelled"))


def _asked(day: Day) -> None:
    for i in range(200):
        at = 30 + i / 5
        key, channel = f"AP{i % 80:04}", CHANNELS[i % 4]
        word = "cancelled" if at > DECIDED + TOLD_S else "confirmed"
        day.ops.append(Entry("appointment.ask", "P3", at, key=key, subject=f"M{i % 80 % 40:03}",
                             via=channel, answer=word, strength="200"))  # fmt: skip
