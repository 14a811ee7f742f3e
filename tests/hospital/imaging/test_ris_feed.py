"""From the engine to radiology: orders and merges that were accepted while it was away arrive."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

from stacks.hospital.settings import Address
from stacks.hospital.wire import hl7
from stacks.hospital.wire.mllp import MllpClient
from tests.ports import free_port

from ..programs import Program, until
from .ris_stand import RisProgram, question, report

ORDERS = 20


def give(port: int, *bodies: hl7.Adt | hl7.ImagingOrder) -> None:
    """Each to the engine, acknowledged."""

    async def send() -> None:
        client = MllpClient(Address("127.0.0.1", port))
        for body in bodies:
            name = hl7.new_control_id()
            header = hl7.Header(name, sender="EHR", receiver="ENGINE", at=1e9)
            assert (await client.send(hl7.build(header, body), name, 5.0)).accepted
        await client.close()

    asyncio.run(send())


def test_what_was_ordered_while_radiology_was_away_is_on_the_worklist(tmp_path: Path) -> None:
    """Radiology is killed; orders, an admission and a merge go to the engine, studies are made
    without the worklist. It comes back: each order is there once, each study at its order."""
    mllp = free_port()
    ris = RisProgram(tmp_path / "ris")
    links = {"BIND_MLLP": f"127.0.0.1:{mllp}", "LINK_RIS_MLLP": f"127.0.0.1:{ris.mllp}"}
    with Program("engine", tmp_path / "engine", links) as engine, ris:
        give(mllp, hl7.Adt("A01", "M0", "Dubois", "Ana", visit="V0"))
        give(mllp, *(_order(number) for number in range(ORDERS)))
        until("orders on the worklist", 10, lambda: len(_worklist(ris)) == ORDERS)
        ris.end(signal.SIGKILL)
        give(mllp, *(_order(number) for number in range(ORDERS, 2 * ORDERS)))
        give(mllp, hl7.Adt("A40", "N0", "Dubois", "Ana", prior_mrn="M0"))
        give(mllp, hl7.ImagingOrder("P-merged", "N0", "MR", ("MR",)))
        ris.start()
        studies = {f"2.25.{100 + number}": number for number in range(0, 2 * ORDERS, 5)}
        for study, number in studies.items():
            placer = f"P{number}" if number % 2 else ""
            begun = report(study, f"M{number}", f"DTCT-{number}", placer)
            assert ris.create(f"2.25.9{study[5:]}", begun).Status == 0

        def matched() -> dict[str, str | None]:
            return {study: one["placer"] for study, one in ris.matches().items()}

        wanted = {study: f"P{number}" for study, number in studies.items()}
        until("every study at its order", 15, lambda: matched() == wanted)
        assert ris.tasks() == []
        left = 2 * ORDERS + 1 - len(studies)
        until("the rest on the worklist", 10, lambda: len(_worklist(ris)) == left)
        _, (entry,) = ris.ask(question("M0", "MR"))
        assert (entry.PatientID, str(entry.PatientName)) == ("N0", "Dubois^Ana")
        assert {row["count"] for row in ris.export()} == {1}

        def owed() -> tuple[int, int]:
            queue = engine.http.get("/queues").json()["ris"]
            return queue["depth"], queue["parked"]

        until("nothing is owed", 10, lambda: owed() == (0, 0))


def _order(number: int) -> hl7.ImagingOrder:
    return hl7.ImagingOrder(f"P{number}", f"M{number}", "CT", ("CT",))


def _worklist(ris: RisProgram) -> list[object]:
    found: list[object] = ris.http.get("/worklist").json()
    return found
