"""Storage arrays under containers: mounted by the harness on this machine, bound into containers.

It mounts nothing itself (mounted.py does), and takes the engine's word for nothing: whether it sees
a mount is read from the kernel's list for the engine's own process.

    this machine                                     a container
    <folder>/.arrays/<array>   the real files
    <folder>/<array>           a plain folder   ───▶ /arrays           bound, with what is mounted
    <folder>/<array>/<array>   the array             /arrays/<array>   in it

The plain folder is what the engine looks at when it starts a container: an array that hangs or is
gone would hold the engine up, or keep the container from starting, where only the service must feel
it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from chaos.reaper.mounts import mounts
from chaos.runtime import NotReady, engine
from chaos.runtime.mounted import MountedArrays
from chaos.stack import Service

PLACE = "/arrays"  # in a container


class Containers:
    """The containers of one engine, as guests on mounted arrays (chaos.runtime.mounted.Guests)."""

    def __init__(self, socket: str, owner: int) -> None:
        """`owner`: user and group that containers run as."""
        self.owner = owner
        self._socket = socket

    def fail_if_unseen(self, mount: Path) -> None:
        """NotReady when the engine lives among other mounts than we do."""
        pid = engine.peer(self._socket)
        try:
            seen = mounts(pid)
        except OSError:  # not ours to look at: then the first container fails, and says why
            return
        if str(mount) not in seen:
            raise NotReady(
                f"the container engine (process {pid}) does not see what we mount at {mount}: it "
                "lives in a mount namespace of its own; start dockerd in this machine's own"
            )


def bound(arrays: MountedArrays, service: Service, volume: str) -> Any:
    """What the service's container gets at PLACE: its array where that can fail, else `volume`."""
    from docker.types import Mount

    if data := arrays.folder_of(service):
        return Mount(PLACE, str(data.parent.parent), type="bind")
    return Mount(PLACE, volume, type="volume")


def data_folder(arrays: MountedArrays, service: Service) -> str:
    """The service's own folder, as its container sees it."""
    if data := arrays.folder_of(service):
        return f"{PLACE}/{data.parent.name}/{data.name}"
    return f"{PLACE}/{service.name}"
