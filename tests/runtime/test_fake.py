"""The fake runtime: what tests rely on beyond the contract that all runtimes share."""

from __future__ import annotations

import pytest

from chaos import reaper
from chaos.runtime import NotReady
from chaos.runtime.fake import FakeRuntime
from tests.light_stack import light_stack


def test_a_deaf_verb_is_ordered_in_vain() -> None:
    """The order is noted, the state does not change."""
    runtime = FakeRuntime(light_stack(), deaf=["kill"])
    runtime.up(lambda _service, _state: None)
    runtime.kill("web")
    assert runtime.state("web") == "running"
    assert runtime.calls == ["kill web"]


def test_a_sick_service_keeps_the_stack_from_being_ready() -> None:
    """up names the culprit."""
    runtime = FakeRuntime(light_stack())
    runtime.sick["web"] = "starting"
    with pytest.raises(NotReady, match="web was not ready: starting"):
        runtime.up(lambda _service, _state: None)


def test_a_reaper_can_play_and_tell_every_step() -> None:
    """Undo steps of a fake are words for the reaper, and no failure."""
    runtime = FakeRuntime(light_stack())
    link = "ward>web.http"
    steps = [
        *runtime.undo_up(), *runtime.undo_kill("web"), *runtime.undo_pause("web"),
        *runtime.undo_set_link(link), *runtime.undo_toxics(link, ("a",)),
    ]  # fmt: skip
    for step in steps:
        reaper.play_step(step)
    assert "start web again" in [reaper.describe(step) for step in steps]
