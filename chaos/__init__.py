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
        BitRot,
        Chosen,
        CrashLoop,
        Cut,
        Disconnect,
        FailingStorage,
        Fault,
        Flap,
        FullStorage,
        HungStorage,
        ImageTransfers,
        Kill,
        Latency,
        LinksBetween,
        LinksOf,
        LoseRoom,
        LostArray,
        LostWrites,
        Pause,
        ReadOnlyStorage,
        Reset,
        SkewClock,
        SlowClose,
        SlowStorage,
        Squeeze,
        Stop,
        TornWrites,
        TruncatedMessages,
        WebRequests,
    )
    from chaos.journal.history import History
    from chaos.stack import Link, Port, Project, Readiness, Room, Service, Stack, Volume
    from chaos.verdict import Finding, Judgement, Need, Verdict
    from chaos.workload import Workload

_HOME = {
    "chaos.claims": ("Claim",),
    "chaos.claims.judge": ("judge",),
    "chaos.experiment": ("Experiment", "ExperimentVoid", "NotHeld"),
    "chaos.faults": (
        "Acknowledgements", "Bandwidth", "BitRot", "Chosen", "CrashLoop", "Cut", "Disconnect",
        "FailingStorage", "Fault", "Flap", "FullStorage", "HungStorage", "ImageTransfers", "Kill",
        "Latency", "LinksBetween", "LinksOf", "LoseRoom", "LostArray", "LostWrites", "Pause",
        "ReadOnlyStorage", "Reset", "SkewClock", "SlowClose", "SlowStorage", "Squeeze", "Stop",
        "TornWrites", "TruncatedMessages", "WebRequests",
    ),
    "chaos.journal.history": ("History",),
    "chaos.stack": ("Link", "Port", "Project", "Readiness", "Room", "Service", "Stack", "Volume"),
    "chaos.verdict": ("Finding", "Judgement", "Need", "Verdict"),
    "chaos.workload": ("Workload",),
}  # fmt: skip

__all__ = [
    "Acknowledgements",
    "Bandwidth",
    "BitRot",
    "Chosen",
    "Claim",
    "CrashLoop",
    "Cut",
    "Disconnect",
    "Experiment",
    "ExperimentVoid",
    "FailingStorage",
    "Fault",
    "Finding",
    "Flap",
    "FullStorage",
    "History",
    "HungStorage",
    "ImageTransfers",
    "Judgement",
    "Kill",
    "Latency",
    "Link",
    "LinksBetween",
    "LinksOf",
    "LoseRoom",
    "LostArray",
    "LostWrites",
    "Need",
    "NotHeld",
    "Pause",
    "Port",
    "Project",
    "ReadOnlyStorage",
    "Readiness",
    "Reset",
    "Room",
    "Service",
    "SkewClock",
    "SlowClose",
    "SlowStorage",
    "Squeeze",
    "Stack",
    "Stop",
    "TornWrites",
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
