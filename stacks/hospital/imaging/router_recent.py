"""Recent urgent studies: their images stay with the router for a while, whoever has them already.

When every archive is away, the emergency viewer gets an urgent study whole, also the images that
an archive had taken, and committed, before it went away. It refuses to keep without a bound (hours
and bytes), and to forget what somebody is still owed.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass

from stacks.hospital.imaging.buffer_threads import Desk, Duty
from stacks.hospital.imaging.router_book import ROUTINE, URGENT, owe
from stacks.hospital.log import Log

KEPT_H = 4.0  # hospital hours after the last image of a study
KEPT_BYTES = 512 * 1024 * 1024  # of all studies that are kept for this only; the oldest go first
LOOK_S = 2.0

_OPEN = """
SELECT 1 FROM delivery WHERE delivery.instance = i.id AND state IN ('owed', 'sent', 'parked')
"""
_SETTLED = f"""
SELECT i.study, max(i.received_at), sum(length(i.data))
FROM instance AS i INDEXED BY instance_here
WHERE i.data IS NOT NULL AND NOT EXISTS ({_OPEN}) GROUP BY i.study ORDER BY 2 DESC
"""
_FORGET = f"""
UPDATE instance AS i SET data = NULL
WHERE i.study = ? AND i.data IS NOT NULL AND NOT EXISTS ({_OPEN})
"""
_URGENT = "SELECT DISTINCT study FROM instance WHERE urgent AND data IS NOT NULL"
_UNSEEN = f"""
SELECT i.study, i.id FROM instance AS i
WHERE i.study IN ({_URGENT}) AND i.data IS NOT NULL
AND NOT EXISTS (SELECT 1 FROM delivery AS d WHERE d.instance = i.id AND d.destination = ?)
ORDER BY i.id
"""
# Studies that nobody can see whole: no archive has taken one of the images.
_INCOMPLETE = f"""
SELECT DISTINCT i.study FROM instance AS i WHERE i.study IN ({_URGENT}) AND NOT EXISTS (
  SELECT 1 FROM delivery AS d WHERE d.instance = i.id AND d.destination != ?
  AND d.state IN ('sent', 'committed'))
"""
_FIRST = """
UPDATE delivery SET lane = ? WHERE destination = ? AND state = 'owed' AND lane = ?
AND instance IN (SELECT id FROM instance WHERE study = ?)
"""


@dataclass(frozen=True, slots=True)
class Unseen:
    """What the viewer is still to be owed; `first` are studies that no archive has whole."""

    first: frozenset[str]
    images: tuple[tuple[str, int], ...]
    """(study, image's number)"""


def unseen(connection: sqlite3.Connection, viewer: str) -> Unseen:
    """Images of recent urgent studies that the viewer has not been owed yet."""
    images = tuple(connection.execute(_UNSEEN, (viewer,)).fetchall())
    if not images:
        return Unseen(frozenset(), ())
    first = frozenset(study for (study,) in connection.execute(_INCOMPLETE, (viewer,)))
    return Unseen(first, images)


def bypass(connection: sqlite3.Connection, viewer: str, found: Unseen) -> None:
    """Owe the viewer whole studies: first those that no archive has whole, then older ones."""
    for study in found.first:
        connection.execute(_FIRST, (URGENT, viewer, ROUTINE, study))
    for lane in (URGENT, ROUTINE):
        ids = [i for study, i in found.images if (study in found.first) == (lane == URGENT)]
        owe(connection, ids, [viewer], lane)


def too_old(settled: Sequence[tuple[str, float, int]], before: float, bytes_max: int) -> list[str]:
    """Which of (study, last image at, bytes), latest first, are to be forgotten."""
    kept, found = 0, []
    for study, at, size in settled:
        kept += size
        if at < before or kept > bytes_max:
            found.append(study)
    return found


class Keeping:
    """Forgets the images of studies that are settled and no longer recent."""

    def __init__(self, desk: Desk, kept_s: float, log: Log) -> None:
        self.duty = Duty("keeping", self._step, log)
        self._desk, self._kept_s = desk, kept_s

    def _step(self) -> float:
        settled = self._desk.read(lambda connection: connection.execute(_SETTLED).fetchall())
        studies = too_old(settled, time.time() - self._kept_s, KEPT_BYTES)
        if studies:
            self._desk.write(
                lambda connection: (
                    connection.executemany(_FORGET, [(study,) for study in studies]).rowcount
                )
            )
        return LOOK_S
