"""One example of every fault on the light stack, and how tests take it through its life."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

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
from chaos.runtime import Runtime
from tests.speaking_stack import DICOM, MLLP, WEB

STORE = Chosen("the only store", ("store", "mirror"), lambda _runtime: "store")

EXAMPLES: dict[str, Fault] = {
    "kill": Kill("web", STORE),
    "pause": Pause("web", "store"),
    "stop": Stop("echo"),
    "crash-loop": CrashLoop("echo", every_s=0.3, down_s=0.1),
    "latency": Latency("ward>web.http", "ward>echo.echo", latency_ms=150),
    "latency-room": Latency(LinksOf("A"), latency_ms=100, jitter_ms=20),
    "bandwidth": Bandwidth("ward>web.http", kb_per_s=50),
    "cut": Cut(LinksBetween("A", "B")),
    "cut-silent": Cut(LinksBetween("A", "B"), "ward>echo.echo", silent=True),
    "reset": Reset("ward>web.http", "ward>echo.echo"),
    "slow-close": SlowClose("ward>web.http", delay_ms=500),
    "flap": Flap("ward>web.http", down_s=0.2, up_s=0.2),
    "room": LoseRoom("A"),
    "room-hangs": LoseRoom("B", how="pause", silent=True),
    "squeeze": Squeeze("web", cpus=0.1, memory_mib=100, pids=40),
    "squeeze-memory": Squeeze("store", memory_mib=90),
    "clock-skew": SkewClock("web", offset_s=3600),
    "clock-skew-back": SkewClock("store", "hall", offset_s=-86_400),
    "disconnect": Disconnect("A", "B"),
    "ack-lost": Acknowledgements(MLLP, do="drop", nth=2),
    "ack-late": Acknowledgements(MLLP, do="delay", delay_ms=700),
    "ack-negative": Acknowledgements(MLLP, do="reject", nth=2, every=3, count=2),
    "ack-truncated": Acknowledgements(MLLP, do="truncate"),
    "message-truncated": TruncatedMessages(MLLP, nth=2),
    "store-aborted": ImageTransfers(DICOM, do="abort"),
    "store-refused": ImageTransfers(DICOM, do="refuse", nth=2),
    "store-answer-lost": ImageTransfers(DICOM, do="drop"),
    "http-refused": WebRequests(WEB, do="refuse", method="PUT", path="/put", retry_after_s=2),
    "http-answer-lost": WebRequests(WEB, do="drop", share=0.5, seed=3),
    "http-answer-late": WebRequests(WEB, do="delay", delay_ms=400, every=2),
}

STORED: dict[str, Fault] = {
    "slow": SlowStorage("disk-b", latency_ms=40, operations=("write", "fsync")),
    "slow-bandwidth": SlowStorage("disk-b", kb_per_s=500),
    "slow-some-files": SlowStorage("store", latency_ms=30, jitter_ms=10, files="da*"),
    "failing": FailingStorage("store"),
    "failing-third-sync": FailingStorage("store", operations=("fsync",), every=3),
    "full": FullStorage("disk-b", free_mb=0.1),
    "read-only": ReadOnlyStorage("store", "mirror"),
    "hung": HungStorage("disk-b"),
    "hung-sync": HungStorage("store", operations=("fsync",)),
    "lost": LostArray("disk-b", error="ENOTCONN"),
    "lost-some-files": LostArray("store", files="data"),
    "torn": TornWrites("store", nth=2),
    "power-cut": LostWrites("disk-b", gather_s=0.3),
    "power-cut-lying": LostWrites("store", gather_s=0.3, lying=True),
    "bit-rot": BitRot("store", flips=3, seed=1),
}
"""Faults of storage; tests/faults/test_storage.py has the stack that they need."""


def quiet(_service: str, _state: str) -> None:
    """Progress that nobody hears."""


@contextmanager
def injected(fault: Fault, runtime: Runtime, lease_s: float = 30.0) -> Iterator[Fault]:
    """Pinned, begun, and ended whatever happens."""
    pinned = fault.pinned(runtime)
    try:
        pinned.begin(runtime, lease_s)
        yield pinned
    finally:
        pinned.end(runtime)
