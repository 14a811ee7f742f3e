"""The container engine as the runtime sees it: a bounded client whose failures are words.

It holds no state of a stack and removes nothing; removal is the reaper's (chaos/reaper/removal).
"""

from __future__ import annotations

import os
import socket
import stat
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from chaos import reaper
from chaos.runtime import RuntimeFailure

T = TypeVar("T")

SOCKET = "/var/run/docker.sock"
PEER_S = 5.0
CALL_S = 60  # one call of the SDK; creating containers side by side on two cores takes seconds
HINTS = {
    "no space left": "; free some space where the engine keeps its data (docker system df)",
    "No such image": "; build it (`make image`) or pull it",
}
NOT_YOURS = (
    "you may not use the Docker engine's socket {}; join its group (usermod -aG docker YOU, then "
    "log in again) or run as root"
)
GET = "; get it with `pip install 'hospital-chaos[docker]'`"


class NameTaken(RuntimeFailure):
    """A name that somebody else's container, network or volume has."""


class SubnetTaken(NameTaken):
    """A subnet that another network has: choose another."""


def socket_path() -> str:
    """The engine's Unix socket. RuntimeFailure where DOCKER_HOST names something else."""
    host = os.environ.get("DOCKER_HOST", "")
    if host and not host.startswith("unix://"):
        raise RuntimeFailure(
            f"DOCKER_HOST={host}: runtime docker needs the engine of this machine, over its Unix "
            "socket (it reaches containers by their addresses); unset DOCKER_HOST"
        )
    return host.removeprefix("unix://") or SOCKET


def missing() -> str:
    """Why containers cannot be raised here, and what to do; '' when they can."""
    try:
        client = connect()
        with told("ask the engine"):
            client.version()
    except RuntimeFailure as failure:
        return str(failure)
    return ""


def connect() -> Any:
    """The engine's low-level client (docker.APIClient). RuntimeFailure says what is missing."""
    path = socket_path()
    try:
        import docker
        import docker.errors
    except ImportError as error:
        raise RuntimeFailure(f"runtime docker needs the package `docker`{GET} ({error})") from error
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            raise RuntimeFailure(f"{path} is no socket; is a Docker engine installed?")
    except PermissionError as error:
        raise RuntimeFailure(NOT_YOURS.format(path)) from error
    except OSError as error:
        raise RuntimeFailure(
            f"no Docker engine listens at {path} ({error.strerror}); install and start one "
            "(Debian: apt-get install docker.io; dockerd)"
        ) from error
    if why := _refusal(path):
        raise RuntimeFailure(why)
    with told("connect to the engine"):
        return docker.APIClient(base_url=f"unix://{path}", version="auto", timeout=CALL_S)


def _refusal(path: str) -> str:
    """Why the socket takes no connection from us; '' when it does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as wire:
        try:
            wire.settimeout(PEER_S)
            wire.connect(path)
        except PermissionError:
            return NOT_YOURS.format(path)
        except OSError as error:
            return f"no Docker engine listens at {path} ({error.strerror or error}); start dockerd"
    return ""


@cache
def shares_processes(path: str) -> bool:
    """Whether the process numbers that the engine at this socket gives are ours, too."""
    pid = peer(path)
    with suppress(OSError):
        lines = Path(f"/proc/{pid}/status").read_text("ascii").splitlines()
        return any(line.split() == ["NSpid:", str(pid)] for line in lines)
    return False


def process(path: str) -> str:
    """Which process serves this socket now, as `pid/start`: another one after a restart.

    '' when nobody listens. Where a supervisor holds the socket it is always the supervisor.
    """
    seen = reaper.stat(pid) if (pid := peer(path)) else None
    return f"{pid}/{seen.start}" if seen else ""


def peer(path: str) -> int:
    """The process that listens at the socket (or its supervisor); 0 when nobody does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as wire, suppress(OSError):
        wire.settimeout(PEER_S)
        wire.connect(path)
        found = wire.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        return int(struct.unpack("3i", found)[0])
    return 0


@contextmanager
def told(what: str) -> Iterator[None]:
    """Turn whatever the SDK raises into one RuntimeFailure with the engine's own words."""
    import docker.errors
    import requests.exceptions

    try:
        yield
    except docker.errors.APIError as error:
        words = str(error.explanation or error).strip()
        if "overlaps" in words:
            raise SubnetTaken(f"cannot {what}: {words}") from error
        if error.status_code == 409 and ("already in use" in words or "already exists" in words):
            raise NameTaken(f"cannot {what}: {words}; it is not of this run: remove it") from error
        hint = next((told for sign, told in HINTS.items() if sign in words), "")
        raise RuntimeFailure(f"cannot {what}: {words}{hint}") from error
    except (docker.errors.DockerException, requests.exceptions.RequestException, OSError) as error:
        raise RuntimeFailure(
            f"cannot {what}: the engine does not answer ({type(error).__name__}); is dockerd "
            "running, and may you use its socket?"
        ) from error


def gently(ask: Callable[[], T], what: str, missing: T) -> T:
    """Ask; where the thing asked about is gone, `missing`. Other failures are RuntimeFailures."""
    import docker.errors

    with told(what):
        try:
            return ask()
        except docker.errors.NotFound:
            return missing
