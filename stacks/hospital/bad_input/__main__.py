"""Sends every sort of bad input several times, in an order and at instants that the seed decides.

Parameters: `times` of each sort, evenly over `window_s` real seconds from `ready` on. Sorts whose
link the topology does not have are not played. It refuses to begin without sound neighbours.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from random import Random

import msgspec

from chaos.journal import events as ev
from chaos.journal.writer import JournalError
from stacks.hospital.bad_input.appointments import Clinic
from stacks.hospital.bad_input.dicom import Way
from stacks.hospital.bad_input.imaging import Radiology, Ways
from stacks.hospital.bad_input.inputs import BadInput, Sender
from stacks.hospital.bad_input.messages import bad_messages
from stacks.hospital.bad_input.neighbours import Neighbours, NoNeighbours
from stacks.hospital.bad_input.web import Web
from stacks.hospital.traffic import child
from stacks.hospital.traffic.config import Config, ConfigError, read, usage_exit
from stacks.hospital.traffic.ledger import Ledger, open_journal

EXIT_NO_NEIGHBOURS, EXIT_JOURNAL = 69, 74
ADMISSION, ENGINE = "admissions>gam.http", "gam>engine.mllp"
CLINICS = "clinics>scheduling.http"
DESK, SCANNERS = "radiology>ris.http", "modalities>dicom-router.dicom"
WORKLIST = "modalities>ris.dicom"
ARCHIVES = ("pacs-a", "pacs-b")


class Params(msgspec.Struct, forbid_unknown_fields=True):
    """What the experiment chooses."""

    times: int = 5
    window_s: float = 15.0


def main() -> int:
    """Set up, say `ready`, send, and wait until told to stop; returns the exit status."""
    stop = threading.Event()
    child.end_with_harness(stop.set)
    try:
        config = read()
        params = config.params_as(Params)
        ledger = Ledger(open_journal(config.journal), config.workload)
        return _work(config, params, ledger, stop)
    except ConfigError as error:
        usage_exit(str(error))
    except NoNeighbours as error:
        print(error, file=sys.stderr)
        return EXIT_NO_NEIGHBOURS
    except JournalError as error:
        print(error, file=sys.stderr)
        return EXIT_JOURNAL


def planned(config: Config, params: Params, ledger: Ledger) -> list[BadInput]:
    """Every bad input, shuffled by the seed. Raises: ConfigError, NoNeighbours."""
    prefix = f"{config.workload}{config.seed}"
    dice = Random(f"{config.seed}/{config.workload}")
    neighbours = Neighbours(ledger, prefix, config.real_s(60.0))
    found = list(_all(config, params.times, neighbours, dice))
    dice.shuffle(found)
    return found


def _all(config: Config, times: int, neighbours: Neighbours, dice: Random) -> Iterator[BadInput]:
    yield from bad_messages(times, neighbours.prefix, config.link(ENGINE))
    if CLINICS in config.links:
        clinic = Clinic(Web(config.link(CLINICS)), neighbours)
        yield from clinic.inputs(times, Web(config.link(ADMISSION)))
    if SCANNERS in config.links:
        radiology = Radiology(_ways(config), neighbours, dice)
        yield from radiology.inputs(times, Web(config.link(ADMISSION)))


def _ways(config: Config) -> Ways:
    return Ways(
        Way("dicom-router", config.link(SCANNERS), "CT1"),
        tuple(
            Way(name, config.link(f"dicom-router>{name}.dicom"), "DICOM_ROUTER")
            for name in ARCHIVES
        ),
        Way("ris", config.link(WORKLIST), "CT1"),
        Web(config.link(DESK)),
    )


def _work(config: Config, params: Params, ledger: Ledger, stop: threading.Event) -> int:
    """Neighbours first; `ready` when they stand, so that what follows happens beside them."""
    ledger.note(ev.WorkloadStarted(t=time.monotonic(), workload=config.workload))
    todo = planned(config, params, ledger)
    sender, sent = Sender(ledger, stop), 0
    child.announce_ready()
    began, step_s = time.monotonic(), params.window_s / (len(todo) + 1)
    for number, bad in enumerate(todo, 1):
        if stop.wait(max(0.0, began + number * step_s - time.monotonic())):
            break
        sender.send(bad)
        sent += 1
    stop.wait()
    ledger.note(ev.WorkloadEnded(
        t=time.monotonic(), workload=config.workload, planned=len(todo), started=sent,
        late_p99_ms=0.0, late_max_ms=0.0,  # one after the other: nothing is late
    ))  # fmt: skip
    ledger.close()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
