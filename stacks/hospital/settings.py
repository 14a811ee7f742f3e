"""What a service reads from its environment, as one frozen value.

It refuses to guess: a missing or malformed variable is one clear line and exit status 64.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, NoReturn

EXIT_USAGE = 64
DEFAULT_SPEED = 60.0
DEFAULT_STOP_S = 5.0


class SettingsError(ValueError):
    """The environment does not describe this service; the text is one line for a person."""


class Address(NamedTuple):
    """Where to listen or whom to call."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def address(variable: str, text: str) -> Address:
    """Parse `host:port` (the host may be an IPv6 address in brackets)."""
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdecimal() or not 0 <= int(port) <= 65535:
        raise SettingsError(f"{variable}={text!r} is not host:port; correct it and start again")
    return Address(host.strip("[]"), int(port))


def _variable(prefix: str, *names: str) -> str:
    return "_".join((prefix, *names)).upper().replace("-", "_")


@dataclass(frozen=True, slots=True)
class Settings:
    """One service's place in the hospital: who it is, where it listens, whom it may call."""

    name: str
    room: str
    data_dir: Path
    speed: float = DEFAULT_SPEED
    """Hospital seconds per real second; scales human durations only, never machine time-outs."""
    stop_s: float = DEFAULT_STOP_S
    """Real seconds in which a deliberate stop must be done."""
    template: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)

    def bind(self, port: str) -> Address:
        """Where this service listens with its port `http`, `mllp`, `postgres`, ..."""
        return self._required(_variable("BIND", port))

    def link(self, target: str, port: str) -> Address:
        """Where to call `target`'s port; raises SettingsError where there is none."""
        return self._required(_variable("LINK", target, port))

    def optional_link(self, target: str, port: str) -> Address | None:
        """Like `link`, but None where the topology has no such link."""
        return self._optional(_variable("LINK", target, port))

    def target(self, target: str, port: str) -> Address:
        """The address that a peer binds itself: an identity (raft), never to be called."""
        return self._required(_variable("TARGET", target, port))

    def front(self, source: str, port: str) -> Address:
        """The address through which `source` calls this service's port."""
        return self._required(_variable("FRONT", source, port))

    def real_s(self, hospital_s: float) -> float:
        """A human duration in hospital seconds, as real seconds."""
        return hospital_s / self.speed

    def _optional(self, variable: str) -> Address | None:
        text = self.environment.get(variable)
        return address(variable, text) if text else None

    def _required(self, variable: str) -> Address:
        found = self._optional(variable)
        if found is None:
            raise SettingsError(f"{self.name}: {variable} is not set; give it as host:port")
        return found


def _positive(environment: Mapping[str, str], variable: str, default: float) -> float:
    text = environment.get(variable) or str(default)
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 < number < 1e9:
        raise SettingsError(f"{variable}={text!r} is not a positive number")
    return number


def read(environment: Mapping[str, str]) -> Settings:
    """Read Settings from an environment; raises SettingsError with one clear line."""
    for variable in ("SERVICE_NAME", "SERVICE_ROOM", "DATA_DIR"):
        if not environment.get(variable):
            raise SettingsError(f"{variable} is not set; see stacks/hospital/settings.py")
    data_dir = Path(environment["DATA_DIR"])
    if not data_dir.is_dir():
        raise SettingsError(f"DATA_DIR={str(data_dir)!r} is not a folder; create it first")
    template = environment.get("STACK_TEMPLATE")
    for variable, text in environment.items():
        if variable.startswith(("BIND_", "LINK_", "TARGET_", "FRONT_")) and text:
            address(variable, text)
    return Settings(
        name=environment["SERVICE_NAME"],
        room=environment["SERVICE_ROOM"],
        data_dir=data_dir,
        speed=_positive(environment, "HOSPITAL_SPEED", DEFAULT_SPEED),
        stop_s=_positive(environment, "STOP_S", DEFAULT_STOP_S),
        template=Path(template) if template else None,
        environment=dict(environment),
    )


def usage_exit(line: str) -> NoReturn:
    """End this program with one clear line and the status for wrong usage."""
    print(line, file=sys.stderr, flush=True)
    raise SystemExit(EXIT_USAGE)


def read_or_exit() -> Settings:
    """Read this process's own Settings, or end with one clear line and status 64."""
    try:
        return read(os.environ)
    except SettingsError as error:
        usage_exit(str(error))
