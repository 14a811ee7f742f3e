# ruff: noqa: ARG001
"""What cannot be done to an existing project, as verbs that its runtime takes over: each says why.

It changes nothing.
"""

from __future__ import annotations

from chaos.runtime import ClockLook, Runtime, RuntimeFailure, Step


def _theirs(what: str) -> RuntimeFailure:
    return RuntimeFailure(
        f"{what} cannot be changed: it is part of an existing project, which was not raised for it"
    )


def prepare_clocks(self: Runtime, services: tuple[str, ...]) -> None:
    """RuntimeFailure: a clock is made settable when a container is made."""
    raise _theirs(f"the clock of {', '.join(services)}")


def set_clock(self: Runtime, service: str, offset_s: float) -> None:
    """RuntimeFailure."""
    raise _theirs(f"the clock of {service}")


def clock(self: Runtime, service: str) -> ClockLook:
    """RuntimeFailure."""
    raise _theirs(f"the clock of {service}")


def undo_set_clock(self: Runtime, service: str) -> tuple[Step, ...]:
    """RuntimeFailure."""
    raise _theirs(f"the clock of {service}")


def disconnect(self: Runtime, one: str, other: str) -> None:
    """RuntimeFailure: the project's networks are its own."""
    raise _theirs(f"the network between {one} and {other}")


def undo_disconnect(self: Runtime, one: str, other: str) -> tuple[Step, ...]:
    """RuntimeFailure."""
    raise _theirs(f"the network between {one} and {other}")
