"""The watcher's look at a channel: every word that changed, and every look, is a sample."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from stacks.hospital.channel_watch import ChannelWatch
from tests.hospital.traffic.fakes import FakeService, Reply, nobody

Sample = tuple[str, float, str, bool]


class Channel:
    """GET /says of one channel, and the samples that a watch of it wrote."""

    def __init__(self) -> None:
        self.says: dict[str, tuple[str, int]] = {}
        self.status = 200
        self.torn = False
        self.service = FakeService(self._behave)
        self.samples: list[Sample] = []
        client = httpx.Client(base_url=f"http://{self.service.address}", timeout=2)
        self.watch = ChannelWatch("website", client, self.sample)

    def sample(
        self, what: str, subject: str, value: float = 0.0, text: str = "", ok: bool = True
    ) -> None:
        assert subject == "website"
        self.samples.append((what, value, text, ok))

    def look(self) -> list[Sample]:
        self.samples.clear()
        self.watch.look()
        return list(self.samples)

    def _behave(self, *_: Any) -> Reply:
        rows = [{"appointment": key, "patient": "M", "word": word, "version": version}
                for key, (word, version) in self.says.items()]  # fmt: skip
        data = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
        return self.status, {}, data[:-4] if self.torn else data


@pytest.fixture
def channel() -> Iterator[Channel]:
    made = Channel()
    yield made
    made.service.close()


def test_a_word_is_sampled_when_it_changes_and_only_then(channel: Channel) -> None:
    """First seen, changed, gone: each once, with the version that the channel has."""
    channel.says = {"A1": ("confirmed", 1), "A2": ("confirmed", 1)}
    first = channel.look()
    assert [s[2] for s in first if s[0] == "channel.word"] == ["A1 confirmed", "A2 confirmed"]
    assert channel.look() == [("channel.poll", 2.0, "", True)]
    channel.says["A1"] = ("cancelled", 2)
    assert ("channel.word", 2.0, "A1 cancelled", True) in channel.look()
    del channel.says["A2"]
    assert [s[2] for s in channel.look() if s[0] == "channel.word"] == ["A2 unknown"]
    assert [s[0] for s in channel.look()] == ["channel.poll"]


def test_a_look_that_failed_is_a_sample_and_changes_no_word(channel: Channel) -> None:
    """Broken, torn: the channel is not blamed for words that it did not say."""
    channel.says = {"A1": ("confirmed", 1)}
    channel.look()
    channel.status = 503
    assert channel.look() == [("channel.poll", 0.0, "503", False)]
    channel.status, channel.torn = 200, True
    ((what, _, _, ok),) = channel.look()
    assert (what, ok) == ("channel.poll", False)
    channel.torn = False
    assert channel.look() == [("channel.poll", 1.0, "", True)]


def test_a_channel_that_is_gone_is_a_look_that_failed() -> None:
    """Nobody listens: one sample, no exception."""
    samples: list[Sample] = []

    def sample(what: str, _: str, value: float = 0.0, text: str = "", ok: bool = True) -> None:
        samples.append((what, value, text, ok))

    with httpx.Client(base_url=f"http://{nobody()}", timeout=1) as client:
        ChannelWatch("sms", client, sample).look()
    ((what, _, text, ok),) = samples
    assert (what, ok) == ("channel.poll", False)
    assert text
