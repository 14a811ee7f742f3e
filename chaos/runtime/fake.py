"""Runtime `fake`: a stack that exists only in memory, for rehearsals and for tests.

It touches nothing: no process, no port, no file. Its undo steps are words for a reaper (the world
it changed goes with this process); `play` understands them here.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from chaos.runtime import (
    ABILITIES,
    CLOCKS,
    LIMITS,
    NETWORKS,
    STORAGE,
    Address,
    ClockLook,
    Health,
    LinkLook,
    NotReady,
    Pressure,
    Progress,
    RuntimeFailure,
    State,
    Step,
    Toxic,
    ToxicRecord,
    cannot,
)
from chaos.runtime.fake_arrays import FakeArrays
from chaos.stack import Limits, Stack
from chaos.toxiproxy.toxics import KINDS
from chaos.toxiproxy.toxics.choice import Choice

FIRST_PORT = 20_000
QUICK_MS = 0.1  # round trip of a healthy link
USES = Limits(cpus=0.2, memory_mib=40, pids=6)  # what every service uses here


@dataclass(slots=True)
class _Process:
    number: int
    state: State = "running"


@dataclass(slots=True)
class _Proxy:
    closed: dict[str, float] = field(default_factory=dict)  # by whom → until when
    records: dict[str, ToxicRecord] = field(default_factory=dict)
    toxics: dict[str, tuple[Toxic, float]] = field(default_factory=dict)  # name → (toxic, end)


class FakeRuntime:
    """The stack in memory. `deaf`: verbs that are ordered in vain, to test those who look;
    `sick`: services that answer their health question with that status; `still`: links without
    traffic (on all others one exchange passes between two looks at a record); `kinds`: what the
    proxies know; `abilities`: what it stands in for can do; `uses`: what every service uses."""

    name = "fake"
    at_once = 1

    def __init__(
        self, stack: Stack, deaf: Iterable[str] = (), abilities: Iterable[str] = ABILITIES
    ) -> None:
        self.stack = stack
        self.abilities = frozenset(abilities)
        self.uses = USES
        self.raised = False
        self.deaf = set(deaf)
        self.sick: dict[str, str] = {}
        self.still: set[str] = set()
        self.kinds: tuple[str, ...] = tuple(sorted(KINDS))
        self.calls: list[str] = []
        self._processes: dict[str, _Process] = {}
        self._proxies = {link.name: _Proxy() for link in stack.links}
        self._started = 0
        self._limits = {s.name: s.limits for s in stack.services}
        self._periods: dict[str, tuple[int, int]] = {}  # throttled, and all
        self._clocked: set[str] = set()
        self._clocks: dict[str, float] = {}
        self._apart: set[frozenset[str]] = set()
        self.storage = FakeArrays(stack, self._heard_array, lambda: self._able(STORAGE))

    # ------------------------------------------------------------ up and down

    def undo_up(self) -> tuple[Step, ...]:
        """In words; playing it here takes everything down."""
        return (_step("down", self.stack.name, f"take the stack {self.stack.name} down"),)

    def up(self, progress: Progress) -> None:
        """Everything is ready at once, except what is sick."""
        for service in self.stack.services:
            self._start(service.name)
            progress(service.name, "starting")
        for service in self.stack.services:
            if (health := self.health(service.name)).status not in ("ready", "degraded"):
                raise NotReady(f"{service.name} was not ready: {health.status} (it was made sick)")
            progress(service.name, "ready")
        self.raised = True

    def down(self) -> None:
        """Everything is gone at once."""
        self.raised = False
        self._processes.clear()
        self._limits = {s.name: s.limits for s in self.stack.services}
        self._clocks.clear()
        self._apart.clear()

    def forget_remains(self) -> None:
        """There are none."""
        self.down()

    def lost(self) -> str:
        """Nobody else touches it."""
        return ""

    def play(self, steps: tuple[Step, ...]) -> None:
        """Play this runtime's own steps."""
        for step in steps:
            verb, name = str(step.get("verb")), str(step.get("name"))
            if verb == "down":
                self.down()
            elif verb == "start":
                self.start(name)
            elif verb == "resume":
                self.resume(name)
            elif verb == "open":
                self.set_link(name, True, by=str(step.get("by", "")))
            elif verb == "clear":
                self._clear(name, step["toxics"])
            elif verb == "unset_limits":
                self._unset_limits(name, step["limits"])
            elif verb == "unset_clock":
                self._unset_clock(name)
            elif verb == "connect":
                self._connect(name, str(step["other"]))
            elif verb == "end":
                if self.identity(name) == step["only"] and self._heard("start", name):
                    self._processes.pop(name, None)
            elif verb == "clear_storage":
                self.storage.clear(name, step["names"])
            else:
                raise RuntimeFailure(f"unknown undo step {dict(step)}")

    # ------------------------------------------------------------ seeing

    def identity(self, service: str) -> str:
        """A number that no later instance has."""
        process = self._processes.get(self.stack.service(service).name)
        return f"{process.number}/0" if process else ""

    def state(self, service: str) -> State:
        """As the verbs left it."""
        process = self._processes.get(self.stack.service(service).name)
        return process.state if process else "gone"

    def health(self, service: str) -> Health:
        """ready when running, silent when not, and as told when sick."""
        if self.state(service) != "running":
            return Health("silent", f"{service} does not answer")
        return Health(self.sick.get(service, "ready"))

    def address(self, service: str, port: str) -> Address:
        """A documentation address (RFC 5737) that nobody can reach."""
        self.stack.service(service).port(port)
        every = [(s.name, p.name) for s in self.stack.services for p in s.ports]
        return Address("192.0.2.1", FIRST_PORT + every.index((service, port)))

    def link_address(self, link: str) -> Address:
        """A documentation address (RFC 5737) that nobody can reach."""
        names = [k.name for k in self.stack.links]
        return Address("192.0.2.2", FIRST_PORT + names.index(self.stack.link(link).name))

    # ------------------------------------------------------------ services

    def kill(self, service: str) -> None:
        """It is gone."""
        if self._heard("kill", service):
            self._processes.pop(service, None)

    def pause(self, service: str) -> None:
        """It is paused, if it runs."""
        if self._heard("pause", service) and (process := self._processes.get(service)):
            process.state = "paused"

    def resume(self, service: str) -> None:
        """It runs, if it was paused."""
        if self._heard("resume", service) and (process := self._processes.get(service)):
            process.state = "running"

    def stop(self, service: str) -> None:
        """It is gone."""
        if self._heard("stop", service):
            self._processes.pop(service, None)

    def start(self, service: str) -> None:
        """It runs again, as another instance."""
        if self._heard("start", service) and service not in self._processes:
            self._start(service)

    def undo_kill(self, service: str) -> tuple[Step, ...]:
        """Start it again."""
        return (_step("start", self.stack.service(service).name, f"start {service} again"),)

    def undo_pause(self, service: str) -> tuple[Step, ...]:
        """Thaw it."""
        return (_step("resume", self.stack.service(service).name, f"thaw {service}"),)

    # ------------------------------------------------------------ limits, clocks, networks

    def prepare_clocks(self, services: tuple[str, ...]) -> None:
        """Remember whose clock may be set."""
        self._able(CLOCKS)
        self._clocked |= {self.stack.service(name).name for name in services}

    def set_clock(self, service: str, offset_s: float) -> None:
        """Remember the offset; only of a service whose clock was prepared."""
        self._able(CLOCKS)
        if self._heard("set_clock", service):
            if service not in self._clocked:
                raise RuntimeFailure(f"{service} was raised with the machine's own clock")
            self._clocks[service] = offset_s

    def clock(self, service: str) -> ClockLook:
        """As it was set."""
        self._able(CLOCKS)
        if self.state(service) != "running":
            raise RuntimeFailure(f"{service} does not tell the time: it is {self.state(service)}")
        return ClockLook(self._clocks.get(service, 0.0), "its memory")

    def undo_set_clock(self, service: str) -> tuple[Step, ...]:
        """Give it the right time."""
        self._able(CLOCKS)
        name = self.stack.service(service).name
        return (_step("unset_clock", name, f"give {service} the right time"),)

    def limits(self, service: str) -> Limits:
        """As they were set, or as the stack says."""
        self._able(LIMITS)
        return self._limits[self.stack.service(service).name]

    def set_limits(self, service: str, limits: Limits) -> None:
        """Remember them; memory below what is in use is refused, as the kernel does."""
        self._able(LIMITS)
        if self._heard("set_limits", service):
            if 0 < limits.memory_mib < self.uses.memory_mib:
                raise RuntimeFailure(f"cannot limit {service}: it uses more memory than that")
            self._limits[service] = _over(self._limits[service], limits)

    def pressure(self, service: str) -> Pressure:
        """What a service that uses `uses` all the time would feel, a second after the last look."""
        self._able(LIMITS)
        if self.state(service) == "gone":
            return Pressure()
        limits, uses = self._limits[service], self.uses
        throttled, periods = self._periods.get(service, (0, 0))
        throttled += 10 if 0 < limits.cpus < uses.cpus else 0
        self._periods[service] = (throttled, periods + 10)
        return Pressure(
            throttled, periods + 10, uses.memory_mib, limits.memory_mib,
            refused=0, pids=min(uses.pids, limits.pids or uses.pids), pids_limit=limits.pids,
        )  # fmt: skip

    def undo_set_limits(self, service: str, limits: Limits) -> tuple[Step, ...]:
        """Put back what is in force now of these."""
        self._able(LIMITS)
        own = self._limits[self.stack.service(service).name]
        back = [
            own.cpus if limits.cpus else 0,
            own.memory_mib if limits.memory_mib else 0,
            own.pids if limits.pids else 0,
        ]
        text = f"give {service} its own limits back"
        return ({**_step("unset_limits", service, text), "limits": back},)

    def disconnect(self, one: str, other: str) -> None:
        """Links between the rooms get no connection."""
        self._able(NETWORKS)
        self._joined(one, other)
        self.calls.append(f"disconnect {one} {other}")
        if "disconnect" not in self.deaf:
            self._apart.add(frozenset({one, other}))

    def undo_disconnect(self, one: str, other: str) -> tuple[Step, ...]:
        """Join them again."""
        self._able(NETWORKS)
        self._joined(one, other)
        step = _step("connect", one, f"join rooms {one} and {other} again")
        return ({**step, "other": other},)

    # ------------------------------------------------------------ links

    def add_toxic(self, link: str, toxic: Toxic, expires_s: float) -> None:
        """Remember it until it expires."""
        if self._heard("add_toxic", link):
            if toxic.type not in self.kinds:
                raise RuntimeFailure(f"the proxies know no toxic {toxic.type}")
            if toxic.name in self.toxics(link):
                raise RuntimeFailure(f"toxic {toxic.name} is on {link} already")
            end = time.monotonic() + expires_s if expires_s > 0 else float("inf")
            self._proxy(link).toxics[toxic.name] = (toxic, end)

    def toxics(self, link: str) -> tuple[str, ...]:
        """Names of those that have not expired."""
        return tuple(toxic.name for toxic in self._live_toxics(link))

    def toxic_kinds(self) -> tuple[str, ...]:
        """Those of the embedded proxy, unless told otherwise."""
        return self.kinds

    def toxic_record(self, link: str, name: str) -> ToxicRecord | None:
        """Since the last look one exchange has passed, unless the link is still."""
        proxy = self._proxy(link)
        live = {toxic.name: toxic for toxic in self._live_toxics(link)}
        if name in live and live[name].type in ("mllp", "dicom", "http"):
            before = proxy.records.get(name, ToxicRecord())
            still = link in self.still
            proxy.records[name] = before if still else _after_one_more(before, live[name])
        return proxy.records.get(name)

    def set_link(self, link: str, enabled: bool, expires_s: float = 0.0, by: str = "") -> None:
        """Remember who closed it; one that is closed opens by itself when that expires."""
        if self._heard("set_link", link):
            closed = self._proxy(link).closed
            if not enabled:
                closed[by] = time.monotonic() + expires_s if expires_s > 0 else float("inf")
            elif by:
                closed.pop(by, None)
            else:
                closed.clear()

    def link_enabled(self, link: str) -> bool:
        """As it was set, or open again by itself."""
        return not self.link_closed_by(link)

    def link_closed_by(self, link: str) -> tuple[str, ...]:
        """Those whose time is not over."""
        now = time.monotonic()
        return tuple(by for by, end in self._proxy(link).closed.items() if now < end)

    def look_at_link(
        self, link: str, within_s: float, poke: bool = False, padding: int = 0, to_end: bool = False
    ) -> LinkLook:
        """What a caller would meet, reckoned from toxics and from the target's state."""
        k = self.stack.link(link)
        asked = self.stack.service(k.target).port(k.port).protocol in ("http", "postgres")
        toxics = {toxic.type: toxic for toxic in self._live_toxics(link)}
        rooms = frozenset({self.stack.room_of(k.source), self.stack.room_of(k.target)})
        if not self.link_enabled(link) or rooms in self._apart:
            return LinkLook("refused", QUICK_MS, asked)
        if "reset_peer" in toxics and (asked or poke):
            return LinkLook("reset", QUICK_MS, asked)
        if self.state(k.target) == "gone":
            return LinkLook("closed", QUICK_MS, asked)
        late = _number(toxics, "latency", "latency")
        if rate := _number(toxics, "bandwidth", "rate"):
            late += padding / rate
        mute = "timeout" in toxics or self.state(k.target) == "paused" or not asked
        if mute or late > within_s * 1e3:
            return LinkLook("silent", within_s * 1e3, asked)
        close_ms = QUICK_MS + _number(toxics, "slow_close", "delay") if to_end else -1.0
        return LinkLook("answered", QUICK_MS + late, asked, close_ms)

    def undo_toxics(self, link: str, names: tuple[str, ...]) -> tuple[Step, ...]:
        """Remove these toxics."""
        text = f"remove {', '.join(names)} from the link {link}"
        return ({**_step("clear", self.stack.link(link).name, text), "toxics": list(names)},)

    def undo_set_link(self, link: str, by: str = "") -> tuple[Step, ...]:
        """Open the link, or let go of it."""
        step = _step("open", self.stack.link(link).name, f"open the link {link}")
        return ({**step, **({"by": by} if by else {})},)

    # ------------------------------------------------------------ inside

    def _able(self, ability: str) -> None:
        if ability not in self.abilities:
            raise cannot(ability)

    def _joined(self, one: str, other: str) -> None:
        if not self.stack.links_between(one, other):
            raise RuntimeFailure(f"nothing joins rooms {one} and {other}")

    def _unset_limits(self, service: str, back: object) -> None:
        assert isinstance(back, list)
        if self._heard("unset_limits", service):
            cpus, memory_mib, pids = back
            own = Limits(cpus, memory_mib, pids)
            self._limits[service] = _over(self._limits[service], own)

    def _unset_clock(self, service: str) -> None:
        if self._heard("unset_clock", service):
            self._clocks.pop(service, None)

    def _connect(self, one: str, other: str) -> None:
        self.calls.append(f"connect {one} {other}")
        if "connect" not in self.deaf:
            self._apart.discard(frozenset({one, other}))

    def _heard_array(self, verb: str, array: str) -> bool:
        self.calls.append(f"{verb} {array}")
        return verb not in self.deaf

    def _heard(self, verb: str, name: str) -> bool:
        if name not in self._proxies:
            self.stack.service(name)
        self.calls.append(f"{verb} {name}")
        return verb not in self.deaf

    def _start(self, service: str) -> None:
        self._started += 1
        self._processes[service] = _Process(self._started)

    def _proxy(self, link: str) -> _Proxy:
        return self._proxies[self.stack.link(link).name]

    def _live_toxics(self, link: str) -> list[Toxic]:
        now = time.monotonic()
        return [toxic for toxic, end in self._proxy(link).toxics.values() if now < end]

    def _clear(self, link: str, names: object) -> None:
        assert isinstance(names, list)
        if self._heard("clear", link):
            for name in names:
                self._proxy(link).toxics.pop(str(name), None)


def _number(toxics: Mapping[str, Toxic], kind: str, attribute: str) -> float:
    return float(toxics[kind].attributes.get(attribute, 0)) if kind in toxics else 0.0


def _over(own: Limits, new: Limits) -> Limits:
    """The new limits; those of 0 stay as they are."""
    return Limits(
        new.cpus or own.cpus, new.memory_mib or own.memory_mib, new.pids or own.pids
    )  # fmt: skip


def _after_one_more(before: ToxicRecord, toxic: Toxic) -> ToxicRecord:
    """One more exchange; a sender that was hit sends the same again."""
    terms = {name: int(toxic.attributes.get(name, 0)) for name in ("nth", "every", "count")}
    seen = before.seen + 1
    taken = Choice(**terms).takes(seen, before.acted)
    return replace(before, seen=seen, acted=before.acted + taken, again=before.acted)


def _step(verb: str, name: str, text: str) -> dict[str, object]:
    return {"do": "nothing", "text": text, "verb": verb, "name": name}
