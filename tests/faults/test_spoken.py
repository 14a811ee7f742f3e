"""Faults that speak protocols: seen by real traffic, from both ends, or refused in clear words."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos.faults import Acknowledgements, Fault, ImageTransfers, LinksOf, TargetError, WebRequests
from chaos.faults.acknowledgement import TruncatedMessages
from chaos.runtime.fake import FakeRuntime
from chaos.runtime.process import ProcessRuntime
from chaos.toxiproxy.client import STOCK_KINDS
from chaos.toxiproxy.toxics import STOCK
from tests.conditions import until
from tests.faults.stories import injected, quiet
from tests.speaking_stack import DICOM, MLLP, WEB, Callers, got, speaking_stack

STOCK_SERVER = str(Path(__file__).resolve().parent / "stock_server.py")


@pytest.fixture(scope="module")
def living(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessRuntime]:
    """A stack of real processes without traffic: a test brings its own callers."""
    runtime = ProcessRuntime(speaking_stack(), tmp_path_factory.mktemp("run"))
    try:
        runtime.up(quiet)
        yield runtime
    finally:
        runtime.forget_remains()


@pytest.fixture
def fake() -> FakeRuntime:
    runtime = FakeRuntime(speaking_stack())
    runtime.up(quiet)
    return runtime


@pytest.mark.parametrize(
    ("fault", "refusal"),
    [
        (Acknowledgements(MLLP, do="error", every=1, count=3), "AE"),
        (ImageTransfers(DICOM, do="refuse", every=1, count=3), "A700"),
        (WebRequests(WEB, do="refuse", every=1, count=3), "503"),
    ],
    ids=["mllp", "dicom", "http"],
)
def test_a_refusal_is_confirmed_from_both_ends(
    fault: Fault, refusal: str, living: ProcessRuntime
) -> None:
    """The sender meets the refusal exactly as often as was acted, and tries again; the receiver
    has a negated message as often as it was sent, and a refused one only once it passed."""
    what = fault.targets(living.stack)[0].rpartition(".")[2]
    before = len(got(living, what))
    with injected(fault, living) as pinned:
        callers = Callers(living, patience_s=5)
        assert pinned.seen(living).ok
        assert until(lambda: callers.refused.count(refusal) == 3)
        assert until(lambda: len(got(living, what)) >= before + 5)
        callers.stop()
    said = pinned.gone(living).text
    assert "acted upon 3 of" in said
    assert "sent the same again 3 times" in said
    there = got(living, what)[before:]
    doubles = len(there) - len(set(there))
    assert doubles == (3 if refusal == "AE" else 0)
    answered = "3 of them really answered by the receiver" if refusal == "AE" else "not get them"
    assert answered in said


def test_without_traffic_nothing_is_seen_and_the_words_say_so(living: ProcessRuntime) -> None:
    """No sender: after `within_s` the observation is not ok and says that nothing passed."""
    fault = Acknowledgements(MLLP, do="drop", within_s=0.3)
    with injected(fault, living) as pinned:
        look = pinned.seen(living)
    assert not look.ok
    assert "none of the acknowledgements that were meant passed within 0.3 s" in look.text
    assert "0 passed in all" in look.text


def test_traffic_that_is_not_meant_does_not_count(living: ProcessRuntime) -> None:
    """The hundred-thousandth request has not passed: seen, not acted upon, not ok."""
    with injected(WebRequests(WEB, do="drop", nth=100_000, within_s=1), living) as pinned:
        callers = Callers(living)
        look = pinned.seen(living)
        callers.stop()
    assert not look.ok
    assert "(0 passed" not in look.text


@pytest.mark.parametrize("fault", [Acknowledgements(MLLP, do="drop", within_s=0.1)])
def test_a_still_link_is_not_seen_on_the_fake_either(fault: Fault, fake: FakeRuntime) -> None:
    """The fake's links carry traffic unless they are still."""
    fake.still = {MLLP}
    with injected(fault, fake) as pinned:
        assert not pinned.seen(fake).ok
    fake.still = set()
    with injected(fault, fake) as pinned:
        assert pinned.seen(fake).ok


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Acknowledgements(WEB, do="drop"), "speaks http, not mllp"),
        (TruncatedMessages(DICOM), "speaks dicom, not mllp"),
        (ImageTransfers(MLLP, do="refuse"), "speaks mllp, not dicom"),
        (WebRequests("ward>echo.echo", do="refuse"), "speaks tcp, not http"),
        (WebRequests(LinksOf("B"), do="refuse"), "speaks mllp, not http"),
        (Acknowledgements(do="drop"), "no link was named"),
    ],
)
def test_a_link_of_another_protocol_is_refused_at_plan_time(fault: Fault, words: str) -> None:
    """TargetError on a stack that is not raised; nothing is touched."""
    planned = FakeRuntime(speaking_stack())
    with pytest.raises(TargetError, match=words):
        fault.pinned(planned)
    assert planned.calls == []


def test_a_real_toxiproxy_is_refused_before_anything_begins(
    fake: FakeRuntime, tmp_path: Path
) -> None:
    """A server that knows Toxiproxy's toxics only: one clear line, in memory and for real."""
    assert sorted(STOCK_KINDS) == sorted(kind.KIND for kind in STOCK)
    fake.kinds = STOCK_KINDS
    fault = ImageTransfers(DICOM, do="refuse")
    with pytest.raises(TargetError, match="needs the embedded proxy"):
        fault.pinned(fake)
    assert fake.calls == []
    command = (sys.executable, STOCK_SERVER, "--host", "{host}", "--port", "{port}")
    runtime = ProcessRuntime(speaking_stack(), tmp_path, toxiproxy=command)
    try:
        runtime.up(quiet)
        with pytest.raises(TargetError, match="take toxiproxy-server off PATH"):
            fault.pinned(runtime)
    finally:
        runtime.forget_remains()


@pytest.mark.parametrize(
    "make",
    [
        lambda: Acknowledgements(MLLP, do="explode"),  # type: ignore[arg-type]
        lambda: Acknowledgements(MLLP, do="drop", nth=0),
        lambda: Acknowledgements(MLLP, do="delay"),
        lambda: Acknowledgements(MLLP, do="reject", code=7),
        lambda: Acknowledgements(MLLP, do="drop", within_s=0),
        lambda: ImageTransfers(DICOM, do="abort", after=-1),
        lambda: WebRequests(WEB, do="refuse", share=0),
        lambda: WebRequests(WEB, do="refuse", path="/" * 999),
    ],
)
def test_terms_that_make_no_sense_are_refused_when_written(make: object) -> None:
    """A value that could not take effect cannot be made."""
    assert callable(make)
    with pytest.raises(ValueError, match="must"):
        make()


@pytest.mark.parametrize(
    ("fault", "story"),
    [
        (
            Acknowledgements("engine>lis.mllp", do="drop", nth=3, every=5, count=2),
            "engine>lis.mllp: the 3rd and every 5th after it (at most 2) acknowledgement is lost",
        ),
        (
            WebRequests("a>b.http", do="refuse", method="POST", path="/fhir", share=0.2),
            "a>b.http: every request POST /fhir… (20.0% of them) is refused (503) and does not "
            "arrive",
        ),
    ],
)
def test_the_story_says_which_exchanges_and_what_becomes_of_them(fault: Fault, story: str) -> None:
    """One sentence that a nurse can read."""
    assert fault.story == story
