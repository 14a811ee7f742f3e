"""What a child program of the harness is told, as one frozen value (see chaos/workload.py).

It refuses to guess: a missing or malformed configuration is one clear line and exit status 64.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import msgspec

from stacks.hospital.settings import Address, SettingsError, address

VARIABLE = "WORKLOAD_CONFIG"
EXIT_USAGE = 64
T = TypeVar("T")


class ConfigError(ValueError):
    """The configuration does not describe this program's work; the text is one line."""


class Config(msgspec.Struct, frozen=True):
    """One child's surroundings: `links` are proxies, `direct` the services themselves."""

    workload: str
    journal: str = ""
    seed: int = 0
    speed: float = 60.0
    links: dict[str, str] = {}
    direct: dict[str, str] = {}
    params: dict[str, Any] = {}

    def link(self, name: str) -> Address:
        """The proxy of a link; raises ConfigError when the topology has no such link."""
        return _known(self.links, name, "link")

    def service(self, name: str, port: str) -> Address | None:
        """The own address of a service's port; None when the topology has no such service."""
        key = f"{name}.{port}"
        return _known(self.direct, key, "service") if key in self.direct else None

    def real_s(self, hospital_s: float) -> float:
        """A human duration in hospital seconds, as real seconds."""
        return hospital_s / self.speed

    def params_as(self, type_: type[T]) -> T:
        """The workload's own parameters as a typed value; raises ConfigError."""
        try:
            return msgspec.convert(self.params, type_, strict=True)
        except msgspec.ValidationError as error:
            raise ConfigError(f"workload {self.workload}: params: {error}") from None


def _known(addresses: dict[str, str], name: str, what: str) -> Address:
    if name not in addresses:
        known = ", ".join(sorted(addresses)) or "none"
        raise ConfigError(f"no {what} {name!r} in {VARIABLE} (known: {known})")
    try:
        return address(name, addresses[name])
    except SettingsError as error:
        raise ConfigError(str(error)) from None


def read() -> Config:
    """The Config that WORKLOAD_CONFIG names; raises ConfigError."""
    path = os.environ.get(VARIABLE)
    if not path:
        raise ConfigError(f"{VARIABLE} is not set; the harness sets it (`hospital-chaos run`)")
    try:
        config = msgspec.json.decode(Path(path).read_bytes(), type=Config)
    except OSError as error:
        raise ConfigError(f"{VARIABLE}={path}: {error.strerror}") from None
    except msgspec.DecodeError as error:
        raise ConfigError(f"{VARIABLE}={path}: {error}") from None
    if not 0 < config.speed < 1e9:
        raise ConfigError(f"{VARIABLE}={path}: speed {config.speed} is not a positive number")
    return config


def usage_exit(line: str) -> NoReturn:
    """End this program with one clear line and the status for wrong usage."""
    print(line, file=sys.stderr, flush=True)
    raise SystemExit(EXIT_USAGE)
