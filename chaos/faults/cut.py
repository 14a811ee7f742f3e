"""Cut: links carry nothing. Either connections are refused, or (silent) bytes vanish on the way.

Refused is a dead host on a living network; silent is a dead network: connections stay open and
nobody answers, which programs find much harder to notice.
"""

from __future__ import annotations

from dataclasses import dataclass

from chaos.faults import toxics
from chaos.faults.fault import Observation
from chaos.faults.targets import LinkTarget, all_of, links, side_by_side, told
from chaos.runtime import Runtime, Step, Toxic
from chaos.stack import Stack

LOOK_S = 0.2  # a link that is silent so long, where a question was asked, is cut


@dataclass(frozen=True, slots=True, init=False)
class Cut:
    """`Cut(LinksBetween("A", "B"), silent=True)`; open connections are cut as well."""

    links: tuple[LinkTarget, ...]
    silent: bool
    token: str

    def __init__(self, *links: LinkTarget, silent: bool = False, token: str = "") -> None:
        object.__setattr__(self, "links", links)
        object.__setattr__(self, "silent", silent)
        object.__setattr__(self, "token", token)

    @property
    def kind(self) -> str:
        return "cut"

    @property
    def story(self) -> str:
        how = "carry nothing, in silence" if self.silent else "are cut (connections refused)"
        return f"{told(self.links)} {how}"

    def pinned(self, runtime: Runtime) -> Cut:
        self.targets(runtime.stack)
        return Cut(*self.links, silent=self.silent, token=self.token or toxics.token())

    def targets(self, stack: Stack) -> tuple[str, ...]:
        return links(self.links, stack)

    def undo(self, runtime: Runtime) -> tuple[Step, ...]:
        names = self.targets(runtime.stack)
        if self.silent:
            return toxics.undo(runtime, names, self._toxics())
        return tuple(step for name in names for step in runtime.undo_set_link(name))

    def begin(self, runtime: Runtime, lease_s: float) -> None:
        names = self.targets(runtime.stack)
        if self.silent:
            toxics.put(runtime, names, self._toxics(), lease_s)
            return
        for name in names:
            runtime.set_link(name, False, lease_s)

    def seen(self, runtime: Runtime) -> Observation:
        """Proves: a real connection through each link was refused; or, when silent, that the
        proxy holds the toxics and a question (http, postgres) got no answer within LOOK_S."""
        look = self._look_silent if self.silent else _look_refused
        return all_of(side_by_side(lambda k: look(k, runtime), self.targets(runtime.stack)))

    def end(self, runtime: Runtime) -> None:
        runtime.play(self.undo(runtime))

    def gone(self, runtime: Runtime) -> Observation:
        """Proves: each link's proxy is open and accepts a connection, without our toxics."""
        names = self.targets(runtime.stack)
        if self.silent:
            return toxics.gone(runtime, names, self._toxics())
        return all_of(side_by_side(lambda k: _look_open(k, runtime), names))

    def _toxics(self) -> tuple[Toxic, ...]:
        name = f"cut-{self.token}" if self.token else ""
        nothing = {"timeout": 0}  # Toxiproxy: no data passes, the connection stays
        return (
            Toxic(name and f"{name}-down", "timeout", nothing, "downstream"),
            Toxic(name and f"{name}-up", "timeout", nothing, "upstream"),
        )

    def _look_silent(self, link: str, runtime: Runtime) -> Observation:
        held = toxics.read_back(runtime, link, self._toxics())
        if not held.ok:
            return held
        met = runtime.look_at_link(link, LOOK_S)
        ok = met.outcome != "answered"
        return Observation(ok, f"{link}: a connection met {met.outcome}")


def _look_refused(link: str, runtime: Runtime) -> Observation:
    met = runtime.look_at_link(link, LOOK_S)
    return Observation(met.outcome == "refused", f"{link}: a connection met {met.outcome}")


def _look_open(link: str, runtime: Runtime) -> Observation:
    met = runtime.look_at_link(link, toxics.OPEN_S)
    return Observation(met.outcome != "refused", f"{link}: a connection met {met.outcome}")
