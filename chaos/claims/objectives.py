"""Recovery objectives of every system of a run: the time until service and the loss of data.

It refuses to measure an experiment that proves nothing, and to say of a system what no fault, no
question or no final read has shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from chaos.claims.evidence import bounded, cited, count, seconds
from chaos.claims.interruption import interruption
from chaos.claims.loss import WHAT, kept_until
from chaos.claims.loss import loss as loss_of
from chaos.claims.subject import Merges
from chaos.journal.events import Sample
from chaos.journal.history import History
from chaos.journal.spans import Injection, Seen
from chaos.journal.stores import Store
from chaos.objective import Bound, Figure, Objective
from chaos.systems import Drills, Home, Made, Promise, System

FAULTS, BACKUP = "faults", "backup"


def objectives(
    history: History, systems: Iterable[System], judged: Iterable[str], unproven: str = ""
) -> tuple[Objective, ...]:
    """Measured for each system that stands in the run's topology. Pure and total: it raises
    nothing and never guesses.

    `judged`: ids of the claims whose bounds are told; `unproven`: why nothing counts, if it does
    not: then nothing is measured either.
    """
    ids = frozenset(judged)
    found: list[Objective] = []
    merges: Merges | None = None
    for system in systems:
        faces = tuple(face for face in system.faces if _stands(history, face.services[0]))
        if not faces:
            continue
        system = replace(system, faces=faces)
        try:
            if merges is None and not unproven:
                merges = Merges(history)
            found += _measured(system, history, ids, merges, unproven)
        except Exception as error:  # the fault is ours: nothing is measured, and it says so
            why = f"measuring itself failed ({type(error).__name__}: {error})"
            found += _measured(system, history, ids, None, why)
    return tuple(found)


def _measured(
    system: System, history: History, judged: frozenset[str], merges: Merges | None, unproven: str
) -> list[Objective]:
    bounds = tuple(
        _bound(one, history) for one in system.promises if one.claim in judged and not one.backup
    )
    if unproven or merges is None:
        rto = tuple(Figure(face.words, unproven) for face in system.faces)
        rpo = Figure(WHAT, unproven)
        return [Objective(system.name, system.words, FAULTS, rto, rpo, bounds)]
    seen = [fault for fault in history.injections if fault.seen is not None]
    rto = tuple(interruption(face, _on(face.services, seen), history) for face in system.faces)
    homes = _homes(system, history)
    made = _copies(system.made, history)
    places = {name for face in system.faces for name in face.services}
    places |= {home.store for each in homes.values() for home in each}
    places |= {made.source, *made.copies, *made.queues} if made else set()
    if any(home.backlog for each in homes.values() for home in each):
        places |= set(system.queues)
    rpo = loss_of(replace(system, made=made), homes, _on(places, seen), history, merges)
    done = [Objective(system.name, system.words, FAULTS, rto, rpo, bounds)]
    if system.drills is not None:
        done += _restored(system, system.drills, history, judged, merges)
    return done


# ------------------------------------------------------------ the topology


def _stands(history: History, service: str) -> bool:
    known = history.run.services if history.run else {}
    return not known or service in known


def _homes(system: System, history: History) -> dict[str, tuple[Home, ...]]:
    found = {
        kind: tuple(home for home in homes if _stands(history, home.store))
        for kind, homes in system.homes.items()
    }
    return {kind: homes for kind, homes in found.items() if homes}


def _copies(made: Made | None, history: History) -> Made | None:
    if made is None or not _stands(history, made.source):
        return None
    copies = tuple(name for name in made.copies if _stands(history, name))
    return replace(made, copies=copies) if copies else None


def _on(services: Iterable[str], faults: Iterable[Injection]) -> list[Injection]:
    """Faults that hit one of the services, or a link that leads to one."""
    names = frozenset(services)
    return [fault for fault in faults if any(_hit(target) in names for target in fault.targets)]


def _hit(target: str) -> str:
    return target.partition(">")[2].partition(".")[0] if ">" in target else target


def _bound(one: Promise, history: History) -> Bound:
    words: list[str] = []
    times: list[float | None] = []
    for name, s, floor_s in (
        ("RTO", one.rto_s, one.rto_floor_s), ("RPO", one.rpo_s, one.rpo_floor_s)
    ):  # fmt: skip
        if s is None:
            times.append(None)
        elif one.human:
            real, told = bounded(s, floor_s, history)
            times.append(real)
            words.append(f"{name} {told.rstrip(',')}")
        else:
            times.append(max(s, floor_s))
            words.append(f"{name} {times[-1]:g} s")
    return Bound(
        one.claim, "; ".join(words), one.rto, one.rpo, times[0], times[1], one.face
    )  # fmt: skip


# ------------------------------------------------------------ restored from backup


def _restored(
    system: System, drills: Drills, history: History, judged: frozenset[str], merges: Merges
) -> Iterable[Objective]:
    done = [
        one for one in history.samples.get(drills.sample, ())
        if not drills.subject or one.event.subject.partition(" ")[0] == drills.subject
    ]  # fmt: skip
    if not done:
        return
    bounds = tuple(
        _bound(one, history) for one in system.promises if one.claim in judged and one.backup
    )
    drill = done[-1]
    rto, rpo = _drill_time(drills, drill, history), _drill_loss(drills, drill, history, merges)
    yield Objective(system.name, system.words, BACKUP, (rto,), rpo, bounds)


def _drill_time(drills: Drills, drill: Seen[Sample], history: History) -> Figure:
    """What the drill itself reports, up to when the harness saw its report."""
    words = "restored from backup"
    lines = cited(history, [drill])
    rto = _told(drills, drill, "rto_s", history)
    asked = _told(drills, drill, "asked", history)
    if not drill.event.ok:
        return Figure(words, f"the drill failed: {drill.event.text or 'no reason'}", lines=lines)
    if not rto or not asked:
        return Figure(words, "the drill does not say how long it took", lines=lines)
    seen = max(rto, drill.event.t - asked)
    told = f"{seconds(rto)} by the drill's own clock; its report was seen {seconds(seen)} after"
    return Figure(words, f"{told} the asking", rto, seen, 1, 0, (), lines)


def _drill_loss(
    drills: Drills, drill: Seen[Sample], history: History, merges: Merges
) -> Figure:  # fmt: skip
    """What was restored against what clients had acknowledged by the instant asked for."""
    store = history.stores.get(drills.store)
    to = _told(drills, drill, drills.to, history)
    lines = cited(history, [drill])
    if not drill.event.ok:
        return Figure(WHAT, f"the drill failed: {drill.event.text or 'no reason'}", lines=lines)
    if store is None or not store.complete:
        return Figure(WHAT, "what it restored was not read to its end", lines=lines)
    if not to:
        return Figure(WHAT, "the drill does not say to which instant it restored", lines=lines)
    if not drills.records and not drills.taken:
        return Figure(WHAT, "nobody says when what it holds was written", lines=lines)
    unread = [n for n, _, _ in drills.taken if n not in history.stores
              or not history.stores[n].complete]  # fmt: skip
    if unread:
        return Figure(WHAT, f"{unread[0]} was not read to its end", lines=lines)
    kept, lost = _found_again(drills, store, to, history, merges)
    if not lost:
        return kept_until([to], kept, "the point asked for")
    at, place = min(lost)
    n = len(kept) + len(lost)
    before = [t for t in kept if t < at]
    told = f"{len(lost):,} of {count(n, 'acknowledged write')} not in it, the oldest "
    told += f"{seconds(to - at)} older than the point asked for"
    return Figure(
        WHAT, told, to - at, to - before[-1] if before else None, n, len(lost), (),
        cited(history, [place], [drill]),
    )  # fmt: skip


def _found_again(
    drills: Drills, store: Store, to: float, history: History, merges: Merges
) -> tuple[list[float], list[tuple[float, int]]]:
    """Instants of what is in it, in order; instants and places of what is not."""
    kept: list[float] = []
    lost: list[tuple[float, int]] = []
    for kind, record in drills.records:
        shelf = store.shelf(record)
        for op in history.ops(kind):
            if not op.ok or not op.key or op.ended > to:
                continue
            row = shelf.get(op.key)
            same = row is not None and (
                not drills.same_value or row.digest in ("", op.value) or not op.value
                or merges.touch(op.subject)
            )  # fmt: skip
            if same:
                kept.append(op.ended)
            else:
                lost.append((op.ended, op.place))
    for live, kind, record in drills.taken:
        shelf = store.shelf(record)
        for one in history.stores[live].shelf(kind):
            if not 0 < one.at <= to:
                continue
            if shelf.get(one.key) is not None:
                kept.append(one.at)
            else:
                lost.append((one.at, one.place))
    return sorted(kept), lost


def _told(drills: Drills, drill: Seen[Sample], what: str, history: History) -> float:
    """A value that the drill reports of itself; 0 when it does not say."""
    some: Sequence[Seen[Sample]] = history.samples.get(f"{drills.sample}.{what}", ())
    found = [one for one in some if one.event.subject == drill.event.subject]
    return found[-1].event.value if found else 0.0


__all__ = ["BACKUP", "FAULTS", "objectives"]
