"""Networks between rooms of containers: taken away and given back, at the same addresses.

It moves gateways only; a service keeps its room's network whatever happens.
"""

from __future__ import annotations

from typing import Any, Protocol

from chaos.runtime import RuntimeFailure, Step, engine
from chaos.runtime.docker_plan import Plan


class OfRooms(Protocol):
    """What such a runtime brings itself."""

    _api: Any
    _engine: str
    _plan: Plan


def disconnect(self: OfRooms, one: str, other: str) -> None:
    """Each room's gateway leaves the other's network; one that has left already is left alone."""
    import docker.errors

    for gateway, network in _crossings(self, one, other):
        with engine.told(f"take {gateway.name} off {network.name}"):
            try:
                self._api.disconnect_container_from_network(gateway.name, network.name)
            except docker.errors.APIError as error:
                if "is not connected" not in str(error.explanation):
                    raise


def undo_disconnect(self: OfRooms, one: str, other: str) -> tuple[Step, ...]:
    """Each gateway back into the other room's network, where it was."""
    return tuple(
        {
            "do": "connect_container",
            "engine": self._engine,
            "container": gateway.name,
            "network": network.name,
            "ip": gateway.address_in(network),
        }
        for gateway, network in _crossings(self, one, other)
    )


def _crossings(self: OfRooms, one: str, other: str) -> Any:
    found = () if one == other else self._plan.crossings(one, other)
    if not found:
        raise RuntimeFailure(f"nothing joins rooms {one} and {other}, so nothing can be taken away")
    return found
