"""The ground plan of a stack in containers: every address once, crossings known, names plain."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.runtime.docker_plan import (
    FIRST_GATEWAY_HOST,
    MOST_ROOMS,
    MOST_SERVICES_IN_ROOM,
    Plan,
)
from chaos.stack import Link, Port, Readiness, Room, Service, Stack, TopologyError, Volume
from stacks.hospital.stack import hospital
from tests.light_stack import light_stack

FIRST = 200 << 8


def service(name: str, room: str, volume: Volume | None = None) -> Service:
    return Service(
        name=name, room=room, command=("true",), ports=(Port("http", "http"),),
        ready=Readiness(), volume=volume,
    )  # fmt: skip


def of_rooms(count: int, services: int = 1) -> Stack:
    """So many rooms with so many services each; the first calls the last, outside calls both."""
    rooms = tuple(Room(f"r{n}") for n in range(count))
    named = tuple(service(f"s{n}-{i}", f"r{n}") for n in range(count) for i in range(services))
    first, last = named[0].name, named[-1].name
    links = (Link("ward", first, "http"), Link("ward", last, "http"))
    if first != last:
        links += (Link(first, last, "http"),)
    return Stack(name="many", rooms=rooms, services=named, links=links, outside=("ward",))


@pytest.mark.parametrize("stack", [light_stack(), hospital(), of_rooms(7, 5)])
@pytest.mark.parametrize("first", [FIRST, 249 << 8, FIRST + 250])
def test_every_address_is_in_its_network_and_used_once(stack: Stack, first: int) -> None:
    """Services, gateways and links; the engine's own address (.1) is nobody's."""
    plan = Plan(stack, "0123abcd", first)
    nets = {net.name: IPv4Network(net.subnet) for net in plan.networks.values()}
    assert len({net.network_address for net in nets.values()}) == len(stack.rooms) + 1
    assert all(net.subnet_of(IPv4Network("10.0.0.0/8")) for net in nets.values())
    held = [(plan.network_of(s.name).name, plan.ip(s.name)) for s in stack.services]
    held += [found for gate in plan.gateways.values() for found in gate.addresses.items()]
    assert len({ip for _, ip in held}) == len(held)
    for name, ip in held:
        assert IPv4Address(ip) in nets[name]
        assert IPv4Address(ip) not in (nets[name][0], nets[name][1], nets[name][-1])
    ports = [str(plan.address(s.name, p.name)) for s in stack.services for p in s.ports]
    ports += [str(plan.link_address(k.name)) for k in stack.links]
    ports += {str(plan.proxy_api(k.name)) for k in stack.links}
    assert len(set(ports)) == len(ports)


@pytest.mark.parametrize("stack", [light_stack(), hospital()])
def test_a_link_is_found_in_its_callers_network_at_its_targets_gateway(stack: Stack) -> None:
    """So a room that is cut off takes exactly the links over its border with it."""
    plan = Plan(stack, "0123abcd", FIRST)
    for link in stack.links:
        gateway = plan.gateway(link.name)
        caller = plan.networks[stack.room_of(link.source) or ""]
        assert gateway.room == stack.service(link.target).room
        assert plan.link_address(link.name).host == gateway.addresses[caller.name]
        assert plan.networks[gateway.room].name in gateway.addresses
        assert plan.proxy_api(link.name).host == gateway.addresses[plan.networks[gateway.room].name]


def test_crossings_are_each_rooms_gateway_in_the_others_network() -> None:
    """A calls B and B does not call A: one crossing, whichever way it is asked."""
    plan = Plan(light_stack(), "0123abcd", FIRST)
    expected = {(plan.gateways["B"].name, plan.networks["A"].name)}
    for one, other in (("A", "B"), ("B", "A")):
        found = {(gate.name, net.name) for gate, net in plan.crossings(one, other)}
        assert expected <= found
        for gate, net in plan.crossings(one, other):
            assert gate.room != net.room
            assert net.name in gate.addresses
    with pytest.raises(TopologyError, match="C"):
        plan.crossings("A", "C")


def test_a_room_that_nobody_calls_has_no_gateway() -> None:
    """It could hold no proxy."""
    stack = replace(of_rooms(3), links=(Link("ward", "s0-0", "http"),))
    plan = Plan(stack, "0123abcd", FIRST)
    assert set(plan.gateways) == {"r0"}
    assert plan.crossings("r1", "r2") == ()


def test_services_of_one_array_share_its_volume_and_others_have_their_own() -> None:
    """A volume is an array: it is lost as a whole."""
    shared = Volume("data", "array-a")
    stack = Stack(
        name="arrays", rooms=(Room("A"),), links=(),
        services=(service("db", "A", shared), service("ehr", "A", shared), service("lis", "A")),
    )  # fmt: skip
    plan = Plan(stack, "0123abcd", FIRST)
    names = [plan.volume(s) for s in stack.services]
    assert names == ["hc-0123abcd-vol-array-a"] * 2 + ["hc-0123abcd-vol-disk-lis"]


@given(st.text(min_size=1, max_size=20))
def test_a_rooms_name_of_any_kind_makes_a_name_that_the_engine_takes(room: str) -> None:
    """Blanks, slashes and other scripts become hyphens; the run's id stays in front."""
    stack = Stack(name="s", rooms=(Room(room),), services=(service("a", room),), links=())
    name = Plan(stack, "0123abcd", FIRST).networks[room].name
    assert name.startswith("hc-0123abcd-net-")
    assert all(c.isascii() and (c.isalnum() or c in "_.-") for c in name)


def test_the_most_that_fits_fits_and_one_more_is_refused() -> None:
    """Before anything is created, with the number in words."""
    most = Plan(of_rooms(1, MOST_SERVICES_IN_ROOM), "0123abcd", FIRST)
    ip = most.ip(most.stack.services[-1].name)
    assert int(ip.rpartition(".")[2]) == FIRST_GATEWAY_HOST - 1
    with pytest.raises(TopologyError, match="more than"):
        Plan(of_rooms(1, MOST_SERVICES_IN_ROOM + 1), "0123abcd", FIRST)
    rooms = Plan(of_rooms(MOST_ROOMS), "0123abcd", FIRST)
    assert all(
        int(ip.rpartition(".")[2]) < 255
        for gate in rooms.gateways.values()
        for ip in gate.addresses.values()
    )
    with pytest.raises(TopologyError, match=f"at most {MOST_ROOMS}"):
        Plan(of_rooms(MOST_ROOMS + 1), "0123abcd", FIRST)


@pytest.mark.parametrize("ask", ["container", "ip", "network_of"])
def test_an_unknown_service_is_an_error_that_names_the_known(ask: str) -> None:
    """No address for what is not in the stack."""
    with pytest.raises(TopologyError, match="known: echo"):
        getattr(Plan(light_stack(), "0123abcd", FIRST), ask)("x-ray")


@pytest.mark.parametrize("other", ["ward/3", "ward 3"])
def test_two_rooms_that_are_one_to_the_engine_are_refused(other: str) -> None:
    """Before anything is created, with the name that both would have."""
    rooms = (Room("ward-3"), Room(other))
    stack = Stack(name="s", rooms=rooms, services=(service("a", other),), links=())
    with pytest.raises(TopologyError, match="two rooms are both 'ward-3'"):
        Plan(stack, "0123abcd", FIRST)
