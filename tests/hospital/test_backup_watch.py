"""The watcher of the vault: every report once, every damage, and an intruder who is refused."""

from __future__ import annotations

import json
import time
from typing import Any

import httpx

from stacks.hospital.backup_watch import BackupWatch

Sample = tuple[str, str, float, str, bool]


class Vault:
    """Answers like the vault; `obeys` makes it delete."""

    def __init__(self) -> None:
        now = time.time()
        self.obeys = False
        self.away = False
        self.asked: list[str] = []
        self.says: dict[str, Any] = {
            "/backups": {
                "bases": [{"id": "base-1", "began_at": now - 60}],
                "log": {
                    "chain": "chain-0001", "from": "ehr-db-a", "gaps": [], "archived_at": now,
                    "failovers": [{"node": "ehr-db-b", "timeline": 2, "lost_bytes": 300}],
                },
            },
            "/drills": [],
            "/trials": [],
            "/restores": [],
            "/integrity": {"checked_at": 0.0, "running": False},
        }  # fmt: skip

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(f"{request.method} {request.url.path}")
        if self.away:
            raise httpx.ConnectError("refused")
        if request.method != "GET":
            assert request.headers["authorization"].startswith("Basic ")
            return httpx.Response(200 if self.obeys else 405)
        return httpx.Response(200, content=json.dumps(self.says[request.url.path]))


def watching() -> tuple[Vault, BackupWatch, list[Sample]]:
    vault, samples = Vault(), list[Sample]()

    def sample(
        what: str, subject: str, value: float = 0.0, text: str = "", ok: bool = True
    ) -> None:
        samples.append((what, subject, value, text, ok))

    client = httpx.Client(transport=httpx.MockTransport(vault), base_url="http://vault")
    return vault, BackupWatch(client, sample), samples


def of(samples: list[Sample], what: str) -> list[Sample]:
    return [one for one in samples if one[0] == what]


def test_a_report_is_sampled_once_it_is_done_and_only_once() -> None:
    """A drill under way says nothing; a finished one says all, `drill` last."""
    vault, watch, samples = watching()
    report = {
        "drill": "drill-1", "asked_at": time.time(), "to": 0.0, "done": False, "ok": False,
        "base_at": time.time() - 5, "reached_at": 0.0, "files": 3, "rows": 2, "read": 1,
        "rto_s": 4.5, "troubles": ["row 7 is missing"],
    }  # fmt: skip
    vault.says["/drills"] = [report]
    watch.look()
    assert not [one for one in samples if one[0].startswith("drill")]
    report["done"] = True
    watch.look()
    watch.look()
    drills = [one for one in samples if one[0].startswith("drill")]
    assert [one[0] for one in drills] == [
        "drill.files", "drill.rows", "drill.read", "drill.rto_s", "drill.asked", "drill.base",
        "drill.to", "drill",
    ]  # fmt: skip
    assert drills[-1] == ("drill", "drill-1", 1.0, "row 7 is missing", False)
    assert abs(drills[4][2] - time.monotonic()) < 5, "instants are on the journal's clock"
    assert of(samples, "backup.failover") == [
        ("backup.failover", "ehr-db-b", 300.0, "timeline 2: 300 bytes of log lost", True)
    ]


def test_trials_of_a_system_are_told_apart_and_each_only_once() -> None:
    """Two trials of the engine are `engine 1` and `engine 2`; what went wrong is in the text."""
    vault, watch, samples = watching()
    now = time.time()
    common = {
        "asked_at": now, "copy_at": now - 3, "newest_at": 0.0, "files": 1, "rows": 9, "read": 4,
        "rto_s": 0.2, "done": True, "ok": True, "source": "17.db", "troubles": [],
    }  # fmt: skip
    first = {"trial": "trial-1-engine", "system": "engine", **common}
    bad = {"ok": False, "troubles": ["no sound copy"]}
    second = {**first, "trial": "trial-2-engine", **bad}
    under_way = {**first, "trial": "trial-2-gam", "system": "gam", "done": False}
    vault.says["/trials"] = [first, under_way]
    watch.look()
    vault.says["/trials"] = [first, second, under_way]
    watch.look()
    watch.look()
    assert [one[1:] for one in of(samples, "trial")] == [
        ("engine 1", 0.0, "from 17.db", True), ("engine 2", 1.0, "no sound copy", False),
    ]  # fmt: skip
    assert [one[2] for one in of(samples, "trial.rows")] == [9.0, 9.0]
    (copy, _) = of(samples, "trial.copy")
    assert abs(time.monotonic() - 3 - copy[2]) < 5
    assert not of(samples, "trial.newest"), "it does not say"


