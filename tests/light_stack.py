"""A light stack of four tiny real services in two rooms; it rises in about half a second.

outside `ward` ──http──▶ web (room A) ──http──▶ store (room B)
                         echo (room A)         mirror (room B) ──http──▶ store
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from chaos.stack import Link, Port, Readiness, Room, Service, Stack

PROGRAM = str(Path(__file__).resolve().parent / "light_service.py")
HTTP = Port("http", "http")


def service(name: str, room: str, *more: Port, **env: str) -> Service:
    """One light service."""
    return Service(
        name=name,
        room=room,
        command=("{python}", "-I", PROGRAM),
        ports=(HTTP, *more),
        ready=Readiness(within_s=10.0),
        stop_s=3.0,
        env=env,
    )


def light_stack(**env_of: dict[str, str]) -> Stack:
    """The stack; `web={"LIGHT_BROKEN": "exit"}` gives a service more environment."""
    services = (
        service("web", "A", LIGHT_FAMILY="1"),
        service("echo", "A", Port("echo", "tcp")),
        service("store", "B"),
        service("mirror", "B"),
    )
    return Stack(
        name="light",
        rooms=(Room("A"), Room("B")),
        services=tuple(replace(s, env={**s.env, **env_of.get(s.name, {})}) for s in services),
        links=(
            Link("ward", "web", "http"),
            Link("ward", "echo", "echo"),
            Link("web", "store", "http"),
            Link("mirror", "store", "http"),
        ),
        outside=("ward",),
    )
