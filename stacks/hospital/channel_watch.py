"""What each channel says of every appointment, sampled whenever a word changed.

It refuses to say which channel is right: it writes down who said what, and when it looked.
"""

from __future__ import annotations

from typing import Protocol

import httpx
import msgspec


class Sampler(Protocol):
    """Where samples go."""

    def __call__(
        self, what: str, subject: str, value: float = 0.0, text: str = "", ok: bool = True
    ) -> None: ...


class Word(msgspec.Struct, frozen=True):
    """One line of GET /says."""

    appointment: str
    word: str
    version: int = 0


class ChannelWatch:
    """Looks at one channel's GET /says and remembers what it said last."""

    def __init__(self, channel: str, client: httpx.Client, sample: Sampler) -> None:
        self._channel, self._client, self._sample = channel, client, sample
        self._said: dict[str, tuple[str, int]] = {}

    def look(self) -> None:
        """One look; an appointment of which the channel says nothing any more is `unknown`."""
        try:
            answer = self._client.get("/says")
            decode = msgspec.json.Decoder(Word).decode
            lines = [decode(line) for line in answer.content.splitlines() if line]
        except (httpx.HTTPError, msgspec.DecodeError) as error:
            reason = str(error).splitlines()[0][:100] if str(error) else type(error).__name__
            self._sample("channel.poll", self._channel, 0.0, reason, ok=False)
            return
        if answer.status_code != 200:
            self._sample("channel.poll", self._channel, 0.0, f"{answer.status_code}", ok=False)
            return
        says = {line.appointment: (line.word, line.version) for line in lines}
        for gone in self._said.keys() - says.keys():
            says[gone] = ("unknown", 0)
        for appointment, (word, version) in says.items():
            if self._said.get(appointment, ("", 0))[0] != word:
                self._sample("channel.word", self._channel, float(version), f"{appointment} {word}")
        self._said = says
        self._sample("channel.poll", self._channel, float(len(lines)))
