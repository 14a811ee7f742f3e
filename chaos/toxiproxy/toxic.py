"""A toxic as the API knows it: name, type, stream, toxicity and attributes."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from chaos.toxiproxy.loop import Timer
from chaos.toxiproxy.toxics.stage import Toxic

UPSTREAM = "upstream"
DOWNSTREAM = "downstream"


@dataclass(eq=False)
class NamedToxic:
    """One entry of a proxy's toxics; `stream` is spelled as the client spelled it."""

    name: str
    stream: str
    toxicity: float
    attributes: Toxic
    expiry: Timer | None = None

    @property
    def direction(self) -> str:
        """`upstream` or `downstream`."""
        return self.stream.casefold()

    def shown(self) -> dict[str, Any]:
        """As the API shows it."""
        return {
            "attributes": attributes_of(self.attributes),
            "name": self.name,
            "type": self.attributes.KIND,
            "stream": self.stream,
            "toxicity": float(self.toxicity),
        }


def attributes_of(toxic: Toxic) -> dict[str, int]:
    """The attributes by name, in the order of the API."""
    return {name: getattr(toxic, name) for name in attribute_names(type(toxic))}


def attribute_names(kind: type[Toxic]) -> list[str]:
    """The names of a type's attributes, in the order of the API."""
    return [field.name for field in fields(kind)]  # type: ignore[arg-type]
