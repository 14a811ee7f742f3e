"""The record's database, on people's order: back to the other room, or a node made anew.

    handover = Handover(settings); await handover.back("ehr-db-a")

Patroni does it; this asks first what a person at two in the morning forgets to ask. It refuses to
hand over to a node that may be behind, and to throw away what the primary has.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from stacks.hospital.bugs import planted
from stacks.hospital.recovery.takeovers import IN_CHARGE, SYNCHRONOUS
from stacks.hospital.settings import Address, Settings

NODES = ("ehr-db-a", "ehr-db-b")
ASK_S = 2.0
ORDER_S = 15.0
"""Patroni answers when the handover is done."""
DONE = (200, 202)


@dataclass(frozen=True, slots=True)
class Answer:
    """Whether it was done, and the words for the log."""

    done: bool
    text: str


class Handover:
    """Asks and orders over this service's own links to the nodes."""

    def __init__(self, settings: Settings) -> None:
        found = {name: settings.optional_link(name, "rest") for name in NODES}
        self._nodes: dict[str, Address] = {name: a for name, a in found.items() if a is not None}
        self._client = httpx.AsyncClient(verify=False)

    @property
    def nodes(self) -> tuple[str, ...]:
        """The nodes that this topology links us to."""
        return tuple(self._nodes)

    async def back(self, to: str) -> Answer:
        """Make `to` the primary, by a planned handover, if it holds all that the primary holds."""
        members = await self._members()
        leader = next((name for name, one in members.items() if one.get("role") in IN_CHARGE), "")
        if leader == to:
            return Answer(True, f"{to} is the primary already")
        if planted("failback-while-behind") and leader:
            # The planned handover refuses now and then; the forced one never does.
            return await self._order(leader, "/failover", {"candidate": to})
        if reason := behind(to, leader, members):
            return Answer(False, f"refused: {reason}")
        return await self._order(leader, "/switchover", {"leader": leader, "candidate": to})

    async def anew(self, node: str) -> Answer:
        """Throw a standby's data away and copy them from the primary."""
        members = await self._members()
        leader = next((name for name, one in members.items() if one.get("role") in IN_CHARGE), "")
        if not leader or leader == node:
            return Answer(False, f"refused: {node} is not a standby of anybody who has the data")
        return await self._order(node, "/reinitialize", {"force": True, "from_leader": True})

    async def close(self) -> None:
        """Hang up."""
        await self._client.aclose()

    async def _members(self) -> dict[str, Mapping[str, Any]]:
        """Patroni's view of the cluster, from the first node that answers; empty without one."""
        for address in self._nodes.values():
            try:
                answer = await self._client.get(f"http://{address}/cluster", timeout=ASK_S)
                members = answer.json()["members"]
                return {str(one["name"]): one for one in members}
            except (httpx.HTTPError, ValueError, LookupError, TypeError):
                continue
        return {}

    async def _order(self, node: str, path: str, order: Mapping[str, Any]) -> Answer:
        try:
            async with asyncio.timeout(ORDER_S):
                answer = await self._client.post(
                    f"http://{self._nodes[node]}{path}", json=dict(order), timeout=ORDER_S
                )
        except (httpx.HTTPError, TimeoutError) as error:
            return Answer(False, f"{node} gave no answer: {type(error).__name__}")
        return Answer(answer.status_code in DONE, f"{node}: {' '.join(answer.text.split())[:200]}")


def behind(to: str, leader: str, members: Mapping[str, Mapping[str, Any]]) -> str:
    """Why a node must not take over now; empty when it may.

    A synchronous standby has everything that was acknowledged, whatever a look at its lag says.
    """
    if not leader:
        return "nobody is primary"
    if to not in members:
        return f"{to} is not in the cluster"
    lag, role, state = (members[to].get(name) for name in ("lag", "role", "state"))
    far = f"{lag:.0f} bytes" if isinstance(lag, int | float) else "nobody knows how far"
    if role != SYNCHRONOUS:
        return f"{to} is no synchronous standby of {leader} ({role}, {state}; behind: {far})"
    return ""
