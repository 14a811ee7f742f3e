"""How a patient asks one channel about an appointment, and which word is the answer.

It refuses to take silence for a word: no answer is no answer, and an unknown id is `unknown`.
"""

from __future__ import annotations

from typing import Any

import msgspec

from stacks.hospital.appointments.slots import SERVICES
from stacks.hospital.traffic.callers import Ask, Callers
from stacks.hospital.traffic.http import Answer, NoAnswer
from stacks.hospital.traffic.ledger import Op
from stacks.hospital.traffic.people import phone_of

CHANNELS = ("website", "callcentre", "sms", "clinic-lists")
UNKNOWN = "unknown"
ASK_S = 2.0
ASK_BOUND_S = 6.0
KLASS_MARK = {"X-Priority": "P3", "X-Ward": "patient"}


class Line(msgspec.Struct, frozen=True):
    """What /says tells of one appointment."""

    appointment: str
    patient: str
    service: str = ""
    clinic: str = ""

    @property
    def klass(self) -> str:
        """P0 to P3; P3 where the channel does not say the service."""
        return SERVICES.get(self.service, "P3")


_lines = msgspec.json.Decoder(Line)


def lines_of(answer: Answer) -> list[Line]:
    """The lines of /says; none when the answer is not one."""
    if not answer.good:
        return []
    try:
        return [_lines.decode(line) for line in answer.body.splitlines() if line]
    except (msgspec.DecodeError, UnicodeDecodeError):
        return []


def ask_channel(
    callers: Callers, op: Op, channel: str, appointment: str, mrn: str, clinic: str
) -> None:
    """Ask once; the last word of `op` is the channel's word about the appointment."""
    op.attempts = 1
    try:
        answer = callers.attempt(channel, question(channel, appointment, mrn, clinic), ASK_S)
    except NoAnswer as silence:
        end = op.unknown if silence.sent else op.refused
        end(f"{channel}: {silence.reason}", channel)
        return
    if answer.good or answer.status == 404:
        op.ok(str(answer.status), channel, mrn, word_in(channel, answer, appointment))
    else:
        op.refused(f"{channel}: {answer.status}", channel)


def question(channel: str, appointment: str, mrn: str, clinic: str) -> Ask:
    """What a patient does at this channel to learn of an appointment."""
    if channel == "callcentre":
        body = msgspec.json.encode({"appointment": appointment})
        return Ask("POST", "/calls", body, KLASS_MARK)
    path = {
        "website": f"/appointments/{appointment}",
        "sms": f"/phones/{phone_of(mrn)}",
        "clinic-lists": f"/lists/{clinic}",
    }[channel]
    return Ask("GET", path, headers=KLASS_MARK)


def word_in(channel: str, answer: Answer, appointment: str) -> str:
    """The newest word that the answer has for this appointment."""
    found = _decoded(answer.body)
    if channel in ("website", "callcentre"):
        return str(found.get("word", UNKNOWN))
    lines = found.get("messages" if channel == "sms" else "appointments", [])
    words = [
        (int(line.get("version", number) or 0), str(line.get("word", UNKNOWN)))
        for number, line in enumerate(lines)
        if isinstance(line, dict) and line.get("appointment") == appointment
    ]
    return max(words)[1] if words else UNKNOWN


def _decoded(body: bytes) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {}
    return found if isinstance(found, dict) else {}
