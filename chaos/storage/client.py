"""Bounded client of one array's control socket.

It trusts no silence: what does not answer within its bound is raised, with what to do next.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

CALL_S = 2.0  # one order and its answer, connecting included
MOST_ANSWER = 32 << 20
PIECE = 1 << 16


class StorageError(RuntimeError):
    """An order that an array did not carry out; `silent` when it did not answer at all."""

    def __init__(self, text: str, silent: bool = False) -> None:
        super().__init__(text)
        self.silent = silent


class StorageArray:
    """One array, by its control socket."""

    def __init__(self, control: Path, bound_s: float = CALL_S) -> None:
        self.control = control
        self.bound_s = bound_s

    def arm(self, fault: Mapping[str, object]) -> Mapping[str, Any]:
        """Arm one fault (see chaos.storage.spec.Spec); returns its record."""
        return self._record(self._ask({"do": "arm", "fault": dict(fault)}))

    def clear(self, names: Sequence[str] | None = None) -> tuple[str, ...]:
        """End these faults (all without names); returns those that are still armed."""
        order: dict[str, object] = {"do": "clear"}
        if names is not None:
            order["names"] = list(names)
        return tuple(map(str, self._ask(order)["armed"]))

    def armed(self) -> tuple[str, ...]:
        """Names of the faults that are armed now."""
        return tuple(map(str, self._ask({"do": "who"})["armed"]))

    def records(self) -> dict[str, Mapping[str, Any]]:
        """What each fault saw and did, by name; those that are over, too."""
        return {str(r["name"]): r for r in self._ask({"do": "records"})["records"]}

    def power_cut(self, name: str) -> Mapping[str, Any]:
        """Take back what the `unsynced` fault of that name saw written and not synced."""
        return self._record(self._ask({"do": "power_cut", "name": name}))

    def who(self) -> Mapping[str, Any]:
        """The server's pid, its backing folder and where it is mounted."""
        return self._ask({"do": "who"})

    def _record(self, answer: Mapping[str, Any]) -> Mapping[str, Any]:
        record = answer["record"]
        assert isinstance(record, Mapping)
        return record

    def _ask(self, order: object) -> Mapping[str, Any]:
        deadline = time.monotonic() + self.bound_s
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as wire:
                wire.settimeout(self.bound_s)
                wire.connect(str(self.control))
                wire.sendall(msgspec.json.encode(order) + b"\n")
                answer = bytearray()
                while not answer.endswith(b"\n") and len(answer) < MOST_ANSWER:
                    wire.settimeout(max(0.001, deadline - time.monotonic()))
                    if not (piece := wire.recv(PIECE)):
                        break
                    answer += piece
            found = msgspec.json.decode(bytes(answer), type=dict[str, Any])
        except (OSError, msgspec.MsgspecError) as error:
            raise StorageError(
                f"array at {self.control} did not answer within {self.bound_s:g} s: {error}; "
                "look at its log, the reaper will unmount it",
                silent=True,
            ) from error
        if found.get("ok") is not True:
            raise StorageError(f"array at {self.control}: {found.get('error', 'no reason given')}")
        return found