def test_what_was_given_back_is_told_once_with_the_instant_of_its_copy() -> None:
    """The subject is the system; the words are the system's own."""
    vault, watch, samples = watching()
    given = {
        "at": time.time(), "system": "engine", "copy": "17.db", "copy_at": time.time() - 9,
        "sha256": "", "answer": {"messages": 30, "waiting": 12},
    }  # fmt: skip
    vault.says["/restores"] = [given]
    watch.look()
    watch.look()
    (told,) = of(samples, "restore")
    assert (told[1], told[3]) == ("engine", "from 17.db: messages 30, waiting 12")
    assert abs(time.monotonic() - 9 - told[2]) < 5


def test_the_age_of_a_copy_is_told_whenever_there_is_a_new_one() -> None:
    """Not each second that it grows older; a system without any copy is said to have none. A vault
    that has no record to keep says nothing of log and bases, and is tried all the same."""
    vault, watch, samples = watching()
    told = {**vault.says["/backups"], "record": False}
    for engine, gam in ((None, 1.0), (0.5, 2.0), (1.5, 3.0), (0.2, 4.0)):
        files = {"engine": {"age_s": engine}, "gam": {"age_s": gam}}
        vault.says["/backups"] = {**told, "files": files, "images": {"age_s": 7.0}}
        watch.look()
    copies = [(one[1], one[2], one[4]) for one in of(samples, "backup.copy")]
    assert copies == [
        ("engine", 0.0, False), ("gam", 1.0, True), ("images", 7.0, True), ("engine", 0.5, True),
        ("engine", 0.2, True),
    ]  # fmt: skip
    assert not of(samples, "backup.log")
    watch.intrude()
    assert of(samples, "backup.intruder")


def test_each_damage_is_a_sample_and_an_unread_disk_is_no_all_clear() -> None:
    """Damages are told one by one; `unknown` is not ok."""
    vault, watch, samples = watching()
    watch.look()
    assert not of(samples, "integrity"), "nothing was checked yet"
    damages = [f"ehr-db-b: ./base/5/{number} page 0" for number in range(20)]
    finding = {
        "checked_at": time.time(), "running": False, "status": "damaged", "damages": damages,
        "unread": [],
    }  # fmt: skip
    vault.says["/integrity"] = finding
    watch.look()
    watch.look()
    assert [one[3] for one in of(samples, "damage")] == damages
    assert [one[4] for one in of(samples, "integrity")] == [False]
    unknown = {"checked_at": time.time() + 1, "status": "unknown", "damages": [],
               "unread": ["ehr-db-a: its files: no answer"]}  # fmt: skip
    vault.says["/integrity"] = finding | unknown
    watch.look()
    assert [one[4] for one in of(samples, "integrity")] == [False, False]


def test_an_intruder_tries_everything_and_obedience_is_told() -> None:
    """With the database's password: refused is ok, obeyed is not, absence proves neither."""
    vault, watch, samples = watching()
    watch.intrude()
    assert samples == [], "there is nothing to delete yet"
    watch.look()
    for _ in range(6):
        watch.intrude()
    tried = [one for one in vault.asked if not one.startswith("GET")]
    assert tried == [
        "DELETE /backups", "DELETE /backups/base-1", "PUT /backups/base-1", "DELETE /trials",
        "DELETE /files/engine", "PUT /export",
    ]  # fmt: skip
    assert [one[4] for one in of(samples, "backup.intruder")] == [True] * 6
    vault.obeys = True
    watch.intrude()
    vault.away = True
    watch.intrude()
    watch.look()
    assert [one[4] for one in of(samples, "backup.intruder")] == [True] * 6 + [False]
    assert of(samples, "backup.log")[-1][4] is False
