"""The /metrics page in Prometheus' text format. A stream counts when it has ended, not before."""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Iterable, Iterator

from chaos.toxiproxy.proxy import Proxy
from chaos.toxiproxy.toxics.stage import Inbox

_STARTED_S = time.time()
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})


def page(proxies: Iterable[Proxy] | None, *, runtime: bool) -> str:
    """Byte counters of the proxies (None: not wanted) and figures of this process."""
    lines = list(_runtime()) if runtime else []
    if proxies is not None:
        known = sorted(proxies, key=lambda proxy: proxy.name)
        lines += _counter("received", [(p, p.traffic.received) for p in known])
        lines += _counter("sent", [(p, p.traffic.sent) for p in known])
    return "".join(f"{line}\n" for line in lines)


def _counter(what: str, counts: list[tuple[Proxy, dict[str, int]]]) -> Iterator[str]:
    name = f"toxiproxy_proxy_{what}_bytes_total"
    samples = [
        f"{name}{{{_labels(proxy, direction)}}} {count}"
        for proxy, by_direction in counts
        for direction, count in sorted(by_direction.items())
        if count
    ]
    if samples:
        yield f"# HELP {name} "
        yield f"# TYPE {name} counter"
        yield from samples


def _labels(proxy: Proxy, direction: str) -> str:
    labels = {
        "direction": direction,
        "listener": proxy.listen,
        "proxy": proxy.name,
        "upstream": proxy.upstream,
    }
    return ",".join(f'{key}="{value.translate(_ESCAPES)}"' for key, value in labels.items())


def _runtime() -> Iterator[str]:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    with open("/proc/self/statm") as statm:
        resident = int(statm.read().split()[1]) * _PAGE_BYTES
    version = ".".join(str(part) for part in sys.version_info[:3])
    figures = [
        ("process_cpu_seconds_total", "counter", usage.ru_utime + usage.ru_stime),
        ("process_open_fds", "gauge", len(os.listdir("/proc/self/fd"))),
        ("process_resident_memory_bytes", "gauge", resident),
        ("process_start_time_seconds", "gauge", round(_STARTED_S, 2)),
        ("toxiproxy_held_bytes", "gauge", Inbox.held_bytes),
    ]
    for name, kind, value in figures:
        yield f"# HELP {name} Of the proxy server's process."
        yield f"# TYPE {name} {kind}"
        yield f"{name} {value}"
    yield "# HELP python_info The interpreter."
    yield "# TYPE python_info gauge"
    yield f'python_info{{version="{version}"}} 1'
