"""What every system that is told of patients remembers: which messages it took, who was merged.

Steps inside a transaction of the caller's own store. It refuses to follow merges in a circle.
"""

from __future__ import annotations

import sqlite3

MERGES_MAX = 20
SEEN_KEPT_S = 7 * 86_400.0
"""Real seconds that a message is remembered by its MSH-10."""
SEEN_SCHEMA = """
CREATE TABLE IF NOT EXISTS seen (
  sender TEXT NOT NULL, control_id TEXT NOT NULL, at REAL NOT NULL,
  PRIMARY KEY (sender, control_id)
) WITHOUT ROWID;
"""


def is_new(connection: sqlite3.Connection, sender: str, control_id: str, now: float) -> bool:
    """Remember a message; False when it was taken before."""
    row = connection.execute(
        "INSERT OR IGNORE INTO seen VALUES (?, ?, ?)", (sender, control_id, now)
    )
    return row.rowcount == 1


def tidy(connection: sqlite3.Connection, now: float) -> None:
    """Forget the MSH-10 of messages that nobody repeats any more."""
    connection.execute("DELETE FROM seen WHERE at < ?", (now - SEEN_KEPT_S,))


def current(connection: sqlite3.Connection, mrn: str) -> str:
    """The mrn that a patient has today: merges in the table `patient` (mrn, merged_into)."""
    for _ in range(MERGES_MAX):
        row = connection.execute("SELECT merged_into FROM patient WHERE mrn = ?", (mrn,)).fetchone()
        if row is None or row[0] is None:
            break
        mrn = row[0]
    return mrn
