"""A light stack of four tiny real services in two rooms; it rises in about half a second.

outside `ward` ──http──▶ web (room A) ──http──▶ store (room B)
                         echo (room A)         mirror (room B) ──http──▶ store
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from chaos.stack import Link, Port, Readiness, Room, Service, Stack, Volume

PROGRAM = str(Path(__file__).resolve().parent / "light_service.py")
IN_IMAGE = "/opt/light"  # where the image has the programs of tests
IMAGE = ("{python}", "-m", "tests.light_image")
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


def on_disks(stack: Stack) -> Stack:
    """The same stack with store and mirror on one disk, web on another, echo on none."""
    on = {"store": "disk-b", "mirror": "disk-b", "web": "disk-a"}
    services = tuple(
        replace(s, volume=Volume(s.name, on[s.name])) if s.name in on else s for s in stack.services
    )
    return replace(stack, services=services)


def in_containers(stack: Stack) -> Stack:
    """The same stack with its services' program where the light image has it."""
    here = Path(PROGRAM).parent

    def there(word: str) -> str:
        return f"{IN_IMAGE}/{Path(word).name}" if Path(word).parent == here else word

    services = tuple(replace(s, command=tuple(map(there, s.command))) for s in stack.services)
    return replace(stack, services=services, image=IMAGE)
