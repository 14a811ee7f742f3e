"""Reads journal files line by line into typed events, and says which lines are damaged.

It repairs nothing: an unfinished last line is noted (its writer was killed), any other line that
cannot be read is a defect.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from chaos.journal.events import AnyEvent

BLOCK_BYTES = 1 << 22
LINE_MAX_BYTES = 1 << 20
"""No writer makes a longer line; one that is longer is garbage, whatever it holds."""
DEFECTS_KEPT = 20

_DECODER: msgspec.json.Decoder[AnyEvent] = msgspec.json.Decoder(AnyEvent)
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class Condition:
    """What is wrong with a journal: `defects` make the run void, `notes` are only said."""

    def __init__(self) -> None:
        self.defects: list[str] = []
        self.notes: list[str] = []
        self.more = 0

    def defect(self, text: str) -> None:
        """Note a defect; beyond DEFECTS_KEPT they are only counted."""
        if len(self.defects) < DEFECTS_KEPT:
            self.defects.append(text)
        else:
            self.more += 1

    def all_defects(self) -> tuple[str, ...]:
        """Every defect kept, and how many more there were."""
        return (*self.defects, *([f"and {self.more} more defects"] if self.more else []))


def blocks_of(file: Path) -> Iterator[bytes]:
    """The file's bytes in blocks; OSError when it cannot be read."""
    with file.open("rb", buffering=0) as stream:
        while block := stream.read(BLOCK_BYTES):
            yield block


def events_of(
    name: str, blocks: Iterator[bytes], condition: Condition
) -> Iterator[tuple[int, list[AnyEvent]]]:
    """Batches of consecutive events with the line number of the first; damage → `condition`."""
    line, tail, overlong = 1, b"", False
    for block in blocks:
        cut = block.rfind(b"\n") + 1
        if not cut:
            tail = b"" if overlong else tail + block
            if len(tail) > LINE_MAX_BYTES:
                tail, overlong = b"", True
            continue
        if overlong:  # the rest of an endless line, up to its end
            condition.defect(f"{name}:{line} is longer than {LINE_MAX_BYTES} bytes")
            first = block.index(b"\n") + 1
            whole, overlong, line = block[first:cut], False, line + 1
        else:
            whole = tail + block[:cut]
        tail = block[cut:]
        count = whole.count(b"\n")
        yield from _batch(name, line, whole, count, condition)
        line += count
    if overlong:
        condition.defect(f"{name}:{line} is longer than {LINE_MAX_BYTES} bytes")
    elif tail:
        try:
            yield line, [_DECODER.decode(tail)]
        except _UNREADABLE:
            condition.notes.append(f"{name}:{line} is unfinished: its writer was killed")


def _batch(
    name: str, line: int, whole: bytes, count: int, condition: Condition
) -> Iterator[tuple[int, list[AnyEvent]]]:
    try:
        events = _DECODER.decode_lines(whole)
    except _UNREADABLE:
        events = []
    if len(events) == count:
        yield line, events
        return
    for number, text in enumerate(whole.split(b"\n")[:count], line):
        try:
            yield number, [_DECODER.decode(text)]
        except _UNREADABLE as error:
            condition.defect(f"{name}:{number} cannot be read: {_short(error)}")


def _short(error: BaseException) -> str:
    return str(error)[:100] or type(error).__name__
