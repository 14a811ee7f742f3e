"""Undoes what a run did with containers, over the engine's own HTTP API on its Unix socket.

It names no thing by a pattern: only what a step names in full is touched. It is standard library
only, like everything a reaper may need.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from .patience import POLL_S, message, patient
from .processes import stat
from .step import PATIENCE_S, Step, StepFailed

ENDING_S = 5.0  # the engine keeps books of a killed container (its network) half a second longer
JUST_DIED = (b"stopped container", b"deleted process")
"""How Docker, and containerd below it, refuse to change one whose death Docker has not noticed."""
UNSEEN_S = 3.0  # how long a container's process may be unseen before the engine's word is taken
SHORT_ID = 12  # as in the identity of an instance
LONG_ID = 64  # an administrator needs its beginning only


def start_container(step: Step) -> str:
    """Start a container that was ended; one that runs is left alone, one that is gone, too.

    One that was just killed counts as running until the engine has cleaned up behind it: it is
    not taken for running, but started as soon as that is done.
    """
    asked = time.monotonic()
    while True:
        status, text = patient(step, "POST", f"/containers/{_name(step)}/start")
        if status == 404:
            return "the container is gone, there is nothing to start"
        if status == 409 and _state(step).get("Paused"):
            return "it runs already, and is paused"
        waited_s = time.monotonic() - asked
        if status != 304 or _runs(step, waited_s) or waited_s > ENDING_S:
            return _expect(status, text, {204: "started", 304: "it runs already"}, step)
        time.sleep(PATIENCE_S * 10)


def _runs(step: Step, waited_s: float) -> bool:
    """Whether its first process lives; the engine's word where that is in another namespace."""
    state = _state(step)
    if not state.get("Running"):
        return False
    seen = stat(int(state.get("Pid") or 0))
    return waited_s > UNSEEN_S if seen is None else seen.state not in "ZX"


def kill_container(step: Step) -> str:
    """SIGKILL to one instance of a container (`only`: id and start), to no later one; returns when
    it is dead."""
    seen = inspect(step)
    state = seen.get("State") or {}
    if not state.get("Running"):
        return "it does not run"
    if f"{seen['Id'][:SHORT_ID]}/{state['StartedAt']}" != step["only"]:
        return "another instance runs in its place"
    unpause_container(step)  # a frozen group takes no signal (cgroups version 1)
    pid = int(state.get("Pid") or 0)
    before = stat(pid)
    status, text = patient(step, "POST", f"/containers/{_name(step)}/kill")
    done = _expect(status, text, {204: "ended", 404: "it is gone", 409: "it had ended"}, step)
    deadline = time.monotonic() + ENDING_S
    while before and (now := stat(pid)) and now.start == before.start and now.state not in "ZX":
        if time.monotonic() > deadline:
            raise StepFailed(f"container {step['container']} outlives SIGKILL; see `docker ps`")
        time.sleep(PATIENCE_S)
    return done


def unpause_container(step: Step) -> str:
    """Thaw a paused container; idempotent."""
    status, text = patient(step, "POST", f"/containers/{_name(step)}/unpause")
    if status in (404, 409, 500) and not _state(step).get("Paused"):
        return "it is not paused"
    return _expect(status, text, {204: "thawed"}, step)


def update_container(step: Step) -> str:
    """Give a container its own limits back, and read them back."""
    limits: Mapping[str, int] = step["limits"]
    deadline = time.monotonic() + ENDING_S
    while True:
        status, text = patient(step, "POST", f"/containers/{_name(step)}/update", dict(limits))
        dying = any(words in text for words in JUST_DIED)
        if not dying or time.monotonic() > deadline:
            break
        time.sleep(POLL_S)
    if status == 404:
        return "the container is gone, and its limits with it"
    _expect(status, text, {200: ""}, step)
    now = inspect(step).get("HostConfig") or {}
    wrong = [f"{name} is {now.get(name)}" for name in limits if now.get(name) != limits[name]]
    if wrong:
        raise StepFailed(f"limits of container {step['container']} stay: {', '.join(wrong)}")
    return "its own limits again"


def connect_container(step: Step) -> str:
    """Attach a container to a network again, at its own address and names; idempotent."""
    network = quote(str(step["network"]), safe="")
    config: dict[str, object] = {"IPAMConfig": {"IPv4Address": step["ip"]}} if step["ip"] else {}
    if step.get("aliases"):
        config["Aliases"] = list(step["aliases"])
    body = {"Container": step["container"], "EndpointConfig": config}
    status, text = patient(step, "POST", f"/networks/{network}/connect", body)
    if status == 404:
        return "the container or the network is gone, there is nothing to attach"
    if status == 403 and b"already exists" in text:
        return "it is attached already"
    return _expect(status, text, {200: "attached"}, step)


def words(step: Step) -> str:
    """A step of this module in words and commands."""
    do, name = step["do"], str(step.get("container"))
    name = name[:12] if len(name) == LONG_ID else name
    if do == "start_container":
        return f"start {step.get('service') or name} again: docker start {name}"
    if do == "kill_container":
        began = str(step["only"]).partition("/")[2]
        return f"end {step.get('service') or name}, unless begun after {began}: docker kill {name}"
    if do == "unpause_container":
        return f"thaw {step.get('service') or name}: docker unpause {name}"
    if do == "update_container":
        limits = " ".join(f"{key}={value}" for key, value in step["limits"].items())
        return f"give container {name} its own limits back: {limits} (docker update)"
    ip = f"--ip {step['ip']} " if step["ip"] else ""
    aliases = "".join(f"--alias {alias} " for alias in step.get("aliases", ()))
    return f"attach again: docker network connect {ip}{aliases}{step['network']} {name}"


def _expect(status: int, text: bytes, good: Mapping[int, str], step: Step) -> str:
    if status in good:
        return good[status]
    raise StepFailed(f"{step['do']} {step['container']}: {status} {message(text)}")


def inspect(step: Step) -> Mapping[str, Any]:
    """What the engine says of the container; {} where it knows none. Another answer is a trouble,
    never an absence: the undo would be taken for played."""
    deadline = time.monotonic() + ENDING_S
    while True:
        status, text = patient(step, "GET", f"/containers/{_name(step)}/json")
        if status in (200, 404):
            found = json.loads(text) if status == 200 else {}
            return found if isinstance(found, dict) else {}
        if time.monotonic() > deadline:
            raise StepFailed(f"cannot look at container {step['container']}: {message(text)}")
        time.sleep(PATIENCE_S * 10)


def _state(step: Step) -> Mapping[str, Any]:
    return inspect(step).get("State") or {}


def _name(step: Step) -> str:
    return quote(str(step["container"]), safe="")
