"""The incident of the hand-written day, declared, led and closed; and the cases of its claims."""

from __future__ import annotations

from chaos.journal import events as ev
from tests.claims.day import BACK, FAULT, SERVICES, T0, TRAFFIC_END, Day, Look, Row
from tests.claims.day import Entry as Op
from tests.claims.spoils import HELD, Cases, Spoil, during, looks

DECLARED, NORMAL = 42.0, 72.0
OPENED = {"engine": 62.0, "ehr-a": 62.4, "ehr-b": 62.6, "lis": 62.8}
RELEASED = {"ADT": 63.6, "OML OMI": 64.2, "ORU": 64.8, "SIU": 65.4, "DFT": 66.0}
NOTICES = {DECLARED: DECLARED + 30.0, 62.5: 92.5}  # instant → the estimate given
CHECKED = 68.0
TOOK_OVER = BACK + 0.6
NOTICES_TEXT = "several systems are away"
POLLED_S = 0.5


def seen(at: float) -> float:
    """The first look of the watcher that can show an entry."""
    return (int(at / POLLED_S) + 1) * POLLED_S


def say(day: Day, what: str, at: float, subject: str = "incident", text: str = "") -> None:
    """One entry of the log, and the look that shows it."""
    day.looks.append(Look(f"incident.{what}", subject, seen(at) - 0.01, T0 + at, text))


def add_recovery(day: Day) -> None:
    """Engine, record and laboratory are closed, opened in turn, and normal is declared at 72."""
    say(day, "declared", DECLARED, text="downtime by crisis cell: several systems")
    for at, eta in NOTICES.items():
        say(day, "notice", at, text=f"{T0 + eta:.3f} {NOTICES_TEXT}")
    for name in OPENED:
        say(day, "closed", DECLARED + 1.0, name)
    say(day, "held", DECLARED + 1.2, " ".join(RELEASED))
    for name, at in OPENED.items():
        say(day, "opened", at, name, "gam; engine")
    for kinds, at in RELEASED.items():
        say(day, "released", at, kinds, "gam; engine; ehr")
    say(day, "loss", TOOK_OVER, "ehr-db-b", "none: ehr-db-b was the synchronous standby")
    say(day, "normal", NORMAL, text="services: all healthy")
    day.looks.append(Look("integrity", "ehr-a", CHECKED + 2, T0 + CHECKED, "1 row on ehr-db-a"))
    for half in range(40, int(2 * TRAFFIC_END)):
        day.looks.append(Look("incident.poll", "incident", half * POLLED_S))
    for second in range(20, int(TRAFFIC_END)):
        at = second + 0.45
        day.looks.append(Look("replication.lag", "ehr-db-b", at, 300.0))
        day.looks.append(
            Look("queue.depth", "engine:lis", at, 30.0 if FAULT[0] <= at < FAULT[1] else 0.0)
        )
        for sender in ("gam", "ehr-a", "ehr-b", "scheduling"):
            day.looks.append(Look("queue.depth", f"{sender}:engine", at, 0.0))
        for name in SERVICES:
            dead = name == "ehr-db-a" and FAULT[0] <= at < FAULT[1] + 1
            day.looks.append(Look("health", name, at, 0 if dead else 200, "ready", ok=not dead))
    for op in day.of("encounter.create"):
        day.rows.append(Row("billing", "charge", op.key, op.subject, "kept"))


# ---------------------------------------------------------------- ways to break it


def moved(what: str, subject: str, to: float) -> Spoil:
    """An entry at another instant."""

    def spoil(day: Day) -> None:
        found = [s for s in day.sampled(f"incident.{what}") if s.subject == subject]
        assert found
        for look in found:
            look.at, look.value = seen(to) - 0.01, T0 + to

    return spoil


def unsaid(what: str, subject: str = "", keep: int = 0) -> Spoil:
    """Entries that were never written."""

    def spoil(day: Day) -> None:
        gone = [s for s in day.sampled(f"incident.{what}") if subject in ("", s.subject)][keep:]
        assert gone
        day.looks = [s for s in day.looks if s not in gone]

    return spoil


def backdated(what: str, seen: float) -> Spoil:
    """Entries that turn up later than the instants which they give themselves."""

    def spoil(day: Day) -> None:
        for look in day.sampled(f"incident.{what}"):
            look.at = max(look.at, seen)

    return spoil


def killed(name: str, began: float, over: float) -> Spoil:
    def spoil(day: Day) -> None:
        fault = f"kill-{name}"
        day.extra += [
            ev.FaultBegan(t=T0 + began, fault=fault, kind="kill", targets=(name,), story=fault),
            ev.FaultSeen(t=T0 + began + 0.1, fault=fault, observation="gone"),
            ev.FaultEnded(t=T0 + over, fault=fault),
            ev.FaultGone(t=T0 + over + 1, fault=fault, observation="ready"),
        ]

    return spoil


def unwell(name: str, start: float, end: float, text: str = "", ok: bool = False) -> Spoil:
    return looks(
        "health", lambda s: s.subject == name and start < s.at < end, ok=ok, text=text or "away"
    )


