"""Faults: values that say what goes wrong, to which targets, how to undo it and how to see it.

A fault never touches anything but through a Runtime, and never begins without its undo on disk.
`EVERY_FAULT` is the one list: a new fault is one new file, one new test and one line there.
"""

from __future__ import annotations

from chaos.faults.acknowledgement import Acknowledgements, TruncatedMessages
from chaos.faults.bandwidth import Bandwidth
from chaos.faults.clock_skew import SkewClock
from chaos.faults.crash_loop import CrashLoop
from chaos.faults.cut import Cut
from chaos.faults.damaged_storage import BitRot, LostWrites, TornWrites
from chaos.faults.disconnect import Disconnect
from chaos.faults.failing_storage import (
    FailingStorage,
    FullStorage,
    HungStorage,
    LostArray,
    ReadOnlyStorage,
)
from chaos.faults.fault import Fault, Observation, TargetError
from chaos.faults.flap import Flap
from chaos.faults.image_transfer import ImageTransfers
from chaos.faults.kill import Kill
from chaos.faults.latency import Latency
from chaos.faults.lose_room import LoseRoom
from chaos.faults.pause import Pause
from chaos.faults.reset import Reset
from chaos.faults.slow_close import SlowClose
from chaos.faults.slow_storage import SlowStorage
from chaos.faults.squeeze import Squeeze
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
    Squeeze,
    SkewClock,
    Disconnect,
    Acknowledgements,
    TruncatedMessages,
    ImageTransfers,
    WebRequests,
    SlowStorage,
    FailingStorage,
    FullStorage,
    ReadOnlyStorage,
    HungStorage,
    LostArray,
    TornWrites,
    LostWrites,
    BitRot,
)

__all__ = [
    "EVERY_FAULT",
    "Acknowledgements",
    "Bandwidth",
    "BitRot",
    "Chosen",
    "CrashLoop",
    "Cut",
    "Disconnect",
    "FailingStorage",
    "Fault",
    "Flap",
    "FullStorage",
    "HungStorage",
    "ImageTransfers",
    "Kill",
    "Latency",
    "LinksBetween",
    "LinksOf",
    "LoseRoom",
    "LostArray",
    "LostWrites",
    "Observation",
    "Pause",
    "ReadOnlyStorage",
    "Reset",
    "SkewClock",
    "SlowClose",
    "SlowStorage",
    "Squeeze",
    "Stop",
    "TargetError",
    "TornWrites",
    "TruncatedMessages",
    "WebRequests",
]
