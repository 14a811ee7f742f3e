"""WebRequests: HTTP requests are refused with 503 in the server's place, or answers go astray.

It concerns HTTP/1.x requests that match; all others pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from chaos.faults import spoken as common
from chaos.faults.fixed import fix
from chaos.faults.targets import LinkTarget, told
from chaos.runtime import Toxic

Deed = Literal["refuse", "drop", "delay"]
WORDS = {
    "refuse": "is refused (503) and does not arrive",
    "drop": "is done, and its answer is lost",
    "delay": "is done, and its answer comes {delay_ms} ms late",
}
WHOLE = 1000  # the proxy counts shares in thousandths
MAX_PATH = 500
MAX_METHOD = 32


@dataclass(frozen=True, slots=True, init=False)
class WebRequests:
    """`WebRequests("wards>ehr-a.http", do="refuse", method="POST", path="/fhir", share=0.2,
    seed=7)`: a fifth of those requests, the same ones for the same traffic and seed.

    `method` and `path` (a prefix) choose requests, '' any; of those the `nth`, then `every` so
    many more, at most `count` (0: no bound), and of those a `share`. A refusal carries
    Retry-After (`retry_after_s`) and an OperationOutcome. `within_s`: how long real traffic may
    take to come by.
    """

    links: tuple[LinkTarget, ...]
    do: Deed
    method: str
    path: str
    nth: int
    every: int
    count: int
    share: float
    seed: int
    retry_after_s: int
    delay_ms: int
    within_s: float
    token: str

    def __init__(
        self, *links: LinkTarget, do: Deed, method: str = "", path: str = "", nth: int = 1,
        every: int = 0, count: int = 0, share: float = 1.0, seed: int = 0, retry_after_s: int = 1,
        delay_ms: int = 0, within_s: float = common.WITHIN_S, token: str = "",
    ) -> None:  # fmt: skip
        common.check(
            within_s, tuple(WORDS), do, nth=nth, every=every, count=count, seed=seed,
            delay_ms=delay_ms, retry_after_s=retry_after_s,
        )  # fmt: skip
        if not 1 / WHOLE <= share <= 1:
            raise ValueError(f"share must be {1 / WHOLE:g} to 1, not {share:g}")
        if len(path) > MAX_PATH or len(method) > MAX_METHOD:
            raise ValueError(f"path and method must have at most {MAX_PATH} and {MAX_METHOD} signs")
        fix(
            self, links=links, do=do, method=method, path=path, nth=nth,
            every=every or int(share < 1), count=count, share=share, seed=seed,
            retry_after_s=retry_after_s, delay_ms=delay_ms, within_s=within_s, token=token,
        )  # fmt: skip

    @property
    def kind(self) -> str:
        return "web-requests"

    @property
    def exchanges(self) -> str:
        return "requests"

    @property
    def story(self) -> str:
        which = common.which(self.nth, self.every, self.count)
        share = f" ({self.share:.1%} of them)" if self.share < 1 else ""
        meant = " ".join(filter(None, (self.method, self.path and f"{self.path}…")))
        words = WORDS[self.do].format(delay_ms=self.delay_ms)
        return f"{told(self.links)}: {which} request {meant}{share} {words}".replace("  ", " ")

    def toxics(self) -> tuple[Toxic, ...]:
        terms: dict[str, int | str] = {
            "action": self.do, "method": self.method, "path": self.path, "nth": self.nth,
            "every": self.every, "count": self.count, "share": round(self.share * WHOLE),
            "seed": self.seed, "retry_after": self.retry_after_s, "delay": self.delay_ms,
        }  # fmt: skip
        return (Toxic(common.name(self), "http", terms),)

    pinned, targets, undo, begin = common.pinned, common.targets, common.undo, common.begin
    seen, end, gone, measured = common.seen, common.end, common.gone, common.measured
