"""What a service finds in its environment: where to listen, whom to call, who it is.

Pure: it reads the topology and addresses it is given, and starts nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from chaos.runtime import Address
from chaos.stack import Service, Stack

PASSED_ON = (
    "PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "TMPDIR", "VIRTUAL_ENV",
    "LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONWARNINGS",
)  # fmt: skip
"""What else of the ambient environment a service may see; secrets of the caller stay out, also
because an undo that starts a service again lies on disk with its environment."""

AMBIENT = "HOSPITAL_"
MARK = "HOSPITAL_CHAOS_STACK"  # carries the stack's id: identifies a process of a stack

AddressOf = Callable[[str, str], Address]  # (service, port) → where it listens
ProxyOf = Callable[[str], Address]  # link name → its proxy


def variable(*words: str) -> str:
    """LINK_EHR_DB_A_POSTGRES out of ("link", "ehr-db-a", "postgres")."""
    return "_".join(words).upper().replace("-", "_")


def ambient(environ: Mapping[str, str]) -> dict[str, str]:
    """The part of the caller's environment that services see."""
    return {
        name: value
        for name, value in environ.items()
        if name in PASSED_ON or (name.startswith(AMBIENT) and name != MARK)
    }


def of_service(
    stack: Stack, service: Service, address: AddressOf, proxy: ProxyOf
) -> dict[str, str]:
    """BIND_, LINK_, TARGET_ and FRONT_ of one service, its name and its room."""
    found = {"SERVICE_NAME": service.name, "SERVICE_ROOM": service.room}
    for port in service.ports:
        found[variable("bind", port.name)] = str(address(service.name, port.name))
    for link in stack.links:
        if link.source == service.name:
            called = str(proxy(link.name))
            found[variable("link", link.target, link.port)] = called
            bound = str(address(link.target, link.port))
            found[variable("target", link.target, link.port)] = bound
        if link.target == service.name:
            found[variable("front", link.source, link.port)] = str(proxy(link.name))
    return found
