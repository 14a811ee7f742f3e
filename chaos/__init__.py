"""hospital-chaos: crash servers of a running hospital and judge whether its claims hold.

The public names. They are loaded when they are first used, so that child programs of this package
(the reaper, the embedded proxy) stay free of the harness.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chaos.claims import Claim
    from chaos.claims.judge import judge
    from chaos.experiment import Experiment, ExperimentVoid, NotHeld
    from chaos.faults import (
        Acknowledgements,
        Bandwidth,
        Chosen,
        CrashLoop,
        Cut,
        Fault,
        Flap,
        ImageTransfers,
        Kill,
        Latency,
        LinksBetween,
        LinksOf,
        LoseRoom,
        Pause,
        Reset,
        SlowClose,
        Stop,
        TruncatedMessages,
        WebRequests,
    )
    from chaos.journal.history import History
    from chaos.stack import Link, Port, Readiness, Room, Service, Stack, Volume
    from chaos.verdict import Finding, Judgement, Need, Verdict
    from chaos.workload import Workload

_HOME = {
    "chaos.claims": ("Claim",),
    "chaos.claims.judge": ("judge",),
    "chaos.experiment": ("Experiment", "ExperimentVoid", "NotHeld"),
    "chaos.faults": (
        "Acknowledgements", "Bandwidth", "Chosen", "CrashLoop", "Cut", "Fault", "Flap",
        "ImageTransfers", "Kill", "Latency", "LinksBetween", "LinksOf", "LoseRoom", "Pause",
        "Reset", "SlowClose", "Stop", "TruncatedMessages", "WebRequests",
    ),
    "chaos.journal.history": ("History",),
    "chaos.stack": ("Link", "Port", "Readiness", "Room", "Service", "Stack", "Volume"),
    "chaos.verdict": ("Finding", "Judgement", "Need", "Verdict"),
    "chaos.workload": ("Workload",),
}  # fmt: skip

__all__ = [
    "Acknowledgements",
    "Bandwidth",
    "Chosen",
    "Claim",
    "CrashLoop",
    "Cut",
    "Experiment",
    "ExperimentVoid",
    "Fault",
    "Finding",
    "Flap",
    "History",
    "ImageTransfers",
    "Judgement",
    "Kill",
    "Latency",
    "Link",
    "LinksBetween",
    "LinksOf",
    "LoseRoom",
    "Need",
    "NotHeld",
    "Pause",
    "Port",
    "Readiness",
    "Reset",
    "Room",
    "Service",
    "SlowClose",
    "Stack",
    "Stop",
    "TruncatedMessages",
    "Verdict",
    "Volume",
    "WebRequests",
    "Workload",
    "judge",
]


def __getattr__(name: str) -> Any:
    for module, names in _HOME.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module 'chaos' has no attribute {name!r}")
