"""A partner sends messages that the engine must take and that their receivers refuse for good.

    order without a test (OML^O21) ──▶ engine ──▶ laboratory: refused, segment ORC is missing
    report without a value (ORU^R01) ─▶ engine ──▶ record: refused, segment OBX is missing

Header and patient are well formed, so that the fault is none of the engine's. It refuses to send
anything else, to take silence for an acknowledgement, and to end before it is told to.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from dataclasses import dataclass

from chaos.journal import events as ev
from chaos.journal.writer import JournalError
from stacks.hospital.settings import Address
from stacks.hospital.traffic import child
from stacks.hospital.traffic.config import Config, ConfigError, read, usage_exit
from stacks.hospital.traffic.ledger import Ledger, Op, open_journal
from stacks.hospital.wire.hl7 import Ack, Header, Order, Report, build
from stacks.hospital.wire.mllp import MllpClient, MllpError

LINK = "partner>engine.mllp"
KIND, KLASS = "message.poison", "P4"
SENDER = "PARTNER"
PATIENCE_S = 30.0  # the engine may be away for a while
PAUSE_S = 0.5
EXIT_JOURNAL = 74


@dataclass(frozen=True, slots=True)
class Poison:
    """One message; `what` says in words what is wrong with it."""

    control_id: str
    mrn: str
    what: str
    payload: bytes


def poisons(prefix: str, now: float) -> tuple[Poison, ...]:
    """An order and a report, each for one receiver; `now` in Unix seconds."""
    made = []
    for number, (kind, what) in enumerate(
        (("OML", "an order without a test"), ("ORU", "a report without a value")), 1
    ):
        name, mrn = f"{prefix}-{number}", f"PARTNER-{number}"
        header = Header(name, sender=SENDER, receiver="ENGINE", at=now)
        body = (
            Order(name, mrn, ())
            if kind == "OML"
            else Report(name, name, mrn, "final", (), issued_at=now)
        )
        made.append(Poison(name, mrn, what, build(header, body)))
    return tuple(made)


class Partner:
    """Sends poison to the engine, each message until it is acknowledged, PATIENCE_S at most."""

    def __init__(self, engine: Address, ledger: Ledger, stop: threading.Event) -> None:
        self._engine, self._ledger, self._stop = engine, ledger, stop

    def send(self, poison: Poison) -> bool:
        """Whether the engine took it; the ledger says what happened in any case."""
        op = self._ledger.invoke(
            KIND, KLASS, time.monotonic(), PATIENCE_S, key=poison.control_id, subject=poison.mrn,
            ward="partner", target="engine", value=poison.what,
        )  # fmt: skip
        trouble, end = "never tried", op.intended + PATIENCE_S
        while time.monotonic() < end and not self._stop.is_set():
            op.attempts += 1
            try:
                ack = asyncio.run(self._attempt(poison))
            except MllpError as error:
                trouble = error.reason
            else:
                if ack.accepted or not ack.transient:
                    return _answered(op, ack)
                trouble = f"{ack.code} {ack.error} {ack.text}".strip()
            self._stop.wait(PAUSE_S)
        op.unknown(trouble, "engine")
        return False

    async def _attempt(self, poison: Poison) -> Ack:
        client = MllpClient(self._engine)
        try:
            return await client.send(poison.payload, poison.control_id)
        finally:
            await client.close()


def _answered(op: Op, ack: Ack) -> bool:
    if ack.accepted:
        op.ok(ack.code, "engine")
    else:
        op.refused(f"{ack.code} {ack.error} {ack.text}".strip(), "engine")
    return ack.accepted


def main() -> int:
    """Send, say `ready`, and wait until told to stop; returns the exit status."""
    stop = threading.Event()
    child.end_with_harness(stop.set)
    try:
        config = read()
        address = config.link(LINK)
        ledger = Ledger(open_journal(config.journal), config.workload)
        return _work(config, Partner(address, ledger, stop), ledger, stop)
    except ConfigError as error:
        usage_exit(str(error))
    except JournalError as error:
        print(error, file=sys.stderr)
        return EXIT_JOURNAL


def _work(config: Config, partner: Partner, ledger: Ledger, stop: threading.Event) -> int:
    """`ready` comes after the messages: what the experiment does next happens to a hospital that
    has them."""
    ledger.note(ev.WorkloadStarted(t=time.monotonic(), workload=config.workload))
    planned = poisons(f"{config.workload}-{config.seed}", time.time())
    not_taken = [poison.what for poison in planned if not partner.send(poison)]
    child.announce_ready()
    stop.wait()
    ledger.note(ev.WorkloadEnded(
        t=time.monotonic(), workload=config.workload, planned=len(planned), started=len(planned),
        late_p99_ms=0.0, late_max_ms=0.0, ok=not not_taken,
        reason=f"the engine did not take {' and '.join(not_taken)}" if not_taken else "",
    ))  # fmt: skip
    ledger.close()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
