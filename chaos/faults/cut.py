"""Cut: links carry nothing. Either connections are refused, or (silent) bytes vanish on the way.

Refused is a dead host on a living network; silent is a dead network: connections stay open and
nobody answers, which programs find much harder to notice.
"""

from __future__ import annotations

from dataclasses import dataclass

from chaos.faults import toxics as common
from chaos.faults.fault import Observation
from chaos.faults.fixed import fix
from chaos.faults.targets import LinkTarget, all_of, side_by_side, told
from chaos.runtime import Runtime, Step, Toxic

LOOK_S = 0.2  # a link that is silent so long, where a question was asked, is cut


@dataclass(frozen=True, slots=True, init=False)
class Cut:
    """`Cut(LinksBetween("A", "B"), silent=True)`; open connections are cut as well."""

    links: tuple[LinkTarget, ...]
    silent: bool
    token: str

    def __init__(self, *links: LinkTarget, silent: bool = False, token: str = "") -> None:
        fix(self, links=links, silent=silent, token=token)

    @property
    def kind(self) -> str:
        return "cut"

    @property
    def story(self) -> str:
        how = "carry nothing, in silence" if self.silent else "are cut (connections refused)"
        return f"{told(self.links)} {how}"

    def undo(self, runtime: Runtime) -> tuple[Step, ...]:
        if self.silent:
            return common.undo(self, runtime)
        names, by = self.targets(runtime.stack), common.name(self)
        return tuple(step for name in names for step in runtime.undo_set_link(name, by))

    def begin(self, runtime: Runtime, lease_s: float) -> None:
        if self.silent:
            common.begin(self, runtime, lease_s)
            return
        for name in self.targets(runtime.stack):
            runtime.set_link(name, False, lease_s, common.name(self))

    def seen(self, runtime: Runtime) -> Observation:
        """Proves: a real connection through each link was refused; or, when silent, that the
        proxy holds the toxics and a question (http, postgres) got no answer within LOOK_S."""
        if self.silent:
            return common.seen(self, runtime)
        names = self.targets(runtime.stack)
        return all_of(side_by_side(lambda k: _look_refused(k, runtime), names))

    def gone(self, runtime: Runtime) -> Observation:
        """Proves: each link's proxy is open and accepts a connection, without our toxics; or that
        another fault keeps it closed, and this one no longer does."""
        if self.silent:
            return common.gone(self, runtime)
        names, by = self.targets(runtime.stack), common.name(self)
        return all_of(side_by_side(lambda k: common.accepts(runtime, k, by), names))

    def toxics(self) -> tuple[Toxic, ...]:
        nothing = {"timeout": 0}  # Toxiproxy: no data passes, the connection stays
        return (
            Toxic(common.name(self, "down"), "timeout", nothing, "downstream"),
            Toxic(common.name(self, "up"), "timeout", nothing, "upstream"),
        )

    def measured(self, link: str, held: Observation, runtime: Runtime) -> Observation:
        """Proves, where the target answers a question: none came within LOOK_S."""
        del held
        met = runtime.look_at_link(link, LOOK_S)
        return Observation(met.outcome != "answered", f"{link}: a connection met {met.outcome}")

    def end(self, runtime: Runtime) -> None:
        runtime.play(self.undo(runtime))

    pinned, targets = common.pinned, common.targets


def _look_refused(link: str, runtime: Runtime) -> Observation:
    met = runtime.look_at_link(link, LOOK_S)
    return Observation(met.outcome == "refused", f"{link}: a connection met {met.outcome}")
