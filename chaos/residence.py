"""Stacks that stand without an experiment: `up`, and the one under Locust's web UI.

It injects nothing and judges nothing; a standing stack is a lease with an end time.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from chaos.lease import Leases, state_folder
from chaos.runtime import Progress, Runtime, RuntimeFailure
from chaos.runtime.choice import DEFAULT, make
from chaos.stack import Stack

GROUP = "hospital_chaos.stacks"


def named(stack: str) -> Stack:
    """The installed stack of that name (entry points of group `hospital_chaos.stacks`)."""
    known = {point.name: point for point in entry_points(group=GROUP)}
    if stack not in known:
        names = ", ".join(sorted(known)) or "none"
        raise RuntimeFailure(f"no stack {stack!r} is installed; there are: {names}")
    made = known[stack].load()()
    assert isinstance(made, Stack)
    return made


def installed() -> Mapping[str, Callable[[], Stack]]:
    """What makes each installed stack, by its name; nothing is loaded yet."""
    return {point.name: partial(named, point.name) for point in entry_points(group=GROUP)}


def raise_to_stay(
    stack: str, within_s: float, progress: Progress, runtime_name: str = DEFAULT
) -> Mapping[str, Any]:
    """Raise the stack and leave it standing for `within_s` seconds; its addresses are returned."""
    value = named(stack)
    folder = _folder(stack)
    runtime = make(runtime_name, value, folder)
    with Leases.begin(f"up-{stack}") as leases:
        lease = leases.grant(
            f"stack-{stack}", runtime.undo_up(), within_s, standing=True, note={"stack": stack}
        )
        try:
            runtime.up(progress)
        except BaseException:
            lease.release()
            raise
        return {"stack": stack, "logs": str(folder / "logs"), **_addresses(value, runtime)}


def serve_load_ui(stack: str, port: int, progress: Progress) -> int:
    """Raise the stack, run its web UI program until Ctrl-C, take it down."""
    value = named(stack)
    if not value.load:
        raise RuntimeFailure(f"stack {stack} has no traffic that a web UI could show")
    folder = _folder(stack)
    runtime = make(DEFAULT, value, folder)
    with Leases.begin(f"load-ui-{stack}") as leases, leases.grant("stack", runtime.undo_up()):
        runtime.up(progress)
        config = folder / "load-ui.json"
        config.write_text(
            json.dumps(
                {
                    "workload": "load-ui", "journal": str(folder / "journal" / "load-ui.jsonl"),
                    "seed": 7, "speed": value.speed, "params": {}, **_addresses(value, runtime),
                }
            )
        )  # fmt: skip
        command = [part.format(python=sys.executable) for part in value.load]
        options = ["--web-host", "127.0.0.1", "--web-port", str(port)]
        try:
            done = subprocess.run(
                [*command, *options],
                env={**os.environ, "WORKLOAD_CONFIG": str(config)},
                check=False,
            )
        except KeyboardInterrupt:
            return 0
        return done.returncode


def _addresses(stack: Stack, runtime: Runtime) -> dict[str, dict[str, str]]:
    return {
        "links": {k.name: str(runtime.link_address(k.name)) for k in stack.links},
        "direct": {
            f"{s.name}.{p.name}": str(runtime.address(s.name, p.name))
            for s in stack.services
            for p in s.ports
        },
    }


def _folder(stack: str) -> Path:
    """Where logs of a standing stack go: beside the leases, one folder per time it is raised."""
    stamp = dt.datetime.now(dt.UTC).strftime("%Y%m%dT%H%M%SZ")
    folder = state_folder().parent / "hospital-chaos-standing" / f"{stamp}-{stack}-{os.getpid()}"
    for sub in ("logs", "journal"):
        (folder / sub).mkdir(parents=True, exist_ok=True)
    return folder
