"""A hospital's people around fake services, for tests of single departments."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import gevent

from chaos.journal import events as ev
from stacks.hospital.traffic import callers as c
from stacks.hospital.traffic.callers import Callers
from stacks.hospital.traffic.config import Config
from stacks.hospital.traffic.ledger import Ledger
from stacks.hospital.traffic.people import Census, Person
from stacks.hospital.traffic.surroundings import Hospital
from tests.hospital.traffic.fakes import FakeService, Pages, nobody

MINUTE_S = 0.05  # of the hospital, in real seconds


@dataclass
class Town:
    """Fake services by name; whoever is named in `gone` refuses connections."""

    services: dict[str, FakeService] = field(default_factory=dict)
    gone: tuple[str, ...] = ()
    pages: Pages = field(default_factory=Pages)

    def hospital(self) -> Hospital:
        """The people of a topology that has just these services."""
        links = {c.LINKS[name]: each.address for name, each in self.services.items()}
        links |= {c.LINKS[name]: nobody() for name in self.gone}
        ledger = Ledger(self.pages, "t")
        ways = Callers(Config("t", links=links), ledger, "seed")
        self.spawned: list[Any] = []

        def spawn(act: Any, *args: Any) -> None:
            self.spawned.append(gevent.spawn(act, *args))

        return Hospital(ledger, ways, Census(), "t.", lambda s: s / 60 * MINUTE_S, spawn)

    def close(self) -> None:
        """Stop everything."""
        gevent.killall(getattr(self, "spawned", []))
        for each in self.services.values():
            each.close()

    def ops(self, kind: str) -> list[tuple[Any, Any]]:
        """(invoked, last word or None) of every operation of a kind."""
        ends = {e.op: e for e in self.pages.events
                if isinstance(e, (ev.OpOk, ev.OpRefused, ev.OpUnknown))}  # fmt: skip
        return [(e, ends.get(e.op)) for e in self.pages.of(ev.OpInvoked) if e.kind == kind]

    def ended(self, kind: str) -> list[Any]:
        """The last words of operations of a kind."""
        return [end for _, end in self.ops(kind) if end is not None]


def somebody(mrn: str = "M1", klass: str = "P1") -> Person:
    """A patient."""
    return Person(mrn, klass, "icu", "Martin", "Camille", "1960-01-02")
