"""The shop as the harness is told of it: an existing project, its services, its links."""

from __future__ import annotations

import os

from chaos.stack import Link, Port, Project, Readiness, Room, Service, Stack

TCP = Readiness(port="redis", path="", within_s=10)


def shop() -> Stack:
    """Two services that may be touched, one that may not."""
    project = os.environ.get("SHOP_PROJECT", "shop")
    return Stack(
        name=project,
        project=Project(project, int(os.environ.get("SHOP_MOST", "2"))),
        rooms=(Room("host"),),
        services=(
            Service("front", "host", ports=(Port("http", "http", number=80),)),
            Service("store", "host", ports=(Port("redis", number=6379),), ready=TCP),
            Service("books", "host", ports=(Port("http", "http", number=8000),),
                    ready=Readiness(path="/")),
        ),
        links=(Link("customers", "front", "http"), Link("front", "store", "redis")),
        outside=("customers",),
        image=("{python}", "-m", "stacks.hospital.image"),
    )  # fmt: skip
