"""The interpreter of undo steps: plays one, or tells it in words for an administrator.

A step that is not in PLAYERS is a failure, never skipped.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from urllib.parse import quote

from . import clocks, containers, endpoints, mounts, removal
from .processes import kill, thaw
from .proxies import clear_toxics, open_proxy
from .remains import remove_shm, remove_tree
from .starting import spawn
from .step import Step, StepFailed

PLAYERS: dict[str, Callable[[Step], str]] = {
    "kill": kill,
    "thaw": thaw,
    "spawn": spawn,
    "clear_toxics": clear_toxics,
    "open_proxy": open_proxy,
    "remove_shm": remove_shm,
    "remove_tree": remove_tree,
    "start_container": containers.start_container,
    "kill_container": containers.kill_container,
    "unpause_container": containers.unpause_container,
    "update_container": containers.update_container,
    "connect_container": containers.connect_container,
    "remove_stack": removal.remove_stack,
    "leave_endpoint": endpoints.leave_endpoint,
    "restore_endpoint": endpoints.restore_endpoint,
    "set_clock_right": clocks.set_right,
    "clear_storage": mounts.clear_storage,
    "unmount": mounts.unmount,
    "nothing": lambda _step: "there was nothing in the world to undo",
}


def play_step(step: Step) -> str:
    """Play one step and return what was done; StepFailed when it is unknown or did not work."""
    player = PLAYERS.get(str(step.get("do")))
    if player is None:
        raise StepFailed(f"unknown undo step {step.get('do')!r}; a newer version wrote it?")
    try:
        return player(step)
    except StepFailed:
        raise
    except Exception as error:  # a malformed step must not end the reaper
        raise StepFailed(f"{step.get('do')}: {type(error).__name__}: {error}") from error


def describe(step: Step) -> str:
    """The step in words and commands, so that an administrator can do it by hand."""
    do = str(step.get("do"))
    if do in ("kill", "thaw"):
        verb, number = ("end", "KILL") if do == "kill" else ("thaw", "CONT")
        return (
            f"{verb} all processes of {step.get('service') or 'the stack'}: those that work in "
            f"{step['folder']} (ls -l /proc/*/cwd) or carry {' '.join(step.get('marks', ()))} "
            f"in their environment; kill -{number} each"
        )
    if do == "spawn":
        words = " ".join(shlex.quote(str(word)) for word in step["argv"])
        where = f"cd {step['cwd']} && {words}"
        return f"start {step['service']} again: {where}  (its environment lies in the lease file)"
    if do in ("clear_toxics", "open_proxy"):
        url = f"http://{step['api'][0]}:{step['api'][1]}/proxies/{quote(str(step['proxy']), '')}"
        if do == "open_proxy":
            by = f',"by":"{step["by"]}"' if step.get("by") else ""
            body = f'{{"enabled":true{by}}}'
            return f"open the link {step['proxy']}: curl -X POST -d '{body}' {url}"
        calls = "; ".join(f"curl -X DELETE {url}/toxics/{quote(t, '')}" for t in step["toxics"])
        return f"make the link {step['proxy']} healthy: {calls}"
    if do in ("clear_storage", "unmount"):
        return mounts.describe(step)
    if do == "remove_shm":
        return f"remove shared memory named in {step['folder']}/**/postmaster.pid, line 7: ipcrm -m"
    if do == "remove_tree":
        return f"remove the folder {step['folder']}"
    if do == "set_clock_right":
        return clocks.words(step)
    if do.endswith("_endpoint"):
        return endpoints.words(step)
    if do == "remove_stack":
        return removal.words(step)
    if do.endswith("_container"):
        return containers.words(step)
    return str(step.get("text", "nothing")) if do == "nothing" else f"unknown step {do!r}"
