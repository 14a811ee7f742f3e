"""The planted defects: each a real mistake, put in at one line by `if planted("name")`.

A defect refuses to exist without a claim that it breaks: the harness must find every one.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from stacks.hospital.settings import usage_exit

VARIABLE = "HOSPITAL_BUG"


@dataclass(frozen=True, slots=True)
class Bug:
    """One planted defect: in which service, what goes wrong, and which claims must break.

    `shown_by`: the experiment in which exactly these claims break. `also`: what it breaks in
    containers as well in some of its runs; the comment beside it says how. `by_chance`: what it
    breaks anywhere where the traffic falls so, and the words that the verdict's reason must then
    have: no other cause is excused.
    """

    name: str
    where: str
    story: str
    claims: tuple[str, ...]
    shown_by: str
    also: tuple[str, ...] = ()
    by_chance: Mapping[str, str] = field(default_factory=dict)


_ALL = (
    # engine
    Bug(
        "ack-before-fsync",
        "engine",
        "Acknowledges first and writes to its queue a moment later: a kill loses the message.",
        ("IN-1", "OR-2"),
        shown_by="engine-killed",
    ),
    Bug(
        "ack-before-durable",
        "engine",
        "Commits without waiting for the disk: a kill loses nothing, a power cut what was last.",
        ("IN-1", "OR-2"),
        shown_by="power-cut-with-backlog",
    ),
    Bug(
        "acks-when-full",
        "engine",
        "Writes into its log that the disk is full, and acknowledges all the same.",
        ("IN-1", "OR-2"),
        shown_by="disk-full-engine",
    ),
    Bug(
        "late-ack-shift",
        "engine",
        "Does not compare MSA-2 with MSH-10: a late acknowledgement counts for the next message.",
        ("IN-1", "OR-2"),
        shown_by="late-acknowledgements",
    ),
    Bug(
        "no-retry-after-timeout",
        "engine",
        "A message whose acknowledgement timed out goes to the error queue, and nobody looks.",
        ("IN-1", "OR-2"),
        shown_by="messages-swallowed",
    ),
    Bug(
        "poison-blocks-channel",
        "engine",
        "Retries a refused message for ever at the head: everything behind it waits.",
        ("OR-2", "RS-3"),
        shown_by="poison-message",
    ),
    Bug(
        "retry-storm",
        "engine",
        "On a time-out enqueues the message again under a new MSH-10: copies multiply.",
        ("IN-2", "OR-2"),
        shown_by="late-acknowledgements",
    ),
    Bug(
        "queue-in-memory",
        "engine",
        "Keeps its queue in memory only: a kill loses everything acknowledged and not delivered.",
        ("IN-1", "OR-2"),
        shown_by="engine-killed-with-backlog",
        # What the killed engine had in hand (no other message, and its queue is gone) was in the
        # link to the dead laboratory, and came 12 s later, after what the next engine sent: in a
        # container nothing refuses the link's connection, a process's port does at once.
        also=("IN-2",),
    ),
    Bug(
        "newest-first-replay",
        "engine",
        "Replays its backlog newest first.",
        ("IN-2",),
        shown_by="lis-down",
    ),
    # lis
    Bug(
        "laboratory-acks-when-full",
        "lis",
        "Takes a full disk for a message that it has already, and acknowledges it.",
        ("IN-1", "OR-2", "RS-1"),
        shown_by="disk-full-laboratory",
    ),
    Bug(
        "prelim-overwrites-final",
        "lis",
        "Replays a late preliminary result after the final one, and the record takes it.",
        ("IN-1", "IN-2"),
        shown_by="engine-killed",
    ),
    Bug(
        "unmatched-result-dropped",
        "lis",
        "Throws away a result whose order has not arrived yet.",
        ("IN-1", "RS-1"),
        shown_by="lis-down",
    ),
    Bug(
        "critical-not-listed",
        "lis",
        "The phone list misses critical results whose delivery to the record is pending.",
        ("RS-2",),
        shown_by="engine-down",
    ),
    Bug(
        "stat-as-routine",
        "lis",
        "Urgent results wait behind routine ones.",
        ("RS-3",),
        shown_by="network-slowdown",
    ),
    Bug(
        "results-mixed",
        "lis",
        "After a reconnection two results change patients.",
        ("IN-3",),
        shown_by="engine-killed",
    ),
    # analysers
    Bug(
        "stops-when-lis-down",
        "analysers",
        "The line stops when the laboratory system is away.",
        ("RS-1",),
        shown_by="lis-down",
    ),
    Bug(
        "buffer-in-memory",
        "analysers",
        "Holds results in memory only: a kill or a reconnection loses them.",
        ("IN-1", "RS-1"),
        shown_by="lis-down",
    ),
    Bug(
        "drops-when-buffer-100",
        "analysers",
        "Silently drops results beyond the hundredth held one.",
        ("IN-1", "RS-1"),
        shown_by="lis-down",
    ),
    # ehr
    Bug(
        "reads-need-primary",
        "ehr",
        "Charts are read from the primary database only: no fallback to the standby.",
        ("RA-1",),
        shown_by="primary-lost-copy-away",
    ),
    Bug(
        "ack-before-commit",
        "ehr",
        "Answers 201 before the transaction is committed.",
        ("IN-1",),
        shown_by="database-primary-lost",
    ),
    Bug(
        "duplicate-on-retry",
        "ehr",
        "Ignores If-None-Exist: a client's retry stores the same order twice.",
        ("IN-2", "OR-2"),
        shown_by="answers-too-late",
    ),
    Bug(
        "shed-fifo",
        "ehr",
        "One blind queue for all classes: mass reads of elective care starve emergencies.",
        ("PR-1",),
        shown_by="overload",
    ),
    Bug(
        "shed-urgent-first",
        "ehr",
        "Sheds in the wrong order: urgent requests go first.",
        ("PR-1",),
        shown_by="overload",
    ),
    Bug(
        "cache-wrong-patient",
        "ehr",
        "Caches charts under a key that two patients share after a failover or a merge.",
        ("IN-3", "RA-1"),
        shown_by="primary-lost-copy-away",
    ),
    Bug(
        "one-node-only",
        "ehr",
        "The database address list holds the first node only.",
        ("FO-1", "OR-1"),
        shown_by="database-primary-lost",
    ),
    Bug(
        "order-not-sent",
        "ehr",
        "Orders accepted while the engine is down never enter the outbox.",
        ("IN-1", "OR-2"),
        shown_by="engine-down",
    ),
    Bug(
        "order-needs-engine",
        "ehr",
        "Refuses orders when the engine is away.",
        ("OR-1",),
        shown_by="engine-down",
    ),
    # ro-copy
    Bug(
        "copy-stale-marked-now",
        "ro-copy",
        "The refresh job is dead for days and the marker still says now.",
        ("RA-2",),
        shown_by="app-node-crash",
    ),
    Bug(
        "copy-accepts-writes",
        "ro-copy",
        "Answers 200 to a write and drops it.",
        ("RA-3",),
        shown_by="app-node-crash",
    ),
    Bug(
        "copy-no-marker",
        "ro-copy",
        "Nothing tells the read-only copy from the live record.",
        ("RA-3",),
        shown_by="app-node-crash",
    ),
    Bug(
        "copy-misses-new-patients",
        "ro-copy",
        "Patients admitted after the first refresh are never copied.",
        ("RA-2",),
        shown_by="app-node-crash",
    ),
    # topology
    Bug(
        "copy-in-room-a",
        "topology",
        "The read-only copy lives in room A, on the storage that it should survive.",
        ("RA-1", "RA-2"),
        shown_by="room-a-lost-in-maintenance",
    ),
    Bug(
        "copy-on-array-a",
        "topology",
        "The read-only copy stands in room B, and its volume lies on the array of room A.",
        ("RA-1",),
        shown_by="array-lost-in-maintenance",
    ),
    Bug(
        "analysers-on-array-a",
        "topology",
        "The analysers keep their results on the servers' array instead of a disk of their own.",
        ("FO-2", "RS-1"),
        shown_by="saint-etienne",
    ),
    Bug(
        "standby-gone",
        "topology",
        "There is no second database node.",
        ("FO-1", "OR-1"),
        shown_by="database-primary-lost",
        # Every read is left to the copy. An inpatient who was admitted after its last refresh is
        # not in it; if one was, a second or two before the crash, his ward asks in vain for him.
        by_chance={"RA-1": "is not in this copy of the inpatients"},
    ),
    # database
    Bug(
        "asynchronous-standby",
        "database",
        "Replication is asynchronous and is reported as no data lost.",
        ("IN-1",),
        shown_by="database-primary-lost",
    ),
    Bug(
        "no-failover",
        "database",
        "Failover is paused: nobody takes over.",
        ("FO-1", "OR-1"),
        shown_by="database-primary-lost",
    ),
    Bug(
        "stale-primary-writable",
        "database",
        "A paused and resumed primary goes on accepting writes.",
        ("IN-1", "IN-2", "IN-4"),
        shown_by="database-primary-hung",
    ),
    # gam
    Bug(
        "gam-needs-ehr",
        "gam",
        "An admission waits for the record system.",
        ("FO-2",),
        shown_by="engine-down",
    ),
    Bug(
        "merge-wrong-patient",
        "gam",
        "A merge made while messages wait for the engine names another patient as its source.",
        ("IN-3",),
        shown_by="engine-down",
    ),
    # the channels that tell patients
    Bug(
        "callcentre-lags",
        "callcentre",
        "The call centre applies its feed twenty minutes late.",
        ("SC-1",),
        shown_by="reduced-day",
    ),
    Bug(
        "website-not-told",
        "website",
        "The website does not apply cancellations.",
        # Each cancellation was acknowledged, and is not to be found where patients look: IN-1.
        ("IN-1", "SC-1"),
        shown_by="reduced-day",
    ),
    Bug(
        "sms-once",
        "sms",
        "Every message is tried once; whom it does not reach is on no list.",
        ("SC-2",),
        shown_by="reduced-day",
    ),
    Bug(
        "late-booking-wins",
        "clinic-lists",
        "The scheduled print takes the bookings in again, and what came last wins.",
        # Each cancellation was acknowledged, and the list says confirmed in the end: IN-1.
        ("IN-1", "SC-1"),
        shown_by="reduced-day",
    ),
    Bug(
        "downtime-studies-forgotten",
        "ris",
        "Radiology takes the report of a study made without the worklist, and keeps no study.",
        ("IM-3",),
        shown_by="pacs-outage",
    ),
    Bug(
        "matched-by-name",
        "ris",
        "A study made without the worklist goes to the oldest order of anybody with that name.",
        # Then radiology's record of one patient's examination lies under another patient.
        ("IM-3", "IN-3"),
        shown_by="worklist-down",
    ),
    # pacs
    Bug(
        "archive-deletes-on-resend",
        "pacs",
        "Deletes the file of an image that is sent again, and its index goes on vouching for it.",
        # A router that is killed sends again what it had not noted as delivered. What an archive
        # does not hold is lost data, too.
        ("IM-1", "IN-1"),
        shown_by="router-killed",
    ),
    Bug(
        "store-not-kept",
        "pacs",
        "After a restart writes to a volume not mounted yet, and vouches for it from memory.",
        # An image that an archive does not hold is lost data, too.
        ("IM-1", "IN-1"),
        shown_by="pacs-outage",
    ),
    Bug(
        "archive-vouches-when-full",
        "pacs",
        "Vouches for an image of which only the entry in the index found space, on another disk.",
        # The router lets go of it: no archive ever has it, and that is lost data, too.
        ("IM-1", "IN-1"),
        shown_by="disk-full-imaging",
    ),
    Bug(
        "archive-mixes-patients",
        "pacs",
        "After a restart files new studies under the patient of the study before.",
        ("IN-3",),
        shown_by="pacs-outage",
    ),
    # scheduling
    Bug(
        "cancels-dialysis",
        "scheduling",
        "A decision by class also cancels dialysis, which is protected.",
        ("PR-2",),
        shown_by="reduced-day",
    ),
    Bug(
        "rebooking-forgotten",
        "scheduling",
        "Every seventh appointment that a decision cancels gets no rebooking task.",
        ("SC-3",),
        shown_by="reduced-day",
    ),
    Bug(
        "double-booked-after-restore",
        "scheduling",
        "A restore does not replay the log: slots booked since the backup are free again.",
        # What was called off since the backup is booked again, while channels say cancelled (SC-1);
        # bookings since, moves and cancellations were acknowledged and are gone (IN-1).
        ("IN-1", "SC-1", "SC-3"),
        shown_by="scheduling-restored",
    ),
    # input that is wrong
    Bug(
        "cancels-twice",
        "scheduling",
        "Cancels a cancelled appointment once more, and tells all channels so again.",
        ("BI-1",),
        shown_by="bad-input",
    ),
    Bug(
        "any-title",
        "pacs",
        "The archive takes images that were sent to an AE title which is not its own.",
        ("BI-1",),
        shown_by="bad-input",
    ),
    # coming back
    Bug(
        "billing-forgets",
        "billing",
        "Acknowledges charges in memory and writes them down now and then; not when stopped.",
        ("IN-1",),
        shown_by="planned-stop",
    ),
    Bug(
        "opens-too-early",
        "incident",
        "Opens a service as soon as it is up itself, whatever it depends on.",
        ("RE-1",),
        shown_by="staged-return",
    ),
    Bug(
        "charges-first",
        "incident",
        "Releases the engine's queues in the wrong order: charges before results and orders.",
        ("RE-1",),
        shown_by="staged-return",
    ),
    Bug(
        "all-clear-unchecked",
        "incident",
        "Declares normal without the record's integrity check.",
        ("RE-2",),
        shown_by="staged-return",
    ),
    Bug(
        "eta-expires",
        "incident",
        "Gives a time of return once and lets it pass in silence.",
        ("RE-2",),
        shown_by="staged-return",
    ),
    Bug(
        "failover-loss-unreported",
        "incident, database",
        "Replication is asynchronous, and the all-clear says of every takeover that no data was"
        " lost: a standby is a copy.",
        # IN-4: a primary that slept, and waits for nobody, acknowledges before it learns that it is
        # none any more.
        ("IN-1", "IN-4", "RE-2"),
        shown_by="failover-failback",
    ),
    Bug(
        "failback-while-behind",
        "incident, database",
        "The return to room A forces the handover, whatever the lag: the planned one refuses at"
        " times.",
        ("IN-1",),
        shown_by="failover-failback",
    ),
    # backups
    Bug(
        "backup-stops-silently",
        "backup",
        "The log receiver ends and nobody notices: the page shows when it was last looked at.",
        ("BK-1",),
        shown_by="restore-drill",
    ),
    Bug(
        "drill-skips-check",
        "backup",
        "A restore drill is called good because the file is there: nobody starts or reads it.",
        ("BK-1",),
        shown_by="restore-drill",
    ),
    Bug(
        "integrity-trusts-memory",
        "backup",
        "The integrity check asks the database, which answers from memory: disks are not read.",
        ("IN-5",),
        shown_by="bit-rot",
    ),
    Bug(
        "snapshot-torn",
        "all services with a file of their own",
        "A backup copies the database file alone, not the log beside it: the last writes are not"
        " in it.",
        ("BK-1",),
        shown_by="restore-systems",
    ),
    Bug(
        "restore-latest",
        "backup",
        "A restore takes the newest copy there is, which was made after the loss.",
        ("BK-1",),
        shown_by="restore-engine",
    ),
    Bug(
        "backup-skips-images",
        "backup",
        "The backup of images enters every image in its catalogue and copies a study's first only.",
        ("BK-1",),
        shown_by="restore-systems",
    ),
    # modalities and the router
    Bug(
        "modality-deletes-on-store",
        "modalities",
        "A scanner deletes an image when it was sent, before any archive has committed it.",
        ("IM-1",),
        shown_by="pacs-outage",
    ),
    Bug(
        "modality-needs-worklist",
        "modalities",
        "Scanners refuse a patient who is not on the worklist, also when the worklist is away.",
        ("IM-1",),
        shown_by="worklist-down",
    ),
    Bug(
        "no-bypass",
        "dicom-router",
        "The router never copies urgent images to the emergency viewer.",
        ("IM-2",),
        shown_by="pacs-outage",
    ),
    Bug(
        "router-acks-before-disk",
        "dicom-router",
        "Acknowledges images and vouches for them while they are in memory: a kill loses them.",
        # The scanners delete what was vouched for: no archive ever gets it, and that is lost data.
        ("IM-1", "IN-1"),
        shown_by="router-killed",
    ),
)
BUGS: dict[str, Bug] = {bug.name: bug for bug in _ALL}


def planted(name: str) -> bool:
    """Whether this process was started with the defect `name`; ends with status 64 if unknown."""
    if name not in BUGS:
        raise KeyError(f"planted({name!r}): no such defect in stacks/hospital/bugs.py")
    return active() == name


def active() -> str | None:
    """The defect of this process, or None; an unknown name is a clear line and status 64."""
    chosen = os.environ.get(VARIABLE) or None
    if chosen is not None and chosen not in BUGS:
        usage_exit(f"{VARIABLE}={chosen!r} is unknown; one of: {', '.join(sorted(BUGS))}")
    return chosen
