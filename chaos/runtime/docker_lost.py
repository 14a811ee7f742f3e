"""What somebody else took away from under a stack of containers while its run goes on.

It only looks. What a fault of ours has ended is not lost; what is gone, or helps us and stands
still, is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Protocol
from urllib.parse import quote

from chaos import reaper
from chaos.runtime import RuntimeFailure, engine
from chaos.runtime.docker_plan import Plan
from chaos.runtime.mounted import MountedArrays
from chaos.stack import Stack

LOOK_S = 10.0  # an engine that is busy may think for seconds; one that is gone says so at once


class OfPlan(Protocol):
    """What such a runtime brings itself."""

    stack: Stack
    id: str
    raised: bool
    _engine: str
    _engine_process: str
    _plan: Plan
    storage: MountedArrays


def lost(self: OfPlan) -> str:
    """What is missing of the raised stack, in words; '' when nothing is.

    RuntimeFailure when the engine does not answer.
    """
    if not self.raised:
        return ""
    states = _states(self)
    for service in self.stack.services:
        if self._plan.container(service.name) not in states:
            return (
                f"the container of {service.name} was removed by somebody else in the middle of "
                "the run"
            )
    restarted = engine.process(self._engine) != self._engine_process
    for gateway in self._plan.gateways.values():
        state = states.get(gateway.name, "gone")
        if state != "running":
            by = "the container engine was restarted" if restarted else "somebody else did that"
            return f"the proxies of room {gateway.room} ({gateway.name}) are {state}: {by}"
    if restarted and set(states.values()) == {"exited"}:
        return "the container engine was restarted in the middle of the run"
    return self.storage.lost()


def _states(self: OfPlan) -> Mapping[str, str]:
    label = quote(json.dumps({"label": [f"{reaper.RUN_LABEL}={self.id}"]}), safe="")
    path = f"/containers/json?all=1&filters={label}"
    try:
        status, content = reaper.ask_engine(self._engine, "GET", path, bound_s=LOOK_S)
        listed: list[dict[str, Any]] = json.loads(content) if status == 200 else []
    except (reaper.Silent, ValueError) as error:
        raise RuntimeFailure(
            f"the container engine does not answer in the middle of the run: {error}"
        ) from error
    if status != 200:
        raise RuntimeFailure(f"the container engine cannot list the run's containers: {status}")
    return {name.lstrip("/"): one["State"] for one in listed for name in one["Names"]}
