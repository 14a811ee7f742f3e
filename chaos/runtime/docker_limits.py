"""Limits of containers: what is in force, how hard a service presses, and how to change them.

It changes nothing but limits, and never one that it was not asked for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from chaos import reaper
from chaos.runtime import Pressure, RuntimeFailure, Step, containers
from chaos.runtime.containers import OfContainers
from chaos.stack import Limits

NANO = 1_000_000_000
MIB = 1 << 20
CPU_PERIOD_US = 100_000
NO_MEMORY_LIMIT = (1 << 63) - 4096  # the kernel's own "none"; the engine takes no other word back
STATS_S = 10.0
IN_USE = re.compile(r"unable to set memory limit to \d+ \(current usage: (\d+)")


def limits(self: OfContainers, service: str) -> Limits:
    """As the engine keeps them for the container."""
    host = _host(self, service)
    cpus = (host.get("NanoCpus") or 0) / NANO
    if not cpus and (host.get("CpuQuota") or 0) > 0:
        cpus = host["CpuQuota"] / (host.get("CpuPeriod") or CPU_PERIOD_US)
    memory = host.get("Memory") or 0
    return Limits(
        cpus=cpus,
        memory_mib=0 if memory >= NO_MEMORY_LIMIT else memory // MIB,
        pids=max(0, host.get("PidsLimit") or 0),
    )


def set_limits(self: OfContainers, service: str, limits: Limits) -> None:
    """One call of the engine: the kernel takes all of them, or none is kept."""
    wanted = {name: new for name, (new, _) in _changes(_host(self, service), limits).items()}
    _update(self, service, wanted)


def undo_set_limits(self: OfContainers, service: str, limits: Limits) -> tuple[Step, ...]:
    """Its own limits back, word for word; and started again where it was starved to death."""
    own = {name: old for name, (_, old) in _changes(_host(self, service), limits).items()}
    return (
        {**containers.step(self, "update_container", service), "limits": own},
        containers.step(self, "start_container", service),
    )


def pressure(self: OfContainers, service: str) -> Pressure:
    """What the container's control group counts, as the engine reads it now."""
    name = self._container(service)
    state = (containers.inspect(self, service) or {}).get("State") or {}
    starved = bool(state.get("OOMKilled"))
    if not state.get("Running"):
        return Pressure(starved=starved)
    found = _stats(self, service, name)
    throttling = (found.get("cpu_stats") or {}).get("throttling_data") or {}
    memory, pids = found.get("memory_stats") or {}, found.get("pids_stats") or {}
    known = "max_usage" in memory  # control groups of version 1; those of 2 do not tell this way
    return Pressure(
        throttled=throttling.get("throttled_periods", 0),
        periods=throttling.get("periods", 0),
        memory_mib=memory.get("usage", 0) / MIB,
        memory_limit_mib=memory.get("limit", 0) / MIB,
        refused=memory.get("failcnt", 0) if known else -1,
        starved=starved,
        pids=pids.get("current", 0),
        pids_limit=min(pids.get("limit", 0), 1 << 31),
    )


def _stats(self: OfContainers, service: str, name: str) -> Mapping[str, Any]:
    """One look, past the SDK, whose own waits for a second one; {} when the container is gone."""
    path = f"/containers/{name}/stats?stream=false&one-shot=true"
    try:
        status, text = reaper.ask_engine(self._engine, "GET", path, bound_s=STATS_S)
        found = json.loads(text)
    except (reaper.Silent, ValueError) as error:
        raise RuntimeFailure(f"cannot read what {service} uses: {error}") from error
    if status not in (200, 404) or not isinstance(found, dict):
        raise RuntimeFailure(f"cannot read what {service} uses: {_words(text)}")
    return found if status == 200 else {}


def _changes(host: Mapping[str, Any], limits: Limits) -> dict[str, tuple[int, int]]:
    """What the engine must be told: (new value, value that puts the old one back)."""
    found: dict[str, tuple[int, int]] = {}
    if limits.cpus:
        if host.get("NanoCpus"):  # the engine keeps to the way in which a container was limited
            found["NanoCpus"] = (round(limits.cpus * NANO), host["NanoCpus"])
        else:
            found["CpuPeriod"] = (CPU_PERIOD_US, host.get("CpuPeriod") or CPU_PERIOD_US)
            found["CpuQuota"] = (round(limits.cpus * CPU_PERIOD_US), host.get("CpuQuota") or -1)
    if limits.memory_mib:
        new, old = limits.memory_mib * MIB, host.get("Memory") or 0
        found["Memory"] = (new, old or NO_MEMORY_LIMIT)
        found["MemorySwap"] = (new, (host.get("MemorySwap") or -1) if old else -1)
    if limits.pids:
        found["PidsLimit"] = (limits.pids, max(0, host.get("PidsLimit") or 0))
    return found


def _update(self: OfContainers, service: str, wanted: Mapping[str, int]) -> None:
    """Past the SDK, which knows no pids limit here."""
    path = f"/containers/{self._container(service)}/update"
    try:
        status, text = reaper.ask_engine(self._engine, "POST", path, dict(wanted), STATS_S)
    except reaper.Silent as error:
        raise RuntimeFailure(f"cannot limit {service}: {error}") from error
    if status != 200:
        raise RuntimeFailure(f"cannot limit {service}: {_words(text)}")


def _words(text: bytes) -> str:
    """The engine's words, and what they mean where they are the kernel's."""
    words = text.decode("utf-8", "replace").strip()
    if found := IN_USE.search(words):
        used = f"{int(found[1]) / MIB:.0f} MiB"
        return f"it uses more memory than that ({used}), and the kernel cannot take it back"
    return words[:300]


def _host(self: OfContainers, service: str) -> Mapping[str, Any]:
    seen = containers.inspect(self, service)
    if not seen:
        raise RuntimeFailure(f"the container of {service} is gone; look with `docker ps -a`")
    host: Mapping[str, Any] = seen["HostConfig"]
    return host
