"""HL7 messages that the interface engine must refuse by itself, before anybody is sent them.

It refuses to take silence for an acknowledgement.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

from stacks.hospital.bad_input import inputs
from stacks.hospital.bad_input.inputs import BadInput, Heard, no_answer
from stacks.hospital.settings import Address
from stacks.hospital.wire.hl7 import to_timestamp
from stacks.hospital.wire.mllp import MllpClient, MllpError

TARGET = "engine"
SORTS = (
    ("a message of a type that nobody takes", "ZZZ^Z99", "P", "2.5.1"),
    ("a message that says it is neither live nor a test", "ADT^A08", "X", "2.5.1"),
    ("a message of a version that is not HL7 v2", "ADT^A08", "P", "9.9"),
)
"""(what is wrong, MSH-9, MSH-11, MSH-12)"""


def bad_messages(times: int, prefix: str, engine: Address) -> Iterator[BadInput]:
    """`times` messages, of SORTS in turn."""
    for number in range(times):
        what, kind, processing, version = SORTS[number % len(SORTS)]
        name, mrn = f"{prefix}-M{number}", f"{prefix}-X{number}"
        payload = (
            f"MSH|^~\\&|STRANGER|ELSEWHERE|ENGINE|HOSPITAL|{to_timestamp(time.time())}||{kind}|"
            f"{name}|{processing}|{version}|||AL|NE\rPID|1||{mrn}||Stranger^Any\r"
        ).encode()
        yield _input(name, mrn, what, payload, engine)


def _input(name: str, mrn: str, what: str, payload: bytes, engine: Address) -> BadInput:
    return BadInput(
        inputs.MESSAGE, name, mrn, TARGET, what,
        lambda: asyncio.run(_attempt(payload, name, engine)),
    )  # fmt: skip


async def _attempt(payload: bytes, control_id: str, engine: Address) -> Heard:
    client = MllpClient(engine)
    try:
        ack = await client.send(payload, control_id)
    except MllpError as error:
        return no_answer(error.reason, maybe=error.sent)
    finally:
        await client.close()
    words = f"{ack.code} {ack.error} {ack.text}".strip()
    if ack.transient:
        return no_answer(words, maybe=False)
    return Heard(words, taken=ack.accepted)
