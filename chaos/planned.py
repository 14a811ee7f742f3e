"""What a plan says of faults, and of each container of an existing project.

It asks nothing and changes nothing: it reads what a rehearsal wrote down and what a survey found.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from chaos.reaper import describe
from chaos.runtime import Runtime

if TYPE_CHECKING:
    from chaos.runtime.adopted import AdoptedRuntime
    from chaos.runtime.adoption import Found


class PlannedFault(msgspec.Struct, frozen=True):
    """One fault of the plan: what it touches, for how long at most, and how it is undone."""

    story: str
    kind: str
    targets: tuple[str, ...]
    rooms: tuple[str, ...]
    lease_s: float
    undo: tuple[str, ...]  # each step in words


class PlannedContainer(msgspec.Struct, frozen=True):
    """One container of the project; without `changes` it is never touched, and `why` says why."""

    service: str
    container: str
    id: str
    opted_in: bool
    restart: str  # its restart policy, which stays
    networks: tuple[str, ...]  # in words: where, at which address, under which names
    changes: tuple[str, ...]
    undo: tuple[str, ...]  # in words; faults list theirs themselves
    why: str = ""
    notes: tuple[str, ...] = ()


class PlannedProject(msgspec.Struct, frozen=True):
    """An existing Compose project: every container of it."""

    name: str
    most_targets: int
    containers: tuple[PlannedContainer, ...]


def planned(runtime: Runtime, faults: Sequence[PlannedFault]) -> PlannedProject | None:
    """What the faults and the proxies change; None where the stack is not an existing project."""
    project = runtime.stack.project
    if project is None:
        return None
    from chaos.runtime.adopted import AdoptedRuntime

    if not isinstance(runtime, AdoptedRuntime):  # rehearsed without a look at the project
        return None
    undo = [step for step in runtime.undo_up() if step["do"] == "restore_endpoint"]
    containers = []
    for found in runtime.every:
        mine = [describe(dict(step)) for step in undo if step["container"] == found.id]
        containers.append(_container(runtime, found, faults, tuple(dict.fromkeys(mine))))
    return PlannedProject(project.name, project.most_targets, tuple(containers))


def _container(
    runtime: AdoptedRuntime, found: Found, faults: Sequence[PlannedFault], undo: tuple[str, ...]
) -> PlannedContainer:
    named = runtime.found.get(found.service) == found
    changes: list[str] = []
    if named and found.service in runtime.behind:
        changes += [
            f"on network {one.network_name} its names lead to a proxy until the end: "
            f"{', '.join(found.moved(one))}; open connections break once"
            for one in found.led
        ]
    hit_by = runtime.stack.hit_by
    for fault in faults:
        if named and found.service in {hit_by(target).name for target in fault.targets}:
            changes.append(f"fault: {fault.story}")
    return PlannedContainer(
        service=found.service, container=found.name, id=found.id[:12], opted_in=found.opted_in,
        restart=found.restart, changes=tuple(changes), undo=undo,
        networks=tuple(
            f"{one.network_name}: {one.ip or 'no address'} as {', '.join(one.aliases) or '-'}"
            for one in found.endpoints
        ),
        why="" if changes else _why(found, named),
        notes=tuple(
            f"{port} of this machine leads to it past the proxy" for port in found.published
        ) if found.service in runtime.behind else (),
    )  # fmt: skip


def _why(found: Found, named: bool) -> str:
    from chaos.runtime.adoption import OPTED

    if not found.opted_in:
        return f"no label {OPTED}"
    return "no link leads to it and no fault names it" if named else "the stack does not name it"
