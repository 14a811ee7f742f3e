"""Faults: values that say what goes wrong, to which targets, how to undo it and how to see it.

A fault never touches anything but through a Runtime, and never begins without its undo on disk.
`EVERY_FAULT` is the one list: a new fault is one new file, one new test and one line there.
"""

from __future__ import annotations

from chaos.faults.acknowledgement import Acknowledgements, TruncatedMessages
from chaos.faults.bandwidth import Bandwidth
from chaos.faults.crash_loop import CrashLoop
from chaos.faults.cut import Cut
from chaos.faults.fault import Fault, Observation, TargetError
from chaos.faults.flap import Flap
from chaos.faults.image_transfer import ImageTransfers
from chaos.faults.kill import Kill
from chaos.faults.latency import Latency
from chaos.faults.lose_room import LoseRoom
from chaos.faults.pause import Pause
from chaos.faults.reset import Reset
from chaos.faults.slow_close import SlowClose
from chaos.faults.stop import Stop
from chaos.faults.targets import Chosen, LinksBetween, LinksOf
from chaos.faults.web_request import WebRequests

EVERY_FAULT: tuple[type[Fault], ...] = (
    Kill,
    Pause,
    Stop,
    CrashLoop,
    Latency,
    Bandwidth,
    Cut,
    Reset,
    SlowClose,
    Flap,
    LoseRoom,
    Acknowledgements,
    TruncatedMessages,
    ImageTransfers,
    WebRequests,
)

__all__ = [
    "EVERY_FAULT",
    "Acknowledgements",
    "Bandwidth",
    "Chosen",
    "CrashLoop",
    "Cut",
    "Fault",
    "Flap",
    "ImageTransfers",
    "Kill",
    "Latency",
    "LinksBetween",
    "LinksOf",
    "LoseRoom",
    "Observation",
    "Pause",
    "Reset",
    "SlowClose",
    "Stop",
    "TargetError",
    "TruncatedMessages",
    "WebRequests",
]
