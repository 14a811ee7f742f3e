"""Removes what a run has created with an engine: containers, networks, volumes.

It touches nothing by name pattern: a stack is what carries its run's label, all of it and no more.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from .asking import Silent, ask_engine
from .patience import CALL_S, POLL_S, message, patient
from .processes import stat
from .step import PATIENCE_S, Step, StepFailed

RUN_LABEL = "hospital-chaos.run"
SERVICE_LABEL = "hospital-chaos.service"
QUIET_S = 2.5  # nothing of a killed harness appears for so long: its last call had been under way
REMOVAL_S = 30.0  # without anything having gone; an engine under load may need longer in all
LONGEST_S = 180.0
SIDE_BY_SIDE = 6


def remove_stack(step: Step) -> str:
    """Keep the logs of every container of a run, then remove its containers, networks, volumes.

    Ends when a look finds nothing. Where the process that raised the stack (`asker`) is not this
    one, a call of it may still be under way: then nothing must appear for QUIET_S.
    """
    run = str(step["run"])
    quiet_s = 0.0 if step.get("asker") == this_process() else QUIET_S
    removed = {"container": 0, "network": 0, "volume": 0}
    begun = gone_t = seen_t = time.monotonic()
    while True:
        troubles: list[str] = []
        found, before = 0, sum(removed.values())
        for what, listed in _every(step, troubles):
            found += len(listed)
            removed[what] += _side_by_side(_remover(step, what, troubles), listed)
        now = time.monotonic()
        if sum(removed.values()) > before:
            gone_t = now
        if found or troubles:
            seen_t = now
        elif now - seen_t >= quiet_s:
            return "removed " + ", ".join(f"{count} {what}s" for what, count in removed.items())
        if now > gone_t + REMOVAL_S or now > begun + LONGEST_S:
            raise StepFailed(
                f"run {run} is not all removed: "
                f"{'; '.join(troubles[-3:]) or f'{found} things are still there'}; {_by_hand(run)}"
            )
        time.sleep(PATIENCE_S if found and not troubles else POLL_S)


def this_process() -> list[int]:
    """This process, as a step names it that is to be played by others, too."""
    mine = stat(os.getpid())
    return [os.getpid(), mine.start if mine else 0]


def _every(step: Step, troubles: list[str]) -> Iterator[tuple[str, Sequence[Any]]]:
    """What carries the run's label. A list that the engine refuses is a trouble, never empty."""
    label = quote(json.dumps({"label": [f"{RUN_LABEL}={step['run']}"]}), safe="")
    for what, path in (
        ("container", f"/containers/json?all=1&filters={label}"),
        ("network", f"/networks?filters={label}"),
        ("volume", f"/volumes?filters={label}"),
    ):
        status, text = patient(step, "GET", path)
        if status == 200:
            listed = json.loads(text)
            yield what, (listed.get("Volumes") or []) if what == "volume" else listed
        else:
            troubles.append(f"{what}s cannot be listed: {status} {message(text)}")


def _remover(step: Step, what: str, troubles: list[str]) -> Callable[[Any], int]:
    engine = str(step["engine"])

    def remove(thing: Mapping[str, Any]) -> int:
        try:
            status, text = _removed(engine, what, thing, str(step.get("logs", "")))
        except Silent as error:  # restarted just now? the next look waits for it
            troubles.append(str(error))
            return 0
        if status not in (200, 204, 404):
            troubles.append(f"{what}: {message(text)}")
        return int(status in (200, 204))

    return remove


def _removed(engine: str, what: str, thing: Mapping[str, Any], logs: str) -> tuple[int, bytes]:
    if what != "container":
        name = thing["Id"] if what == "network" else quote(thing["Name"], safe="")
        return ask_engine(engine, "DELETE", f"/{what}s/{name}", bound_s=CALL_S)
    path = f"/containers/{thing['Id']}"
    if thing.get("State") == "paused":  # SIGKILL waits in a frozen cgroup (version 1)
        ask_engine(engine, "POST", f"{path}/unpause", bound_s=CALL_S)
    if thing.get("State") in ("running", "paused", "restarting"):
        ask_engine(engine, "POST", f"{path}/kill", bound_s=CALL_S)
    keep_log(engine, thing, logs)
    return ask_engine(engine, "DELETE", f"{path}?force=1&v=1", bound_s=CALL_S)


def _side_by_side(act: Callable[[Any], int], things: Sequence[Any]) -> int:
    if not things:
        return 0
    from concurrent.futures import ThreadPoolExecutor  # 15 ms that only a removal needs

    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        return sum(pool.map(act, things))


def keep_log(engine: str, container: Mapping[str, Any], folder: str) -> None:
    """Write what a service said into `<folder>/<service>.log`; a log lost never stops a heal."""
    service = (container.get("Labels") or {}).get(SERVICE_LABEL)
    if not folder or not service or not os.path.isdir(folder):
        return
    with contextlib.suppress(OSError):
        path = f"/containers/{container['Id']}/logs?stdout=1&stderr=1"
        status, raw = ask_engine(engine, "GET", path, bound_s=CALL_S)
        if status == 200:
            file = Path(folder, f"{os.path.basename(str(service))}.log")
            file.write_bytes(plain_log(raw))


def words(step: Step) -> str:
    """The removal in words and commands."""
    run = str(step["run"])
    return f"remove all containers, networks and volumes of run {run}: {_by_hand(run)}"


def plain_log(raw: bytes) -> bytes:
    """The engine frames a log: 8 bytes of header (stream, length) before every piece."""
    pieces = []
    at = 0
    while at + 8 <= len(raw):
        length = int.from_bytes(raw[at + 4 : at + 8], "big")
        pieces.append(raw[at + 8 : at + 8 + length])
        at += 8 + length
    return b"".join(pieces)


def _by_hand(run: str) -> str:
    only = f"--filter label={RUN_LABEL}={run}"
    return (
        f"docker rm -fv $(docker ps -aq {only}); docker network rm $(docker network ls -q {only});"
        f" docker volume rm $(docker volume ls -q {only})"
    )