def billing_first(day: Day) -> None:
    """Back office opens while the laboratory is still closed."""
    say(day, "closed", DECLARED + 1.0, "billing")
    say(day, "opened", OPENED["lis"] - 0.1, "billing", "gam; engine")


def charges_arrive_first(day: Day) -> None:
    """By the stores' own clocks: charges of the backlog before its movements."""
    keys = [op.key for op in day.of("encounter.create") if 45 < op.at < 60][:20]
    for row in day.rows:
        if row.key in keys and row.kind in ("charge", "encounter"):
            row.at = 64.0 if row.kind == "charge" else 66.0


def reopened(day: Day) -> None:
    """A service is closed once more and forgotten."""
    say(day, "closed", NORMAL - 1.5, "lis")


def nothing_declared(day: Day) -> None:
    day.looks = [s for s in day.looks if not s.what.startswith("incident.")]


def few_steps(day: Day) -> None:
    day.looks = [
        s for s in day.looks
        if s.what not in ("incident.released", "incident.held", "incident.closed")
    ]  # fmt: skip
    unsaid("opened", "lis")(day)


def all_of(*spoils: Spoil) -> Spoil:
    """Several changes to one day."""

    def spoil(day: Day) -> None:
        for one in spoils:
            one(day)

    return spoil


def never_checked(day: Day) -> None:
    day.looks = [s for s in day.looks if s.what != "integrity"]


def looked_at(day: Day) -> None:
    """The watcher is still there long after."""
    day.looks.append(Look("incident.poll", "incident", 111.0))


def lost_before(day: Day) -> None:
    """Two prescriptions that were acknowledged before the takeover are on neither node."""
    gone = {op.key for op in day.of("medication.create") if op.at + op.took < BACK - 1.0}
    gone = set(sorted(gone)[-2:])
    assert gone
    day.forget(lambda row: row.key not in gone)


def asked(at: float, outcome: str = "ok") -> Spoil:
    """Somebody asks whether all is clear."""

    def spoil(day: Day) -> None:
        answered = "incident: 409 not yet" if outcome == "refused" else ""
        day.ops.append(Op("operator.act", "P3", at, outcome=outcome, key=f"ask-{at}",
                          value="ask-all-clear", via="incident", reason=answered))  # fmt: skip

    return spoil


def said_of_the_takeover(text: str) -> Spoil:
    """What the incident system says that the takeover lost."""
    return looks("incident.loss", lambda _: True, text=text)


UNKNOWN: Spoil = during(("order.create",), 0.1, outcome="unknown")
RECOVERY: dict[str, Cases] = {
    "RE-1": Cases(
        {
            "the engine still dead": all_of(
                killed("engine", 43.0, 59.0), moved("opened", "lis", 58.0)
            ),
            "administration unwell": unwell("gam", 60.0, 64.0),
            "the database away": all_of(
                unwell("ehr-db-a", 60.0, 64.0), unwell("ehr-db-b", 60.0, 64.0)
            ),
            "writes before it was opened": killed("ehr-a", 43.0, 59.0),
            "opened afterwards in the log": all_of(
                moved("opened", "ehr-a", 58.1), killed("ehr-a", 43.0, 58.0),
                backdated("opened", 66.0),
            ),
            "billing before the laboratory": billing_first,
            "queues not held": unsaid("held"),
            "released before the record was open": moved("released", "ADT", 62.2),
            "charges released first": moved("released", "DFT", 63.2),
            "charges arrive before movements": charges_arrive_first,
        },
        (UNKNOWN, HELD),
        few_steps,
        HELD,
    ),
    "RE-2": Cases(
        {
            "first notice late": all_of(
                killed("lis", 41.0, 59.9), moved("declared", "incident", 59.5),
                unsaid("notice", keep=1), moved("notice", "incident", 72.4),
                moved("normal", "incident", 86.9),
            ),
            "no update for over an hour": all_of(
                unsaid("notice", keep=1), moved("normal", "incident", 110.0), looked_at
            ),
            "an estimate passes in silence": all_of(
                unsaid("notice", keep=1), moved("normal", "incident", 78.0)
            ),
            "notices written afterwards": backdated("notice", 88.0),
            "the record not checked": never_checked,
            "the record checked before it was opened": looks(
                "integrity", lambda _: True, value=T0 + 61.0
            ),
            "damage found": looks("integrity", lambda _: True, ok=False, text="row 7 differs"),
            "a queue not empty": looks("queue.depth", lambda s: s.at > FAULT[1], value=4.0),
            "the standby behind": looks("replication.lag", lambda _: True, value=9e6),
            "an old copy": looks("copy.asof", lambda s: s.at > 50, value=T0 + 50.0),
            "a service away": unwell("lis", 70.0, 75.0),
            "a service still held": unwell("lis", 72.0, 73.5, "held: waits", ok=True),
            "a service forgotten": reopened,
            "messages not released": unsaid("released", "ORU"),
            "a loss denied": lost_before,
            "a loss not mentioned": all_of(lost_before, unsaid("loss")),
            "a takeover passed over": unsaid("loss"),
            "who asked was told all is clear": asked(66.5),
        },
        (UNKNOWN, HELD),
        nothing_declared,
    ),
}  # fmt: skip
