"""One example of every fault on the light stack, and how tests take it through its life."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

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
