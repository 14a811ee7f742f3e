"""Storage that loses or spoils what lies on it: torn writes, a power cut, bit rot.

The damage stays when the fault ends: whoever holds the data must find it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from chaos.faults import storage as common
from chaos.faults.fault import Observation
from chaos.faults.fixed import fix
from chaos.faults.targets import Pin, side_by_side
from chaos.runtime import Runtime

Terms = tuple[str, Mapping[str, object]]
TOLD_FLIPS = 24  # so many are told one by one


@dataclass(frozen=True, slots=True, init=False)
class TornWrites:
    """`TornWrites("ehr-db-a", nth=5)`: only the first sectors of a write reach the file, then EIO.

    `then="gone"`: from then on the whole array (or volume) is gone, as in a crash.
    """

    volumes: tuple[str, ...]
    probability: float
    nth: int
    every: int
    then: str
    files: str
    seed: int
    pins: tuple[Pin, ...]
    token: str

    def __init__(
        self, *volumes: str, probability: float = 0, nth: int = 0, every: int = 0,
        then: Literal["error", "gone"] = "error", files: str = "", seed: int = 0,
    ) -> None:  # fmt: skip
        """ValueError unless exactly one way to choose is given."""
        if sum(map(bool, (probability, nth, every))) != 1 or not 0 <= probability <= 1:
            raise ValueError("give one of probability (0 to 1), nth, every")
        if min(nth, every) < 0 or then not in ("error", "gone"):
            raise ValueError("nth and every must be above 0, then is 'error' or 'gone'")
        fix(
            self, volumes=volumes, probability=probability, nth=nth, every=every, then=then,
            files=files, seed=seed, pins=(), token="",
        )  # fmt: skip

    @property
    def kind(self) -> str:
        return "torn-writes"

    @property
    def story(self) -> str:
        then = ", then it is gone" if self.then == "gone" else ""
        return f"{common.told(self.volumes, self.files)} tears writes{then}"

    ends_services = True
    restarts = False

    def ordered(self) -> Terms:
        return "torn", {
            "probability": self.probability, "nth": self.nth, "every": self.every,
            "then": self.then, "seed": self.seed,
        }  # fmt: skip

    def felt(self, place: common.Place, runtime: Runtime) -> Observation:
        """Proves: a write of a service was torn."""
        return common.acted(place, runtime, "were torn")

    pinned, targets, undo, prepare = common.pinned, common.targets, common.undo, common.prepare
    begin, seen, end, gone = common.begin, common.seen, common.end, common.gone


@dataclass(frozen=True, slots=True, init=False)
class LostWrites:
    """`LostWrites("array-a")`: the power fails. Services on the array die, what they had not synced
    is gone, and the array with it until the fault ends.

    For `gather_s` seconds before, the array remembers what is synced; `lying`: it says that it
    synced and did not, so that all of that time is lost.
    """

    volumes: tuple[str, ...]
    gather_s: float
    lying: bool
    files: str
    pins: tuple[Pin, ...]
    token: str

    def __init__(self, *volumes: str, gather_s: float = 1.0, lying: bool = False) -> None:
        """ValueError when there is no time to lose anything in."""
        if not 0 < gather_s <= 60:
            raise ValueError("gather_s must lie between 0 and 60 seconds")
        fix(
            self, volumes=volumes, gather_s=gather_s, lying=lying, files="", pins=(), token=""
        )  # fmt: skip

    @property
    def kind(self) -> str:
        return "lost-writes"

    @property
    def story(self) -> str:
        lie = ", and syncs of the last moments were lies" if self.lying else ""
        return f"power cut at {common.told(self.volumes, '')}: what was not synced is lost{lie}"

    ends_services = True
    restarts = False

    def ordered(self) -> Terms:
        return "unsynced", {"lying": self.lying}

    def begin(self, runtime: Runtime, lease_s: float) -> None:
        """Arm, gather, end the services, take back what is not synced."""
        common.begin(self, runtime, lease_s)
        time.sleep(min(self.gather_s, lease_s / 2))
        side_by_side(runtime.kill, self.targets(runtime.stack), runtime.at_once)
        for place in common.places(self, runtime.stack):
            runtime.storage.cut_power(place.array, place.name)

    def felt(self, place: common.Place, runtime: Runtime) -> Observation:
        """Proves: the array is gone, and what was not synced was taken back (told how much)."""
        found = common.record(place, runtime)
        lost = ", ".join(f"{count} {what}" for what, count in found.lost.items())
        return Observation(found.gone, f"{place.array} is gone; taken back: {lost or 'nothing'}")

    pinned, targets, undo, prepare = common.pinned, common.targets, common.undo, common.prepare
    seen, end, gone = common.seen, common.end, common.gone


@dataclass(frozen=True, slots=True, init=False)
class BitRot:
    """`BitRot("ehr-db-a", flips=20, files="*/base/*")`: bits in files flip, chosen by seed.

    At once, in the files that are there; each flip in another block of 8 KiB. The array tells
    where (StorageRecord.flipped). Ending the fault repairs nothing.
    """

    volumes: tuple[str, ...]
    flips: int
    files: str
    seed: int
    pins: tuple[Pin, ...]
    token: str

    def __init__(self, *volumes: str, flips: int, files: str = "", seed: int = 0) -> None:
        """ValueError when nothing would flip."""
        if not 0 < flips <= 10_000:
            raise ValueError("flips must lie between 1 and 10000")
        fix(self, volumes=volumes, flips=flips, files=files, seed=seed, pins=(), token="")

    @property
    def kind(self) -> str:
        return "bit-rot"

    @property
    def story(self) -> str:
        return f"{self.flips} bits flip in {common.told(self.volumes, self.files)}"

    ends_services = False
    restarts = False

    def ordered(self) -> Terms:
        return "rot", {"flips": self.flips, "seed": self.seed}

    def felt(self, place: common.Place, runtime: Runtime) -> Observation:
        """Proves: the array flipped that many bits, and says where."""
        flipped = common.record(place, runtime).flipped
        shown = [f"{f['path']} at {f['offset']}" for f in flipped[:TOLD_FLIPS]]
        more = f" and {len(flipped) - TOLD_FLIPS} more" if len(flipped) > TOLD_FLIPS else ""
        text = f"{place.array}: {len(flipped)} bits flipped in {', '.join(shown)}{more}"
        return Observation(len(flipped) == self.flips, text)

    pinned, targets, undo, prepare = common.pinned, common.targets, common.undo, common.prepare
    begin, seen, end, gone = common.begin, common.seen, common.end, common.gone
