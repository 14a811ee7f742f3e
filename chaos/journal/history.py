"""The history of a run: every journal file merged by the clock they share, read-only.

It judges nothing and repairs nothing; what is wrong with the journal is said in `defects` (the
run is void) and `notes` (tolerated, and told).
"""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from chaos.journal import events as ev
from chaos.journal.ledger import FILE_SHIFT, Ledger
from chaos.journal.lines import Condition, blocks_of, events_of
from chaos.journal.ops import Op, Ops
from chaos.journal.spans import Injection, Load, Seen, Window, injections, loads, windows
from chaos.journal.stores import Store, Stored

E = TypeVar("E", bound=ev.Event)
NONE = Ops()
LINE_MASK = (1 << FILE_SHIFT) - 1


class HistoryError(RuntimeError):
    """A folder that holds no journal, or one that cannot be read: which, why, what to do."""


@dataclass(frozen=True, eq=False)
class History:
    """What happened. Times are CLOCK_MONOTONIC seconds; places become `file:line` by `cite`.

    `seen` holds everything but operations, samples, sheds and records, in the order of time.
    `seconds` are the whole seconds in which any writer wrote anything.
    """

    files: tuple[str, ...]
    defects: tuple[str, ...]
    notes: tuple[str, ...]
    start: float
    end: float
    seen: tuple[Seen[ev.Event], ...]
    by_kind: Mapping[str, Ops]
    samples: Mapping[str, tuple[Seen[ev.Sample], ...]]
    sheds: tuple[Seen[ev.Shed], ...]
    stores: Mapping[str, Store]
    seconds: frozenset[int] = field(repr=False, default=frozenset())

    # ------------------------------------------------------------ reading

    @classmethod
    def read(cls, folder: Path) -> History:
        """Every `*.jsonl` of the journal folder (or of `journal/` in a run folder).

        Raises HistoryError when there is no such folder or a file cannot be read; damage inside
        a file is no error but a defect or a note.
        """
        if (folder / "journal").is_dir():
            folder = folder / "journal"
        if not folder.is_dir():
            raise HistoryError(f"{folder} is no journal folder; name the folder of a run")
        files = sorted(folder.glob("*.jsonl"))
        try:
            return cls._assemble((file.name, blocks_of(file)) for file in files)
        except OSError as error:
            raise HistoryError(
                f"the journal in {folder} cannot be read: {error.strerror or error}"
            ) from error

    @classmethod
    def of(cls, files: Mapping[str, bytes]) -> History:
        """The same from bytes by file name (tests, archives)."""
        return cls._assemble((name, iter([files[name]])) for name in sorted(files))

    @classmethod
    def _assemble(cls, files: Iterable[tuple[str, Iterator[bytes]]]) -> History:
        condition = Condition()
        ledger = Ledger(condition)
        names: list[str] = []
        with no_collections():
            for number, (name, blocks) in enumerate(files):
                names.append(name)
                ledger.begin_file(name)
                for line, batch in events_of(name, blocks, condition):
                    ledger.take(number << FILE_SHIFT | line, batch)
                ledger.end_file()
            ledger.close()
        if ledger.end < ledger.start:
            condition.defect("the journal holds no events")
            ledger.start = ledger.end = 0.0
        by_kind = {}
        for kind in sorted(ledger.ops):  # the plain lists are let go one by one
            by_kind[kind] = Ops(ledger.ops.pop(kind))
        return cls(
            files=tuple(names),
            defects=condition.all_defects(),
            notes=tuple(condition.notes),
            start=ledger.start,
            end=ledger.end,
            seen=tuple(Seen(e, p) for _, p, e in sorted(ledger.rare, key=_time_and_place)),
            by_kind=by_kind,
            samples={
                what: tuple(Seen(e, p) for _, p, e in sorted(some, key=_time_and_place))
                for what, some in sorted(ledger.samples.items())
            },
            sheds=tuple(Seen(e, p) for _, p, e in sorted(ledger.sheds, key=_time_and_place)),
            stores=ledger.stores,
            seconds=frozenset(ledger.seconds),
        )

    # ------------------------------------------------------------ looking things up

    def cite(self, place: int | Op | Stored | Seen[ev.Event]) -> str:
        """`file:line` of a place, operation, record or event."""
        number = place if isinstance(place, int) else place.place
        return f"{self.files[number >> FILE_SHIFT]}:{number & LINE_MASK}"

    def ops(self, *kinds: str) -> Iterator[Op]:
        """Operations of these kinds (of every kind when none is named), kind by kind."""
        for kind in kinds or tuple(self.by_kind):
            yield from self.by_kind.get(kind, NONE)

    def ops_between(self, kinds: Iterable[str], start: float, end: float) -> Iterator[Op]:
        """Operations of these kinds with start ≤ intended < end, kind by kind."""
        for kind in kinds:
            yield from self.by_kind.get(kind, NONE).between(start, end)

    @cached_property
    def op_count(self) -> int:
        """How many operations began."""
        return sum(len(ops) for ops in self.by_kind.values())

    @property
    def events(self) -> tuple[ev.Event, ...]:
        """Everything but operations, samples, sheds and records, in the order of time."""
        return tuple(one.event for one in self.seen)

    def of_type(self, kind: type[E]) -> list[Seen[E]]:
        """The events of one type, in the order of time."""
        return [Seen(s.event, s.place) for s in self.seen if isinstance(s.event, kind)]

    @cached_property
    def run(self) -> ev.RunStarted | None:
        """The run's first event, or None when it is missing."""
        return next((s.event for s in self.of_type(ev.RunStarted)), None)

    @cached_property
    def ended(self) -> ev.RunEnded | None:
        """The run's last event; None when the harness was killed or the run goes on."""
        return next((s.event for s in self.of_type(ev.RunEnded)), None)

    @property
    def speed(self) -> float:
        """Hospital seconds per real second; 1 when the run did not say."""
        return self.run.speed if self.run and self.run.speed > 0 else 1.0

    @cached_property
    def windows(self) -> tuple[Window, ...]:
        """Every window, in the order of its opening; one that was left open ends at the end of
        the evidence."""
        return windows(self.seen, self.injections, self.end)

    @cached_property
    def injections(self) -> tuple[Injection, ...]:
        """Every fault with what became of it, in the order of its beginning."""
        return injections(self.seen)

    @cached_property
    def loads(self) -> tuple[Load, ...]:
        """Every workload with its end, if it had one."""
        return loads(self.seen)

    @cached_property
    def drained(self) -> Seen[ev.Drained] | None:
        """The last look at the backlogs after the faults; None when nobody looked."""
        looks = self.of_type(ev.Drained)
        return looks[-1] if looks else None


@contextmanager
def no_collections() -> Iterator[None]:
    """For what makes many objects: events make no cycles, and collecting among a million of them
    would take a third of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _time_and_place(entry: tuple[float, int, object]) -> tuple[float, int]:
    return entry[:2]
