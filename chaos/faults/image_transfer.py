"""ImageTransfers: images sent over DICOM links are aborted, refused, or their answers go astray.

It concerns C-STORE alone: queries, worklists and storage commitment pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from chaos.faults import spoken as common
from chaos.faults.fixed import fix
from chaos.faults.targets import LinkTarget, told
from chaos.runtime import Toxic

Deed = Literal["abort", "refuse", "drop", "delay"]
WORDS = {
    "abort": "is broken off by an abort of its association",
    "refuse": "is refused (A700, out of resources) and does not arrive",
    "drop": "is stored, and its answer is lost",
    "delay": "is stored, and its answer comes {delay_ms} ms late",
}


@dataclass(frozen=True, slots=True, init=False)
class ImageTransfers:
    """`ImageTransfers("dicom-router>pacs-a.dicom", do="refuse", nth=10, every=10)`: the tenth
    image on the link, then every tenth after it, at most `count` (0: no bound).

    `abort` lets `after` pieces of the image's data pass, never the last one; both ends are told.
    `refuse` answers in the archive's place. `within_s`: how long real traffic may take to come.
    """

    links: tuple[LinkTarget, ...]
    do: Deed
    nth: int
    every: int
    count: int
    after: int
    delay_ms: int
    within_s: float
    token: str

    def __init__(
        self, *links: LinkTarget, do: Deed, nth: int = 1, every: int = 0, count: int = 0,
        after: int = 0, delay_ms: int = 0, within_s: float = common.WITHIN_S, token: str = "",
    ) -> None:  # fmt: skip
        common.check(
            within_s, tuple(WORDS), do,
            nth=nth, every=every, count=count, after=after, delay_ms=delay_ms,
        )  # fmt: skip
        fix(
            self, links=links, do=do, nth=nth, every=every, count=count, after=after,
            delay_ms=delay_ms, within_s=within_s, token=token,
        )  # fmt: skip

    @property
    def kind(self) -> str:
        return "image-transfers"

    @property
    def exchanges(self) -> str:
        return "images"

    @property
    def story(self) -> str:
        which = common.which(self.nth, self.every, self.count)
        words = WORDS[self.do].format(delay_ms=self.delay_ms)
        return f"{told(self.links)}: {which} image {words}"

    def toxics(self) -> tuple[Toxic, ...]:
        terms: dict[str, int | str] = {
            "action": self.do, "nth": self.nth, "every": self.every, "count": self.count,
            "after": self.after, "delay": self.delay_ms,
        }  # fmt: skip
        return (Toxic(common.name(self), "dicom", terms),)

    pinned, targets, undo, begin = common.pinned, common.targets, common.undo, common.begin
    seen, end, gone, measured = common.seen, common.end, common.gone, common.measured
