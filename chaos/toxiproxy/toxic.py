"""A toxic as the API knows it: name, type, stream, toxicity and attributes."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from chaos.toxiproxy.loop import Timer
from chaos.toxiproxy.toxics.record import Record
from chaos.toxiproxy.toxics.stage import Toxic
from chaos.toxiproxy.toxics.talk import Speaking, Talk

UPSTREAM = "upstream"
DOWNSTREAM = "downstream"


@dataclass(eq=False)
class NamedToxic:
    """One entry of a proxy's toxics; `stream` is spelled as the client spelled it.

    A toxic that speaks a protocol sits on both streams and keeps a record of what it did.
    """

    name: str
    stream: str
    toxicity: float
    attributes: Toxic
    expiry: Timer | None = None
    record: Record = field(default_factory=Record)

    @property
    def direction(self) -> str:
        """`upstream` or `downstream`."""
        return self.stream.casefold()

    @property
    def speaks(self) -> bool:
        """Whether it understands a protocol."""
        return isinstance(self.attributes, Speaking)

    @property
    def directions(self) -> tuple[str, ...]:
        """The streams that it sits on."""
        return (UPSTREAM, DOWNSTREAM) if self.speaks else (self.direction,)

    def talk(self) -> Talk | None:
        """What it keeps about a new connection; None for a toxic of one stream."""
        attributes = self.attributes
        return attributes.talk(self.record) if isinstance(attributes, Speaking) else None

    def shown(self) -> dict[str, Any]:
        """As the API shows it."""
        more = {"record": self.record.shown()} if self.speaks else {}
        return {
            "attributes": attributes_of(self.attributes),
            "name": self.name,
            "type": self.attributes.KIND,
            "stream": self.stream,
            "toxicity": float(self.toxicity),
            **more,
        }


def attributes_of(toxic: Toxic) -> dict[str, int | str]:
    """The attributes by name, in the order of the API."""
    return {name: getattr(toxic, name) for name in attribute_names(type(toxic))}


def attribute_names(kind: type[Toxic]) -> list[str]:
    """The names of a type's attributes, in the order of the API."""
    return [one.name for one in fields(kind)]  # type: ignore[arg-type]
