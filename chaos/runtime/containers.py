"""What runtimes whose services are containers have in common, as functions they take over.

It holds no state and knows no ground plan: each runtime says which container a service is.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from itertools import groupby
from typing import Any, Protocol, TypeVar

from chaos import reaper
from chaos.runtime import Address, NotReady, Progress, RuntimeFailure, State, Step, engine
from chaos.runtime import links as over
from chaos.runtime.children import with_harness
from chaos.stack import Stack
from chaos.toxiproxy.client import ToxiproxyError

T = TypeVar("T")

TOXIPROXY_IMAGES = ("ghcr.io/shopify/toxiproxy:2.12.0", "ghcr.io/shopify/toxiproxy:latest")
IMAGE_S = 900.0  # building an image from nothing
SIDE_BY_SIDE = 4  # calls to the engine at once: more only wait for each other on two cores
GATEWAYS_READY_S = 20.0
POLL_S = 0.05
BURIAL_S = 0.03  # how long an engine is asked for a container whose processes are dead
AT_ONCE_STEPS = ("kill_container", "start_container", "unpause_container")
AT_ONCE = 8  # services hit or looked at side by side
LOG_TAIL = 5


class OfContainers(Protocol):
    """What such a runtime brings itself."""

    stack: Stack
    _api: Any  # the engine's low-level client
    _engine: str  # the engine's socket
    _known: dict[str, Mapping[str, Any]]  # service → what the engine said of it last

    def _container(self, service: str) -> str:
        """The name or id of the service's container."""

    def play(self, steps: tuple[Step, ...]) -> None:
        """Play undo steps here."""


# ---------------------------------------------------------------- seeing


def inspect(self: OfContainers, service: str) -> Mapping[str, Any] | None:
    """What the engine says of the service's container now; None when there is none.

    While the engine buries a container it answers no question about it, for up to a second: then
    what is known of the instance whose processes are dead.
    """
    name = self._container(service)
    known = self._known.get(service)
    if known and dead(self, known):
        with suppress(reaper.Silent):
            path = f"/containers/{name}/json"
            status, text = reaper.ask_engine(self._engine, "GET", path, bound_s=BURIAL_S)
            if status == 200:
                self._known[service] = json.loads(text)
        return self._known[service]
    found: Mapping[str, Any] | None = engine.gently(
        lambda: self._api.inspect_container(name), f"look at {service}", None
    )
    if found:
        self._known[service] = found
    return found


def identity(self: OfContainers, service: str) -> str:
    """`container id/start time` of the running instance; '' when it is gone."""
    seen = inspect(self, service)
    if not seen or not lives(self, seen):
        return ""
    return f"{seen['Id'][: reaper.SHORT_ID]}/{seen['State']['StartedAt']}"


def state(self: OfContainers, service: str) -> State:
    """gone: no container, or one that ended; paused: frozen; else running."""
    seen = inspect(self, service)
    if not seen or not lives(self, seen):
        return "gone"
    return "paused" if seen["State"]["Paused"] else "running"


def lives(self: OfContainers, seen: Mapping[str, Any]) -> bool:
    """Whether its first process lives: it ends last, and half a second before the engine says so
    (which first takes the container off its network)."""
    return bool(seen["State"]["Running"]) and not dead(self, seen)


def dead(self: OfContainers, seen: Mapping[str, Any]) -> bool:
    """Whether the first process of an instance that ran is dead; False where it cannot be seen."""
    if not seen["State"]["Running"] or not engine.shares_processes(self._engine):
        return False
    now = reaper.stat(int(seen["State"]["Pid"] or 0))
    return now is None or now.state in "ZX"


def fail_if_dead(self: OfContainers, service: str) -> None:
    """NotReady with its last words when its container has ended."""
    seen = inspect(self, service)
    if seen and seen["State"]["Running"]:
        return
    if not seen:
        raise NotReady(f"the container of {service} was removed by somebody else")
    code = seen["State"]["ExitCode"]
    killed = " (out of memory)" if seen["State"]["OOMKilled"] else ""
    line = last_line(self, self._container(service))
    raise NotReady(f"{service} ended while starting with exit code {code}{killed}: {line}")


def last_line(self: OfContainers, container: str) -> str:
    """The last line that a container said."""
    text: bytes = engine.gently(
        lambda: self._api.logs(container, tail=LOG_TAIL), "read the log", b""
    )
    lines = text.decode("utf-8", "replace").strip().splitlines()
    return lines[-1][-400:] if lines else "(it said nothing)"


# ---------------------------------------------------------------- services


def kill(self: OfContainers, service: str) -> None:
    """SIGKILL to the container's first process: the kernel ends all others with it.

    Returns when they are dead; the engine's answer, after its own cleaning up, is not waited for.
    """
    seen = inspect(self, service)
    if not seen or not lives(self, seen):
        return
    if seen["State"]["Paused"]:  # a frozen group takes no signal (cgroups version 1)
        resume(self, service)
    answer: Future[None] = Future()

    def ask() -> None:
        try:
            order(self, "kill", service, lambda name: self._api.kill(name, "SIGKILL"))
            answer.set_result(None)
        except Exception as error:  # told by the one who waits
            answer.set_exception(error)

    threading.Thread(target=ask, daemon=True).start()
    while not answer.done() and not dead(self, seen):  # the engine would not answer meanwhile
        time.sleep(POLL_S / 10)
    if answer.done():
        answer.result()
    await_gone(self, service)


