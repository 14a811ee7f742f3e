"""The topology refuses to contradict itself, and answers who stands where."""

from __future__ import annotations

import pytest

from chaos.stack import Link, Port, Project, Room, Service, Stack, TopologyError

HTTP = (Port("http", "http"),)


def service(name: str, room: str = "A") -> Service:
    return Service(name=name, room=room, command=("true",), ports=HTTP)


def small(**changes: object) -> Stack:
    values: dict[str, object] = {
        "name": "small",
        "rooms": (Room("A"), Room("B")),
        "services": (service("front"), service("back", "B")),
        "links": (Link("front", "back", "http"), Link("wards", "front", "http")),
        "outside": ("wards",),
    }
    return Stack(**{**values, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"services": (service("front"), service("front"))}, "named twice: front"),
        ({"services": (service("front", "Z"),), "links": ()}, "unknown room Z"),
        ({"links": (Link("nobody", "back", "http"),)}, "unknown source nobody"),
        ({"links": (Link("front", "nowhere", "http"),)}, "no service 'nowhere'"),
        ({"links": (Link("front", "back", "mllp"),)}, "no port 'mllp'"),
    ],
)
def test_contradictions_are_refused_with_the_name_in_question(
    changes: dict[str, object], words: str
) -> None:
    """A stack that cannot exist is never made, and the error names the culprit."""
    with pytest.raises(TopologyError, match=words):
        small(**changes)


def test_links_between_rooms_are_those_with_one_end_in_each() -> None:
    """A cut between rooms touches no link that stays in one room or comes from outside."""
    assert [k.name for k in small().links_between("A", "B")] == ["front>back.http"]


def test_links_of_a_room_include_callers_from_outside() -> None:
    """Losing a room cuts what calls into it as well as what it calls."""
    assert {k.name for k in small().links_of("A")} == {"front>back.http", "wards>front.http"}


def test_unknown_names_are_answered_with_the_known_ones() -> None:
    """A typing error shows what could have been meant."""
    with pytest.raises(TopologyError, match="known: back, front"):
        small().service("frnt")
    with pytest.raises(TopologyError, match="known: A, B"):
        small().services_in("C")


def adopted(*links: Link, most: int = 2, **of_port: object) -> Stack:
    """A stack that names an existing project."""
    port = Port("http", "http", **of_port)  # type: ignore[arg-type]
    return Stack(
        name="shop", rooms=(Room("host"),), services=(Service("api", "host", ports=(port,)),),
        links=links, outside=("shops", "tills"), project=Project("shop", most),
    )  # fmt: skip


def test_a_project_says_where_its_services_listen_and_how_many_may_be_hit() -> None:
    """Without the port's number, or with no target allowed, there is nothing that could be done."""
    assert adopted(number=8000).service("api").port("http").number == 8000
    with pytest.raises(TopologyError, match="port http of service api needs its number"):
        adopted()
    with pytest.raises(TopologyError, match="most_targets of project shop"):
        adopted(number=8000, most=0)


def test_a_project_has_one_link_to_a_port() -> None:
    """Its proxy stands before the target: two callers cannot be told apart, so nobody pretends."""
    with pytest.raises(TopologyError, match="lead to the same port"):
        adopted(Link("shops", "api", "http"), Link("tills", "api", "http"), number=8000)
