"""Targets: from what a user wrote to names and identities that cannot change under the fault.

It never guesses: empty, unknown, doubled, ambiguous, not running or too many is a TargetError.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from chaos.faults.fault import Observation, TargetError
from chaos.runtime import Runtime
from chaos.stack import Stack, TopologyError

T = TypeVar("T")
R = TypeVar("R")

MOST_SERVICES = 16  # one fault never takes down more
MOST_LINKS = 64
LOOKERS = 8  # how many targets are looked at side by side


@dataclass(frozen=True, slots=True)
class Chosen:
    """One of several candidates, chosen when the fault is injected: the current primary, say.

    `choose` is asked once, against the raised runtime, and must name exactly one candidate.
    """

    name: str  # for the story: "the EHR database primary"
    candidates: tuple[str, ...]
    choose: Callable[[Runtime], str]


@dataclass(frozen=True, slots=True)
class LinksOf:
    """All links with at least one end in the room."""

    room: str


@dataclass(frozen=True, slots=True)
class LinksBetween:
    """All links between two rooms, both ways."""

    one: str
    other: str


ServiceTarget = str | Chosen
LinkTarget = str | LinksOf | LinksBetween


@dataclass(frozen=True, slots=True)
class Pin:
    """A target as it was at injection: its name, the identity of its instance, its health."""

    service: str
    identity: str = ""
    health: str = ""


def told(targets: Sequence[ServiceTarget | LinkTarget]) -> str:
    """The targets as words of a story."""
    words = []
    for target in targets:
        if isinstance(target, Chosen):
            words.append(target.name)
        elif isinstance(target, LinksOf):
            words.append(f"all links of room {target.room}")
        elif isinstance(target, LinksBetween):
            words.append(f"all links between rooms {target.one} and {target.other}")
        else:
            words.append(str(target))
    return ", ".join(words)


def candidates(targets: Sequence[ServiceTarget], stack: Stack) -> tuple[str, ...]:
    """Every service that the fault may hit."""
    names: list[str] = []
    for target in targets:
        if isinstance(target, Chosen):
            names += target.candidates
        elif isinstance(target, str):
            names.append(target)
        else:
            raise TargetError(
                f"{target!r} is no target: give a service's name, or Chosen(name, candidates, "
                "choose) for one that is chosen at injection"
            )
    return _checked(names, [s.name for s in stack.services], "service", MOST_SERVICES)


def pin(targets: Sequence[ServiceTarget], runtime: Runtime) -> tuple[Pin, ...]:
    """Resolve, check and pin; without identities when the runtime is not raised."""
    candidates(targets, runtime.stack)
    chosen = [_choose(t, runtime) if isinstance(t, Chosen) else t for t in targets]
    known = [s.name for s in runtime.stack.services]
    names = _checked(chosen, known, "service", MOST_SERVICES)
    if not runtime.raised:
        return tuple(Pin(name) for name in names)
    pins = side_by_side(
        lambda name: Pin(name, runtime.identity(name), runtime.health(name).status), names
    )
    for found in pins:
        if not found.identity:
            raise TargetError(f"{found.service} is not running, so it cannot be a target")
    return tuple(pins)


def links(targets: Sequence[LinkTarget], stack: Stack) -> tuple[str, ...]:
    """Names of all links that the targets stand for."""
    names: list[str] = []
    for target in targets:
        try:
            if isinstance(target, LinksOf):
                found = [k.name for k in stack.links_of(target.room)]
            elif isinstance(target, LinksBetween):
                found = [k.name for k in stack.links_between(target.one, target.other)]
            else:
                found = [str(target)]
        except TopologyError as error:
            raise TargetError(str(error)) from error
        if not found:
            raise TargetError(f"{told([target])}: there are none in stack {stack.name}")
        names += found
    return _checked(names, [k.name for k in stack.links], "link", MOST_LINKS)


def protocol_of(link: str, stack: Stack) -> str:
    """What is spoken on a link: the protocol of the port that it leads to."""
    k = stack.link(link)
    return stack.service(k.target).port(k.port).protocol


def same_instances(pins: Iterable[Pin], runtime: Runtime) -> None:
    """TargetError unless every pinned instance still is the one that runs."""
    every = list(pins)
    if not every or not all(found.identity for found in every):
        raise TargetError("the fault was not pinned on a raised stack; call pinned() first")
    for found in every:
        if (now := runtime.identity(found.service)) != found.identity:
            raise TargetError(
                f"{found.service} is not the instance that was pinned ({found.identity}, now "
                f"{now or 'gone'}); it restarted by itself, so nothing was injected"
            )


def serve_again(pins: Sequence[Pin], runtime: Runtime) -> Observation:
    """Whether all run and are ready, or at least as well as they were at injection."""
    states = [(found.service, runtime.state(found.service)) for found in pins]
    down = [
        Observation(False, f"{name} is {state}") for name, state in states if state != "running"
    ]
    return all_of(down or side_by_side(lambda found: _is_well(found, runtime), pins))


def _is_well(found: Pin, runtime: Runtime) -> Observation:
    health = runtime.health(found.service)
    ok = health.status in ("ready", found.health)
    reason = f" ({health.reason})" if health.reason else ""
    return Observation(ok, f"{found.service} runs and is {health.status}{reason}")


def all_of(observations: Iterable[Observation]) -> Observation:
    """Together: ok when all are; the text tells those that are not, else all."""
    every = list(observations)
    if not every:  # nothing seen is never "as wanted"
        return Observation(False, "nothing was looked at: the fault was not pinned")
    bad = [o for o in every if not o.ok]
    return Observation(not bad, "; ".join(o.text for o in (bad or every)))


def side_by_side(
    look: Callable[[T], R], things: Sequence[T], at_once: int = LOOKERS
) -> list[R]:  # fmt: skip
    """Look at (or hit) several things at once, where each waits for an answer over a network.

    Not for looks at processes: those are work for one core, and threads would only get in each
    other's way (measured: eight times slower on a busy machine).
    """
    if len(things) <= 1 or at_once <= 1:
        return [look(thing) for thing in things]
    with ThreadPoolExecutor(min(at_once, len(things))) as pool:
        return list(pool.map(look, things))


def _choose(target: Chosen, runtime: Runtime) -> str:
    if not target.candidates:
        raise TargetError(f"{target.name}: it has no candidates")
    if not runtime.raised:
        return target.candidates[0]
    try:
        name = target.choose(runtime)
    except TargetError:
        raise
    except Exception as error:
        raise TargetError(f"{target.name} cannot be told: {error}") from error
    if name not in target.candidates:
        some = ", ".join(target.candidates)
        raise TargetError(f"{target.name} is {name!r}, which is none of its candidates ({some})")
    return name


def _checked(names: Sequence[str], known: Sequence[str], what: str, most: int) -> tuple[str, ...]:
    if not names:
        raise TargetError(f"no {what} was named as target; nothing was injected")
    for name in names:
        if name not in known:
            raise TargetError(f"no {what} {name!r} in this stack (known: {', '.join(known)})")
    once = tuple(dict.fromkeys(names))
    if what == "service" and len(once) != len(names):
        doubles = sorted({n for n in names if names.count(n) > 1})
        raise TargetError(f"target named twice: {', '.join(doubles)}")
    if len(once) > most:
        raise TargetError(f"{len(once)} {what}s are too many for one fault (at most {most})")
    return once
