"""An array that fails in stages: several faults on it at once, the first of which ends last."""

from __future__ import annotations

import pytest

from chaos.faults import FailingStorage, ReadOnlyStorage, SlowStorage
from chaos.runtime.fake import FakeRuntime
from chaos.runtime.process import ProcessRuntime
from tests.conditions import seen
from tests.faults.stories import quiet
from tests.faults.test_storage import living as living  # the fixture
from tests.light_stack import light_stack, on_disks
from tests.storage.arrays import needs_fuse

FIRST = SlowStorage("disk-b", latency_ms=20, operations=("write", "fsync"), restarts=True)


@pytest.fixture
def fake() -> FakeRuntime:
    runtime = FakeRuntime(on_disks(light_stack()))
    runtime.storage.prepare(("disk-b",))
    runtime.up(quiet)
    return runtime


def test_who_does_not_run_is_left_alone(fake: FakeRuntime) -> None:
    """The second stage neither refuses because of him nor starts him."""
    fake.kill("store")
    second = ReadOnlyStorage("disk-b").pinned(fake)
    assert "store" not in {pin.service for pin in second.pins}
    second.begin(fake, 30.0)
    assert second.seen(fake).ok
    second.end(fake)
    assert fake.state("store") == "gone"


def test_a_later_stage_begins_although_a_service_ends_meanwhile(fake: FakeRuntime) -> None:
    """Between pinning and beginning the first stage may end anybody; without one it is refused."""
    first = FIRST.pinned(fake)
    first.begin(fake, 30.0)
    second = FailingStorage("disk-b", operations=("write",)).pinned(fake)
    fake.kill("store")
    second.begin(fake, 30.0)
    assert second.seen(fake).ok


def test_services_are_looked_at_when_the_array_is_whole(fake: FakeRuntime) -> None:
    """A stage that ends while another goes on is gone; the last one wants its services back."""
    first = FIRST.pinned(fake)
    first.begin(fake, 30.0)
    second = ReadOnlyStorage("disk-b").pinned(fake)
    second.begin(fake, 30.0)
    assert not second.gone(fake).ok
    second.end(fake)
    fake.kill("store")
    found = second.gone(fake)
    assert (found.ok, "another fault" in found.text) == (True, True)
    fake.play(fake.storage.undo("disk-b", ("slow-storage-" + first.token + "-0",)))
    assert not first.gone(fake).ok
    first.end(fake)
    assert first.gone(fake).ok


@pytest.mark.storage
@needs_fuse
def test_the_exchange_starts_anew_what_stands_on_it(living: ProcessRuntime) -> None:
    """The first stage ends last: every service of the array is another instance, and ready."""
    before = living.identity("store")
    first = FIRST.pinned(living)
    first.begin(living, 30.0)
    second = ReadOnlyStorage("disk-b").pinned(living)
    second.begin(living, 30.0)
    assert seen(lambda: second.seen(living))[0].ok
    second.end(living)
    assert seen(lambda: second.gone(living))[0].ok
    first.end(living)
    look, _ = seen(lambda: first.gone(living), 20)
    assert look.ok, look.text
    assert living.identity("store") not in ("", before)
