"""Which database node took over from which, and whether it was the synchronous standby then.

    takeovers = Takeovers(); takeovers.seen(members, at); takeovers.evidence(log); takeovers.all

Pure but for its memory of earlier looks. It refuses to take a node for synchronous on the word of
a look at which somebody new was already in charge.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from stacks.hospital.recovery.decisions import Takeover

IN_CHARGE = ("leader", "primary", "master")
SYNCHRONOUS = "sync_standby"


class Takeovers:
    """Fed with Patroni's view of the cluster, look by look."""

    def __init__(self) -> None:
        self._leader, self._timeline = "", 0
        self._synchronous: frozenset[str] = frozenset()
        """Synchronous standbys when the leader that is known was last seen."""
        self._found: list[Takeover] = []

    @property
    def all(self) -> tuple[Takeover, ...]:
        """Every one since this program began, oldest first."""
        return tuple(self._found)

    @property
    def open(self) -> bool:
        """Whether the vault has not said yet what one of them lost."""
        return any(one.lost_bytes is None for one in self._found)

    def seen(self, members: Sequence[Mapping[str, Any]], at: float) -> None:
        """One node's view of all members; an old view changes nothing."""
        leader = next((one for one in members if one.get("role") in IN_CHARGE), None)
        timeline = leader.get("timeline") if leader else None
        if leader is None or not isinstance(timeline, int) or timeline < self._timeline:
            return
        name = str(leader.get("name"))
        if timeline > self._timeline and self._leader:
            self._found.append(Takeover(at, name, timeline, name in self._synchronous))
        elif timeline == self._timeline and name != self._leader:
            return  # it has the lock, and is not promoted yet
        self._leader, self._timeline = name, timeline
        self._synchronous = frozenset(
            str(one.get("name")) for one in members if one.get("role") == SYNCHRONOUS
        )

    def evidence(self, log: Mapping[str, Any] | None) -> None:
        """What the vault says of its received log: which takeover lost how much of it."""
        failovers = (log or {}).get("failovers")
        told = {
            one.get("timeline"): one
            for one in (failovers if isinstance(failovers, list) else ())
            if isinstance(one, dict) and isinstance(one.get("lost_bytes"), int | float)
        }
        for number, one in enumerate(self._found):
            said = told.get(one.timeline)
            if one.lost_bytes is None and said is not None:
                self._found[number] = replace(
                    one, lost_bytes=float(said["lost_bytes"]), since=float(said.get("since") or 0)
                )
