"""Puts a container of somebody else's project back on its network, with the names it had there.

It touches the one container that the step names by its id, on the one network, and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from .containers import inspect
from .patience import message, patient
from .step import Step, StepFailed

NO_SUBNET = b"user configured subnets"  # how the engine refuses an address that it gave itself


def restore_endpoint(step: Step) -> str:
    """Give a container its names and its address on a network back, and read them back.

    Idempotent. An address that the engine had chosen by itself is the engine's to choose again; a
    different one is told, not a failure.
    """
    seen = inspect(step)
    if not seen:
        return "the container is gone, there is nothing to restore"
    now = _endpoint(seen, step)
    if now is not None and _differs(now, seen, step) == "":
        return "as it was"
    if now is not None and not _disconnected(step):
        return "the network is gone, there is nothing to restore"
    if not _connected(step, ""):
        return "the container or the network is gone, there is nothing to restore"
    seen, now = _looked(step)
    if _names(now, seen) == _wanted(step) and _differs(now, seen, step):
        seen, now = _at_its_address(step)
    if _names(now, seen) != _wanted(step):
        raise StepFailed(f"names of {step['name']} stay {sorted(_names(now, seen))}: {words(step)}")
    if difference := _differs(now, seen, step):
        return f"its own names again; {difference}: the engine had chosen its address and did again"
    return "its own names and address again"


def leave_endpoint(step: Step) -> str:
    """Detach a container whose names or address are not its own, so that restore_endpoint of
    several on one network can attach them in the order of their addresses."""
    seen = inspect(step)
    now = _endpoint(seen, step)
    if now is None or _differs(now, seen, step) == "":
        return "there is nothing to leave"
    return "detached" if _disconnected(step) else "the network is gone"


def words(step: Step) -> str:
    """The step in words and commands."""
    if step["do"] == "leave_endpoint":
        network, name = step["network_name"], step["name"]
        return f"detach {step['service']}: docker network disconnect {network} {name}"
    ip = f"--ip {step['ip']} " if step.get("fixed") else ""
    aliases = "".join(f"--alias {alias} " for alias in step["aliases"])
    network, name = step["network_name"], step["name"]
    return (
        f"put {step['service']} back on network {network} as {', '.join(step['aliases'])} at "
        f"{step['ip']}: docker network disconnect {network} {name}; "
        f"docker network connect {ip}{aliases}{network} {name}"
    )


def _at_its_address(step: Step) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Ask for the address by its number, where the engine allows it; else as it comes."""
    _disconnected(step)
    if not _connected(step, str(step["ip"])):
        _connected(step, "")
    return _looked(step)


def _connected(step: Step, ip: str) -> bool:
    """Attach as the step says; False when there is nothing to attach, or no such `ip`."""
    ipam = dict(step.get("ipam") or {})
    if ip:
        ipam["IPv4Address"] = ip
    config = {
        "Aliases": list(step["aliases"]),
        "IPAMConfig": ipam or None,
        "Links": step.get("links"),
        "DriverOpts": step.get("driver_opts"),
    }
    body = {"Container": step["container"], "EndpointConfig": config}
    status, text = patient(step, "POST", f"{_network(step)}/connect", body)
    if status == 404 or (ip and (NO_SUBNET in text or b"already in use" in text)):
        return False
    if status == 200 or (status == 403 and b"already exists" in text):
        return True
    raise StepFailed(f"cannot attach {step['name']}: {status} {message(text)}: {words(step)}")


def _disconnected(step: Step) -> bool:
    body = {"Container": step["container"], "Force": False}
    status, text = patient(step, "POST", f"{_network(step)}/disconnect", body)
    if status == 404:
        return b"is not connected" in text  # detached already, or else the network is gone
    if status == 200 or b"is not connected" in text:
        return True
    raise StepFailed(f"cannot detach {step['name']}: {status} {message(text)}: {words(step)}")


def _looked(step: Step) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    seen = inspect(step)
    now = _endpoint(seen, step)
    if now is None:
        raise StepFailed(f"{step['name']} does not stay on its network: {words(step)}")
    return seen, now


def _endpoint(seen: Mapping[str, Any], step: Step) -> Mapping[str, Any] | None:
    networks = (seen.get("NetworkSettings") or {}).get("Networks") or {}
    found = networks.get(step["network_name"])
    return found if isinstance(found, dict) else None


def _differs(now: Mapping[str, Any], seen: Mapping[str, Any], step: Step) -> str:
    """What is not as it was, in words; '' when all is. One that is ended has no address."""
    if _names(now, seen) != _wanted(step):
        return "other names"
    ip = now.get("IPAddress") or ""
    return "" if ip in ("", step["ip"]) else f"at {ip} instead of {step['ip']}"


def _names(now: Mapping[str, Any], seen: Mapping[str, Any]) -> set[str]:
    """Without the short id, which the engine adds by itself."""
    return set(now.get("Aliases") or ()) - {str(seen.get("Id", ""))[:12]}


def _wanted(step: Step) -> set[str]:
    return set(step["aliases"]) - {str(step["container"])[:12]}


def _network(step: Step) -> str:
    return f"/networks/{quote(str(step['network']), safe='')}"