def pause(self: OfContainers, service: str) -> None:
    """Freeze the container."""
    if state(self, service) == "running":
        order(self, "pause", service, self._api.pause)


def resume(self: OfContainers, service: str) -> None:
    """Thaw the container."""
    self.play(undo_pause(self, service))


def stop(self: OfContainers, service: str) -> None:
    """SIGTERM, `stop_s` to drain, then SIGKILL."""
    resume(self, service)  # a paused service cannot hear
    bound = round(self.stack.service(service).stop_s)
    order(self, "stop", service, lambda name: self._api.stop(name, timeout=bound))
    await_gone(self, service)


def start(self: OfContainers, service: str) -> None:
    """Start the container again: its own address, its own data."""
    self.play(undo_kill(self, service))


def undo_kill(self: OfContainers, service: str) -> tuple[Step, ...]:
    """Start it again."""
    return (step(self, "start_container", service),)


def undo_by_restart(self: OfContainers, service: str, identity: str) -> tuple[Step, ...]:
    """End that instance, no later one."""
    return ({**step(self, "kill_container", service), "only": identity},)


def undo_pause(self: OfContainers, service: str) -> tuple[Step, ...]:
    """Thaw it."""
    return (step(self, "unpause_container", service),)


def step(self: OfContainers, do: str, service: str) -> dict[str, object]:
    """An undo step for the service's container."""
    name = self._container(service)
    return {"do": do, "engine": self._engine, "container": name, "service": service}


def in_container(
    self: OfContainers, steps: tuple[Step, ...], container: str
) -> tuple[Step, ...]:  # fmt: skip
    """Undo steps for a proxy server, with the container that it runs in: its address may be
    somebody else's once that is gone."""
    return tuple({**one, "engine": self._engine, "gateway": container} for one in steps)


def order(
    self: OfContainers, verb: str, service: str, call: Callable[[str], object]
) -> None:  # fmt: skip
    """One verb of the engine; what is gone or stopped already is no trouble."""
    import docker.errors

    name = self._container(service)
    with engine.told(f"{verb} {service}"):
        try:
            call(name)
        except docker.errors.APIError as error:
            if error.status_code not in (404, 409, 304):
                raise
            if state(self, service) == "running" and verb != "pause":
                raise


def await_gone(self: OfContainers, service: str) -> None:
    """Until no process of it is left; RuntimeFailure after its `stop_s`."""
    deadline = time.monotonic() + self.stack.service(service).stop_s
    while state(self, service) != "gone":
        if time.monotonic() > deadline:
            raise RuntimeFailure(f"{service} outlives its end; look with `docker ps`")
        time.sleep(POLL_S / 10)


# ---------------------------------------------------------------- raising


def play(steps: Sequence[Step], at_once: bool = False) -> None:
    """Play undo steps here; tries all of them, then raises for those that failed.

    In order; `at_once`: kills, starts and thaws that follow each other, side by side (only where
    every container has an address of its own: the engine gives others the lowest that is free).
    """
    troubles: list[str] = []

    def act(one: Step) -> None:
        try:
            reaper.play_step(one)
        except reaper.StepFailed as failure:
            troubles.append(str(failure))

    for do, alike in groupby(steps, lambda one: one["do"]):
        if at_once and do in AT_ONCE_STEPS:
            side_by_side(act, list(alike))
        else:
            for one in alike:
                act(one)
    if troubles:
        raise RuntimeFailure("; ".join(troubles))


def built(stack: Stack, progress: Progress) -> str:
    """The tag of the stack's image, built now where it is missing."""
    if not stack.image:
        raise RuntimeFailure(
            f"stack {stack.name} names no image (Stack.image), so it cannot run as "
            "containers; use --runtime process"
        )
    progress("image", "looking for it (building takes two minutes)")
    command = [sys.executable if word == "{python}" else word for word in stack.image]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=IMAGE_S, check=False,
            env={**os.environ, "PYTHONPATH": with_harness()},
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RuntimeFailure(f"cannot build the image: {error}") from error
    lines = done.stdout.split()
    if done.returncode or not lines:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise RuntimeFailure(f"cannot build the image: {last}; try `make image`")
    progress("image", f"{lines[-1]}")
    return lines[-1]


def real_proxy(api: Any) -> str:
    """The real Toxiproxy's image, where it lies here; else ''."""
    for image in TOXIPROXY_IMAGES:
        if engine.gently(partial(api.inspect_image, image), "look for images", None):
            return image
    return ""


def await_proxy(self: OfContainers, gateway: str, api: Address) -> None:
    """Until the proxy server of a gateway answers; NotReady with its last words."""
    deadline = time.monotonic() + GATEWAYS_READY_S
    while True:
        try:
            over.client(api).version()
            return
        except ToxiproxyError as error:
            if time.monotonic() > deadline:
                line = last_line(self, gateway)
                raise NotReady(f"{gateway} does not answer: {error}; {line}") from error
        time.sleep(POLL_S)


def side_by_side(act: Callable[[T], object], things: Sequence[T]) -> None:
    """Act on all; the first failure is raised when all that had begun are through."""
    if not things:
        return
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        doing = [pool.submit(act, thing) for thing in things]
        failures = [error for one in doing if (error := one.exception())]
    if failures:
        raise failures[0]
