"""Structured log: one JSON object per line on stderr.

It refuses to fail its caller (a closed stderr is ignored) and to print long texts. Callers must
not log names, birth dates or results: business numbers only, so that logs leak no patient data.
"""

from __future__ import annotations

import sys
import time
import traceback
from datetime import UTC, datetime

import msgspec

MAX_FIELD_CHARS = 2_000
FieldValue = str | int | float | bool | None


class Log:
    """`log.info("order_stored", placer="P1")` → one line. Events are past-tense nouns_verbs."""

    def __init__(self, service: str) -> None:
        self.service = service
        self._quiet_until: dict[str, float] = {}

    def info(self, event: str, **fields: FieldValue) -> None:
        """Something normal happened."""
        self._line("info", event, fields)

    def warn(self, event: str, **fields: FieldValue) -> None:
        """Something is wrong and this service copes with it."""
        self._line("warn", event, fields)

    def error(self, event: str, **fields: FieldValue) -> None:
        """Something is wrong and a person should look."""
        self._line("error", event, fields)

    def warn_once_per(self, quiet_s: float, event: str, **fields: FieldValue) -> None:
        """Like `warn`, at most once in `quiet_s` seconds per event: for loops that retry."""
        now = time.monotonic()
        if now >= self._quiet_until.get(event, 0.0):
            self._quiet_until[event] = now + quiet_s
            self._line("warn", event, fields)

    def defect(self, event: str, error: BaseException, **fields: FieldValue) -> None:
        """A programming error: its traceback goes into the field `trace`, still on one line."""
        trace = "".join(traceback.format_exception(error))[-MAX_FIELD_CHARS:]
        self._line("error", event, {**fields, "error": describe(error), "trace": trace})

    def _line(self, level: str, event: str, fields: dict[str, FieldValue]) -> None:
        line: dict[str, FieldValue] = {
            "ts": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "service": self.service,
            "level": level,
            "event": event,
        }
        for name, value in fields.items():
            line[name] = value[:MAX_FIELD_CHARS] if isinstance(value, str) else value
        try:
            sys.stderr.write(msgspec.json.encode(line).decode() + "\n")
            sys.stderr.flush()
        except (OSError, ValueError):
            return  # nobody reads our log any more: not a reason to stop caring for patients


def describe(error: BaseException) -> str:
    """An exception as one short line: its type and first line of text."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__
