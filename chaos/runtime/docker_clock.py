"""Wall clocks of containers that can be set: a preloaded library maps one number per service.

Only services that an experiment names beforehand get it: it stands between a program and its C
library, and whose clock nobody moves shall run without. It moves no monotonic clock, and no clock
of a program that is linked statically. (libfaketime was tried: see the decisions in
ARCHITECTURE.md.)
"""

from __future__ import annotations

import contextlib
import email.utils
import http.client
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from chaos.reaper import clocks
from chaos.runtime import Address, ClockLook, RuntimeFailure, Step, engine
from chaos.runtime.containers import OfContainers

LIBRARY = "/opt/wall-clock.so"  # where the image has wall_clock.c
PLACE = "/run/clock"  # in the container, read only
FILE = "offset"
ASK_S = 1.0
# The clock of a process started inside, and which processes run without the library.
LOOK = (
    "date +%s.%N; for p in /proc/[0-9]*; do c=$(cat $p/comm 2>/dev/null) || continue; "
    'case "$c" in docker-init|tini|sh|cat) continue;; esac; '
    'grep -q wall-clock $p/maps 2>/dev/null && echo "with $c" || echo "apart $c"; done'
)


class WithClocks(OfContainers, Protocol):
    """What such a runtime brings itself."""

    clock_folder: Path  # of the run; one folder per service below it
    clocked: set[str]  # services that are raised with a clock of their own

    def address(self, service: str, port: str) -> Address:
        """Where the service itself listens."""


def prepare_clocks(self: WithClocks, services: tuple[str, ...]) -> None:
    """Remember them; `up` makes their clocks."""
    self.clocked |= {self.stack.service(name).name for name in services}


def environment(self: WithClocks, service: str) -> dict[str, str]:
    """What the service's programs need to go by that clock; {} without one."""
    if service not in self.clocked:
        return {}
    return {
        "LD_PRELOAD": LIBRARY,
        "WALL_CLOCK": f"{PLACE}/{FILE}",
    }


def mounts(self: WithClocks, service: str) -> list[Any]:
    """The folder with its clock, made now and showing the right time; [] without one."""
    from docker.types import Mount

    if service not in self.clocked:
        return []
    folder = self.clock_folder / service
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    clocks.make(folder / FILE)
    return [Mount(PLACE, str(folder), type="bind", read_only=True)]


def set_clock(self: WithClocks, service: str, offset_s: float) -> None:
    """Write the offset; every process of the service has it at once."""
    file = _file(self, service)
    try:
        clocks.write(file, offset_s)
    except OSError as error:
        raise RuntimeFailure(f"cannot set the clock of {service}: {file}: {error}") from error


def undo_set_clock(self: WithClocks, service: str) -> tuple[Step, ...]:
    """Zero its file."""
    return (
        {"do": "set_clock_right", "file": str(_file(self, service)), "service": service},
    )  # fmt: skip


def clock(self: WithClocks, service: str) -> ClockLook:
    """By the Date of the service's own HTTP answer; where it sends none, by asking inside."""
    return _by_answer(self, service) or _from_inside(self, service)


def _by_answer(self: WithClocks, service: str) -> ClockLook | None:
    ready = self.stack.service(service).ready
    address = self.address(service, ready.port)
    with contextlib.suppress(OSError, http.client.HTTPException, ValueError, TypeError):
        connection = http.client.HTTPConnection(address.host, address.port, timeout=ASK_S)
        try:
            connection.request("GET", ready.path)
            said = connection.getresponse().getheader("Date")
            if said:
                then = email.utils.parsedate_to_datetime(said).timestamp() + 0.5  # whole seconds
                return ClockLook(then - time.time(), "its own HTTP answers")
        finally:
            connection.close()
    return None


def _from_inside(self: WithClocks, service: str) -> ClockLook:
    name, what = self._container(service), f"ask the clock of {service}"
    with engine.told(what):
        made: Mapping[str, Any] = self._api.exec_create(name, ["sh", "-c", LOOK])
        began = time.time()
        text: bytes = self._api.exec_start(made["Id"])
        ended = time.time()
    first, *rest = text.decode("utf-8", "replace").splitlines() or [""]
    try:
        offset_s = float(first) - (began + ended) / 2
    except ValueError as error:
        raise RuntimeFailure(f"cannot {what}: it answered {first!r}") from error
    apart = [line.removeprefix("apart ") for line in rest if line.startswith("apart ")]
    return ClockLook(offset_s, "a program started beside it", tuple(sorted(set(apart))))


def _file(self: WithClocks, service: str) -> Path:
    self.stack.service(service)
    if service not in self.clocked:
        raise RuntimeFailure(
            f"{service} was raised with the machine's own clock, which nobody may set; its fault "
            "must be known before the stack is raised (an experiment's rehearsal sees to that)"
        )
    return self.clock_folder / service / FILE
