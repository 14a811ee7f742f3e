"""What each store held at the final read, indexed so that a record is found by its key.

It hides no duplicate, and a store that was not read to its end never looks complete.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

import msgspec


class Stored(msgspec.Struct, frozen=True, gc=False):
    """One stored record (`chaos.journal.events.Record`) and its place in the journal."""

    store: str
    kind: str
    key: str
    subject: str
    status: str
    version: int
    digest: str
    count: int
    at: float  # when the store took it, CLOCK_MONOTONIC seconds; 0 when it does not say
    place: int


class Shelf:
    """All records of one kind in one store."""

    def __init__(self) -> None:
        self._first: dict[str, Stored] = {}
        self._doubles: dict[str, list[Stored]] = {}

    def put(self, record: Stored) -> None:
        """Only while reading the journal."""
        first = self._first.setdefault(record.key, record)
        if first is not record:
            self._doubles.setdefault(record.key, [first]).append(record)

    def get(self, key: str) -> Stored | None:
        """The first record of that key, or None."""
        return self._first.get(key)

    @property
    def finder(self) -> Callable[[str], Stored | None]:
        """`get` for a million keys, without a call of its own for each."""
        return self._first.get

    def rows(self, key: str) -> tuple[Stored, ...] | list[Stored]:
        """Every record of that key."""
        first = self._first.get(key)
        if first is None:
            return ()
        return self._doubles.get(key) or (first,)

    def copies(self, key: str) -> int:
        """How often the business object lies in the store."""
        return sum(max(1, row.count) for row in self.rows(key))

    def doubled(self) -> Iterator[str]:
        """Keys that lie in the store more than once, in order."""
        for key, record in self._first.items():
            if record.count > 1 or key in self._doubles:
                yield key

    def __iter__(self) -> Iterator[Stored]:
        return iter(self._first.values())

    def __len__(self) -> int:
        return len(self._first)


NOTHING = Shelf()


class Store:
    """One store at its final read; `complete` only if it was read to its end."""

    def __init__(
        self, name: str, complete: bool, records: Iterable[Stored], read_at: float,
        reason: str = "", place: int = 0, read_from: float | None = None,
    ) -> None:  # fmt: skip
        """`read_at`, `read_from`: when its reading ended and began, CLOCK_MONOTONIC seconds."""
        self.name = name
        self.complete = complete
        self.read_at = read_at
        self.read_from = read_at if read_from is None else min(read_from, read_at)
        self.reason = reason
        self.place = place
        self._shelves: dict[str, Shelf] = {}
        for record in records:
            shelf = self._shelves.get(record.kind)
            if shelf is None:
                shelf = self._shelves[record.kind] = Shelf()
            shelf.put(record)

    def shelf(self, kind: str) -> Shelf:
        """Its records of that kind; empty when there are none."""
        return self._shelves.get(kind, NOTHING)

    @property
    def shelves(self) -> Mapping[str, Shelf]:
        """Every kind it holds."""
        return self._shelves
