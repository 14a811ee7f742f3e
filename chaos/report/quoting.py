"""Finds the journal lines that verdicts cite.

It changes no line: what the history still holds in full is written as its writer wrote it, and
what it does not hold is said to be missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from chaos.journal import events as e
from chaos.journal.history import History
from chaos.journal.ledger import FILE_SHIFT
from chaos.journal.ops import Op, Outcome
from chaos.journal.stores import Stored

_encode = msgspec.json.Encoder().encode


def lines_of(history: History, refs: Iterable[str]) -> Mapping[str, str]:
    """`file:line` → the line's text, for those references that the history knows.

    Operations and events are encoded again by the encoder that wrote them, which gives the same
    text. A record's own `t` is not kept by the history: its place in time is that of the read.
    """
    wanted = _places(history, refs)
    if not wanted:
        return {}
    found: dict[str, str] = {}
    for place, event in _events(history, wanted):
        ref = wanted[place]
        if ref not in found:
            found[ref] = _encode(event).decode()
    return found


def _places(history: History, refs: Iterable[str]) -> dict[int, str]:
    numbers = {name: i for i, name in enumerate(history.files)}
    places: dict[int, str] = {}
    for ref in refs:
        name, _, line = ref.rpartition(":")
        if name in numbers and line.isascii() and line.isdigit() and 0 < int(line[:10]) < 1 << 32:
            places[numbers[name] << FILE_SHIFT | int(line)] = ref
    return places


def _events(history: History, wanted: Mapping[int, str]) -> Iterator[tuple[int, e.Event]]:
    for one in (*history.seen, *history.sheds):
        if one.place in wanted:
            yield one.place, one.event
    for samples in history.samples.values():
        for sample in samples:
            if sample.place in wanted:
                yield sample.place, sample.event
    for op in history.ops():
        if op.began_at in wanted:
            yield op.began_at, _invoked(op)
        if op.ended_at in wanted:
            yield op.ended_at, _ended(op)
    for store in history.stores.values():
        for shelf in store.shelves.values():
            for first in shelf:
                for record in shelf.rows(first.key):
                    if record.place in wanted:
                        yield record.place, _record(record, store.read_at)


def _invoked(op: Op) -> e.OpInvoked:
    return e.OpInvoked(
        op.invoked, op.id, op.kind, op.klass, op.intended, op.key, op.subject, op.ward,
        op.target, op.value,
    )  # fmt: skip


def _ended(op: Op) -> e.Event:
    if op.outcome is Outcome.OK:
        return e.OpOk(
            op.ended, op.id, op.strength, op.via, op.answer_subject, op.answer_value, op.attempts
        )
    if op.outcome is Outcome.REFUSED:
        return e.OpRefused(op.ended, op.id, op.reason, op.via, op.attempts)
    return e.OpUnknown(op.ended, op.id, op.reason, op.via, op.attempts)


def _record(r: Stored, read_at: float) -> e.Record:
    return e.Record(
        read_at, r.store, r.kind, r.key, r.subject, r.status, r.version, r.digest, r.count, r.at
    )
