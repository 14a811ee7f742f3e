"""Storage arrays that can fail: one FUSE passthrough each, a child program of the harness.

It mounts nothing that `prepare` did not ask for, and nothing before its undo could be on disk.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

from chaos import reaper
from chaos.reaper.mounts import mounts
from chaos.runtime import NotReady, Progress, RuntimeFailure, cannot_store
from chaos.runtime.arrays import (
    Step,
    StorageFault,
    StorageLook,
    StorageOperation,
    StorageRecord,
)
from chaos.runtime.children import RUN, Children
from chaos.stack import Service, Stack
from chaos.storage import touch
from chaos.storage.client import StorageArray, StorageError
from chaos.storage.mounting import missing, only_root

SERVER = "_storage-"  # of an array's server among the processes of a stack
BACKING = ".arrays"  # where the real files lie, beside the mounts
MOUNTED_S = 10.0
LOOK_S = 0.02
ENDED_S = 1.0  # a touch that was killed is gone by then

T = TypeVar("T")
Restart = Callable[[str, str], tuple[Step, ...]]


class Guests(Protocol):
    """Those who work on an array and are no processes of ours: they get it from a folder in which
    nothing is but the mount, `<array>/<array>`."""

    owner: int  # of the volumes' folders: user and group

    def fail_if_unseen(self, mount: Path) -> None:
        """NotReady when they would not find the mount there."""


class MountedArrays:
    """The arrays of one stack."""

    def __init__(
        self, stack: Stack, children: Children, restart: Restart, guests: Guests | None = None
    ) -> None:
        """`restart`: the steps of `undo_by_restart`; `guests`: where services are no processes."""
        self._stack = stack
        self._folder = children.folder
        self._children = children
        self._restart = restart
        self._guests = guests
        self._prepared: dict[str, None] = {}  # in the order in which they were asked for
        self._servers: dict[str, tuple[int, int]] = {}  # array → pid and start of its server

    # ------------------------------------------------------------ up and down

    def prepare(self, arrays: tuple[str, ...]) -> None:
        """RuntimeFailure for an array that no service is on, or where FUSE cannot be had."""
        for array in arrays:
            self._stack.volumes_on(array)
            if array in {s.name for s in self._stack.services}:
                raise RuntimeFailure(f"array {array} is called like a service; rename one of them")
            self._prepared[array] = None
        if why := missing() or (only_root() if self._guests else ""):
            raise cannot_store(why)

    @property
    def prepared(self) -> tuple[str, ...]:
        """The arrays that can fail."""
        return tuple(self._prepared)

    def folder_of(self, service: Service) -> Path | None:
        """Where the service's data lie on an array that can fail; None where they do not."""
        volume = service.volume
        if volume is None or volume.array not in self._prepared:
            return None
        return self._mount(volume.array) / volume.name

    def undo_up(self) -> tuple[Step, ...]:
        """End the servers and unmount; the stack's services are dead by then."""
        return tuple(
            {"do": "unmount", "mount": str(self._mount(array)), **self._server(array)}
            for array in self._prepared
        )

    def _mount(self, array: str) -> Path:
        place = self._folder / array
        return place / array if self._guests else place

    def _server(self, array: str) -> dict[str, object]:
        return self._children.scope(SERVER + array)

    def up(self, play: Callable[[tuple[Step, ...]], None], progress: Progress) -> None:
        """Make the folders, start the servers, wait until each is mounted; NotReady otherwise."""
        for array in self._prepared:
            backing, mount = self._folder / BACKING / array, self._mount(array)
            for place in (backing, mount, self._folder / (SERVER + array)):
                place.mkdir(parents=True, exist_ok=True)
            for place in (backing, mount, mount.parent) if self._guests else ():
                place.chmod(0o755)  # others than we go through it, whatever our umask is
            for service in self._stack.volumes_on(array):
                assert service.volume is not None
                volume = backing / service.volume.name
                volume.mkdir(mode=0o755)
                if self._guests:
                    os.chown(volume, self._guests.owner, self._guests.owner)
            command = [
                sys.executable, "-m", "chaos.storage", "--backing", str(backing),
                "--mount", str(mount), "--control", str(self._control(array)),
            ]  # fmt: skip
            play((self._children.spawn(SERVER + array, command, {}),))
            progress(SERVER + array, "starting")
        for array in self._prepared:
            self._await(array)
            if self._guests:
                self._guests.fail_if_unseen(self._mount(array))
            progress(SERVER + array, "ready")

    def _await(self, array: str) -> None:
        deadline = time.monotonic() + MOUNTED_S
        root = reaper.read_pidfile(self._server(array)["pidfile"])
        while True:
            try:
                pid = int(self._orders(array).who()["pid"])
                if str(self._mount(array)) in mounts() and (seen := reaper.stat(pid)):
                    self._servers[array] = (pid, seen.start)
                    return
            except StorageError:
                pass
            reaper.bury()
            if time.monotonic() > deadline or root is None or not reaper.lives(*root):
                log = self._children.log(SERVER + array)
                raise NotReady(f"array {array} was not mounted; see {log}")
            time.sleep(LOOK_S)

    def lost(self) -> str:
        """An array whose server ended, in words."""
        ended = [a for a, server in self._servers.items() if not reaper.lives(*server)]
        return f"the server of array {ended[0]} ended in the middle of the run" if ended else ""

    # ------------------------------------------------------------ faults

    def arm(self, array: str, fault: StorageFault, expires_s: float) -> None:
        """RuntimeFailure with the array's own words when it refuses."""
        order = {"name": fault.name, "kind": fault.kind, **fault.terms}
        self._told(lambda: self._orders(array).arm({**order, "expires_s": expires_s}))

    def faults(self, array: str) -> tuple[str, ...]:
        """Asked of the array's server."""
        return self._told(lambda: self._orders(array).armed())

    def record(self, array: str, name: str) -> StorageRecord | None:
        """As the array's server keeps it."""
        found = self._told(lambda: self._orders(array).records()).get(name)
        return None if found is None else _record(found)

    def cut_power(self, array: str, name: str) -> StorageRecord:
        """Roll back by the array's own log."""
        return _record(self._told(lambda: self._orders(array).power_cut(name)))

    def look(
        self,
        array: str,
        volume: str,
        operation: StorageOperation,
        within_s: float,
        size: int = 4096,
    ) -> StorageLook:
        """By a program of its own, which can be killed when it hangs."""
        command = [sys.executable, "-I", "-S", touch.__file__]
        words = [str(self._mount(array) / volume), operation, str(size)]
        began = time.monotonic()
        child = subprocess.Popen(
            [*command, *words], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        assert child.stdout is not None
        with child.stdout:
            try:
                child.wait(within_s)
                outcome, ms, free = json.loads(child.stdout.readline())
                return StorageLook(str(outcome), float(ms), int(free))
            except (subprocess.TimeoutExpired, ValueError):
                ended_ms = (time.monotonic() - began) * 1e3
            child.kill()
            try:
                child.wait(ENDED_S)
            except subprocess.TimeoutExpired:
                reaper.CHILDREN.append(child)  # it ends with the array; buried then
        return StorageLook("hung", ended_ms)

    def undo(self, array: str, names: tuple[str, ...]) -> tuple[Step, ...]:
        """One order to the array's server; when that is gone its faults are, too."""
        self._stack.volumes_on(array)
        step = {
            "do": "clear_storage", "control": str(self._control(array)), "names": list(names),
            "mount": str(self._mount(array)),
        }  # fmt: skip
        return (step,)

    def undo_by_restart(self, service: str, identity: str) -> tuple[Step, ...]:
        """SIGKILL, unless another instance runs by then."""
        return self._restart(service, identity)

    def _control(self, array: str) -> Path:
        return self._folder / RUN / f"{array}.sock"

    def _orders(self, array: str) -> StorageArray:
        if array not in self._prepared:
            raise RuntimeFailure(
                f"array {array} was not raised so that it can fail: an experiment's own faults are "
                "known by its rehearsal, others are told by prepare() before up"
            )
        return StorageArray(self._control(array))

    def _told(self, ask: Callable[[], T]) -> T:
        try:
            return ask()
        except StorageError as error:
            raise RuntimeFailure(str(error)) from error


def _record(shown: Mapping[str, Any]) -> StorageRecord:
    """A record as the array's server shows it."""
    return StorageRecord(
        seen=int(shown["seen"]),
        acted=int(shown["acted"]),
        waiting=int(shown["waiting"]),
        ordered_ms=float(shown["ordered_ms"]),
        took_ms=float(shown["took_ms"]),
        gone=bool(shown["gone"]),
        flipped=tuple(shown["flipped"]),
        lost=dict(shown["lost"]),
    )
