"""Heals storage arrays: clears their faults over the control socket, and unmounts them.

It unmounts nothing but file systems of our own kind, believes nothing but /proc/self/mountinfo,
and never looks into a mounted folder: a dead or hung one would hold it up for ever.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import socket
import subprocess
import time
from pathlib import Path

from .processes import kill
from .step import PATIENCE_S, Step, StepFailed

CALL_S = 2.0  # one order to an array
TOOL_S = 3.0  # one call of fusermount3
POLITE_S = 0.3  # an array that nobody uses is unmounted by then
MOST_ANSWER = 8 << 20
KIND = "fuse.hospital-chaos"  # the type of our file systems, as chaos/storage mounts them
DETACH = 2  # MNT_DETACH of umount2(2)


def clear_storage(step: Step) -> str:
    """End named faults of an array and read back that they are gone. A fault whose array has no
    server any more is gone with it."""
    names = [str(name) for name in step["names"]]
    try:
        answer = _ask(str(step["control"]), {"do": "clear", "names": names})
    except (FileNotFoundError, ConnectionRefusedError):
        return "the array's server is gone, and its faults with it"
    except (OSError, ValueError) as error:
        raise StepFailed(
            f"array at {step['control']} does not answer: {error}; end its server, then unmount "
            f"{step.get('mount', 'it')}"
        ) from error
    armed = answer.get("armed")
    left = set(names) & set(armed if isinstance(armed, list) else names)
    if answer.get("ok") is not True or left:
        raise StepFailed(f"faults {', '.join(sorted(left))} stay armed: {answer.get('error', '')}")
    return "cleared"


def _ask(control: str, order: object) -> dict[str, object]:
    deadline = time.monotonic() + CALL_S
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as wire:
        wire.settimeout(CALL_S)
        wire.connect(control)
        wire.sendall(json.dumps(order).encode() + b"\n")
        answer = bytearray()
        while not answer.endswith(b"\n") and len(answer) < MOST_ANSWER:
            wire.settimeout(max(0.001, deadline - time.monotonic()))
            piece = wire.recv(65536)
            if not piece:
                break
            answer += piece
    found = json.loads(answer or b"{}")
    return found if isinstance(found, dict) else {}


def unmount(step: Step) -> str:
    """Unmount an array of ours: politely, else end its server (the scope of the step) and unmount
    what that has left, in the last resort lazily. Verified in the list of mounts."""
    place = str(step["mount"])
    if place not in mounts():
        kill(step)  # a server that was about to mount must not do so later
        if place not in mounts():
            return "it is not mounted"
    deadline = time.monotonic() + POLITE_S
    while _ours(place) and time.monotonic() < deadline:
        if _tool(place) or place not in mounts():
            break
        time.sleep(PATIENCE_S * 20)
    kill(step)
    for lazily in (False, True):
        if _ours(place):
            _tool(place, *(["-z"] if lazily else []))
    if _ours(place) and os.geteuid() == 0:
        ctypes.CDLL(None, use_errno=True).umount2(os.fsencode(place), DETACH)
    if _ours(place):
        raise StepFailed(f"{place} stays mounted; unmount it: fusermount3 -u -z {place}")
    return "unmounted"


def describe(step: Step) -> str:
    """The step in words and commands."""
    if step.get("do") == "unmount":
        return (
            f"end the array's server (ps ax | grep {step['mount']}), then unmount it: "
            f"fusermount3 -u -z {step['mount']}"
        )
    order = json.dumps({"do": "clear", "names": list(step["names"])})
    return f"end storage faults: echo {order!r} | nc -U -N {step['control']}"


def mounts(seen_by: int | str = "self") -> dict[str, str]:
    """What is mounted now: place → type of file system (the topmost, where there are several), as
    that process sees it. OSError when it cannot be looked at."""
    found = {}
    listed = Path(f"/proc/{seen_by}/mountinfo").read_text("utf-8", "surrogateescape")
    for line in listed.splitlines():
        words = line.split()
        with contextlib.suppress(ValueError, IndexError):
            place = re.sub(r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), words[4])
            found[place] = words[words.index("-") + 1]
    return found


def mounts_below(folder: str) -> list[str]:
    """What is mounted on the folder or inside of it."""
    return sorted(p for p in mounts() if p == folder or p.startswith(folder.rstrip("/") + "/"))


def _ours(place: str) -> bool:
    """Whether our array is mounted there; StepFailed when something else is."""
    kind = mounts().get(place)
    if kind is not None and kind != KIND:
        raise StepFailed(f"{place} carries a mount of type {kind} that is not ours; leave it be")
    return kind is not None


def _tool(place: str, *options: str) -> bool:
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run(
            ["fusermount3", "-u", "-q", *options, "--", place],
            stdin=subprocess.DEVNULL, capture_output=True, timeout=TOOL_S, check=False,
        )  # fmt: skip
        return done.returncode == 0
    return False
