"""Acknowledgements and TruncatedMessages: HL7 messages on MLLP links go wrong between two systems.

The receiver has the message and the sender cannot know, or the receiver gets half of it. They
change nothing else on the link, and make no traffic of their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from chaos.faults import spoken as common
from chaos.faults.fixed import fix
from chaos.faults.targets import LinkTarget, told
from chaos.runtime import Toxic

Deed = Literal["drop", "delay", "error", "reject", "truncate"]
WORDS = {
    "drop": "is lost",
    "delay": "comes {delay_ms} ms late",
    "error": "becomes an AE with ERR-3 {code}",
    "reject": "becomes an AR with ERR-3 {code}",
    "truncate": "breaks off in the middle, with its connection",
}
INTERNAL_ERROR = 207  # HL7 table 0357: application internal error, worth another try


@dataclass(frozen=True, slots=True, init=False)
class Acknowledgements:
    """`Acknowledgements("engine>lis.mllp", do="drop", nth=3, every=5)`: the third that the
    receiver gives, then every fifth after it, at most `count` (0: no bound).

    `delay` beyond the sender's time-out is a late acknowledgement. `code` is the ERR-3 of `error`
    (AE) and `reject` (AR): senders try 206 and 207 again, others they give up. `within_s` is how
    long real traffic may take to come by.
    """

    links: tuple[LinkTarget, ...]
    do: Deed
    nth: int
    every: int
    count: int
    delay_ms: int
    code: int
    within_s: float
    token: str

    def __init__(
        self, *links: LinkTarget, do: Deed, nth: int = 1, every: int = 0, count: int = 0,
        delay_ms: int = 0, code: int = INTERNAL_ERROR, within_s: float = common.WITHIN_S,
        token: str = "",
    ) -> None:  # fmt: skip
        common.check(
            within_s, tuple(WORDS), do, nth=nth, every=every, count=count, delay_ms=delay_ms
        )
        if not 100 <= code <= 299:
            raise ValueError(f"code must be of HL7 table 0357 (100 to 207), not {code}")
        fix(
            self, links=links, do=do, nth=nth, every=every, count=count, delay_ms=delay_ms,
            code=code, within_s=within_s, token=token,
        )  # fmt: skip

    @property
    def kind(self) -> str:
        return "acknowledgements"

    @property
    def exchanges(self) -> str:
        return "acknowledgements"

    @property
    def story(self) -> str:
        words = WORDS[self.do].format(delay_ms=self.delay_ms, code=self.code)
        which = common.which(self.nth, self.every, self.count)
        return f"{told(self.links)}: {which} acknowledgement {words}"

    def toxics(self) -> tuple[Toxic, ...]:
        terms: dict[str, int | str] = {
            "action": self.do, "nth": self.nth, "every": self.every, "count": self.count,
            "delay": self.delay_ms, "code": self.code,
        }  # fmt: skip
        return (Toxic(common.name(self), "mllp", terms),)

    pinned, targets, undo, begin = common.pinned, common.targets, common.undo, common.begin
    seen, end, gone, measured = common.seen, common.end, common.gone, common.measured


@dataclass(frozen=True, slots=True, init=False)
class TruncatedMessages:
    """`TruncatedMessages("engine>lis.mllp", nth=2)`: the receiver gets half of it, then the
    connection ends; nobody has acknowledged anything."""

    links: tuple[LinkTarget, ...]
    nth: int
    every: int
    count: int
    within_s: float
    token: str

    def __init__(
        self, *links: LinkTarget, nth: int = 1, every: int = 0, count: int = 0,
        within_s: float = common.WITHIN_S, token: str = "",
    ) -> None:  # fmt: skip
        common.check(within_s, ("truncate",), "truncate", nth=nth, every=every, count=count)
        fix(self, links=links, nth=nth, every=every, count=count, within_s=within_s, token=token)

    @property
    def kind(self) -> str:
        return "truncated-messages"

    @property
    def exchanges(self) -> str:
        return "messages"

    @property
    def story(self) -> str:
        which = common.which(self.nth, self.every, self.count)
        return f"{told(self.links)}: {which} message breaks off in the middle, with its connection"

    def toxics(self) -> tuple[Toxic, ...]:
        terms: dict[str, int | str] = {
            "action": "truncate-message", "nth": self.nth, "every": self.every, "count": self.count
        }  # fmt: skip
        return (Toxic(common.name(self), "mllp", terms, "upstream"),)

    pinned, targets, undo, begin = common.pinned, common.targets, common.undo, common.begin
    seen, end, gone, measured = common.seen, common.end, common.gone, common.measured
