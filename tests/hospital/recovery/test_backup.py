"""The vault against a real PostgreSQL: what it keeps it can restore, to any point, and it tells."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from stacks.hospital import postgres
from tests.hospital.programs import until
from tests.hospital.recovery.vault_stand import NAMES, SPEED, Stand

pytestmark = pytest.mark.slow
Raise = Callable[..., Stand]
LET_GO = 22
"""Segments of 4 MB: more than `wal_keep_size` has the database keep for readers without a slot."""


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("template")


@pytest.fixture
def raised(tmp_path: Path, template: Path) -> Iterator[Raise]:
    stands: list[Stand] = []

    def begin(bug: str = "", standby: bool = False, speed: str = SPEED) -> Stand:
        stand = Stand(tmp_path, template, bug, standby, speed)
        stands.append(stand)
        return stand.__enter__()

    yield begin
    for stand in stands:
        stand.down()


def test_everything_acknowledged_comes_back_when_the_database_is_lost(raised: Raise) -> None:
    """The only node is killed and its files are gone: the vault restores every row, and says how
    long it took and what it compared."""
    stand = raised()
    for number in range(40):
        stand.write(number)
    stand.archived(stand.now())
    stand.marked(stand.now())
    for number in range(40, 60):
        stand.write(number)
    at = stand.now()
    stand.archived(at)
    stand.cluster.primary.kill()
    report = stand.drill()
    assert report["ok"], report["troubles"]
    assert stand.restored() == {f"OBS-{number}" for number in range(60)}
    assert report["rows"] >= 40
    assert report["read"] == 60
    assert report["files"] > 500
    assert report["tables"] > 50
    assert report["indexes"] > 100
    assert report["reached_at"] <= at
    assert 0 < report["rto_s"] < 60
    assert not list((stand.vault.folder / "scratch").iterdir())


def test_a_table_emptied_by_mistake_comes_back_as_it_was_before(raised: Raise) -> None:
    """Restored to an instant: all that was committed by then, and nothing of what came after."""
    stand = raised()
    for number in range(20):
        stand.write(number)
    stand.marked(stand.now())
    before = stand.now()
    for number in range(20, 30):
        stand.write(number)
    with stand.connect() as connection:
        connection.execute("DELETE FROM resource")
    stand.archived(stand.now())
    report = stand.drill(to=before)
    assert report["ok"], report["troubles"]
    assert stand.restored() == {f"OBS-{number}" for number in range(20)}
    assert report["reached_at"] <= before
    assert report["rows"] == 20
    for wrong in ({"to": -5}, {"to": before + 9_000}, {"to": 1, "ago_s": 1}, {"till": 5}):
        assert stand.vault.http.post("/drills", json=wrong).status_code in (400, 422)
    assert not stand.drill(to=before - 3_600)["ok"], "there was no backup an hour ago"


def test_the_log_is_followed_to_a_new_primary_without_a_gap(raised: Raise) -> None:
    """The primary dies, the standby is promoted: the vault goes on there, and restores what was
    written on both."""
    stand = raised(standby=True)
    for number in range(20):
        stand.write(number)
    stand.archived(stand.now())
    stand.cluster.primary.kill()
    stand.cluster.promote()
    until("the standby is primary", 20, lambda: _is_primary(stand))
    for number in range(20, 40):
        stand.write(number, server=1)
    at = stand.now(server=1)
    stand.archived(at, within_s=30)
    found = stand.backups()["log"]
    assert found["from"] == "ehr-db-b"
    assert found["gaps"] == []
    (failover,) = until("the failover", 20, lambda: stand.backups()["log"]["failovers"])
    assert (failover["timeline"], failover["lost_bytes"]) == (2, 0)
    stand.marked(at)
    report = stand.drill()
    assert report["ok"], report["troubles"]
    assert stand.restored() == {f"OBS-{number}" for number in range(40)}


def test_what_a_failover_lost_is_told_by_who_has_it(raised: Raise) -> None:
    """The standby was cut off, commits did not wait for it, and it becomes primary: the vault
    has log that the new primary never had, says how much, and restores what the new one has."""
    stand = raised(standby=True)
    for number in range(10):
        stand.write(number)
    primary, standby = stand.servers
    standby.query("ALTER SYSTEM SET primary_conninfo = ''")
    standby.query("SELECT pg_reload_conf()")
    receivers = "SELECT count(*) FROM pg_stat_wal_receiver"
    until("the standby hears nothing", 20, lambda: standby.query(receivers) == [(0,)])
    primary.query("ALTER SYSTEM SET synchronous_standby_names = ''")
    primary.query("SELECT pg_reload_conf()")
    for number in range(10, 20):
        stand.write(number)
    stand.archived(stand.now())
    primary.kill()
    stand.cluster.promote()
    until("the standby is primary", 20, lambda: _is_primary(stand))
    for number in range(20, 30):
        stand.write(number, server=1)
    at = stand.now(server=1)
    stand.archived(at, within_s=30)
    (failover,) = until("the failover", 20, lambda: stand.backups()["log"]["failovers"])
    assert failover["node"] == "ehr-db-b"
    assert failover["lost_bytes"] > 10 * 100
    assert stand.backups()["log"]["gaps"] == []
    stand.marked(at)
    report = stand.drill()
    assert report["ok"], report["troubles"]
    kept = [*range(10), *range(20, 30)]
    assert stand.restored() == {f"OBS-{number}" for number in kept}


def _is_primary(stand: Stand) -> bool:
    with stand.connect(1) as connection:
        row = connection.execute("SELECT pg_is_in_recovery()").fetchone()
    return row is not None and not row[0]


def test_log_that_was_never_fetched_is_a_gap_and_begins_anew(raised: Raise) -> None:
    """The vault was away while the database threw log away: it says so, takes a new base backup,
    and restores everything from that."""
    stand = raised()
    stand.write(1)
    stand.archived(stand.now())
    first = stand.backups()["bases"][-1]["id"]
    assert stand.vault.end(signal.SIGTERM) == 0
    primary = stand.cluster.primary
    for number in range(2, LET_GO):
        stand.write(number)
        primary.query("SELECT pg_switch_wal()")
    primary.query("CHECKPOINT")
    primary.query("CHECKPOINT")
    stand.vault.start(ready=False)
    found = until(
        "a base backup after the gap", 60,
        lambda: _newest(stand) not in ("", first) and stand.backups()["log"],
    )  # fmt: skip
    assert len(found["gaps"]) == 1
    assert "removed" in found["gaps"][0]["reason"]
    assert found["chain"] == "chain-0002"
    stand.marked(stand.now())
    report = stand.drill()
    assert report["ok"], report["troubles"]
    assert stand.restored() == {f"OBS-{number}" for number in range(1, LET_GO)}


def _newest(stand: Stand) -> str:
    try:
        bases = stand.backups()["bases"]
    except httpx.HTTPError:
        return ""
    return str(bases[-1]["id"]) if bases else ""


def test_nobody_deletes_and_damage_in_the_vault_is_told(raised: Raise) -> None:
    """No method deletes or changes; a flipped byte in a base backup or in the log is found by the
    check, by name, and by the drill, which does not call it good."""
    stand = raised()
    for number in range(10):
        stand.write(number)
    stand.cluster.primary.query("SELECT pg_switch_wal()")
    stand.marked(stand.now())
    base = _newest(stand)
    auth = (postgres.SUPERUSER.name, postgres.SUPERUSER.password)
    for method in ("DELETE", "PUT", "PATCH"):
        for path in ("/backups", f"/backups/{base}", "/drills", "/integrity"):
            assert stand.vault.http.request(method, path, auth=auth).status_code in (404, 405)
    sealed = until("a sealed segment", 20, lambda: [
        path for path in (stand.vault.folder / "log" / "chain-0001").glob("0000000100000000*")
        if path.suffix == "" and path.stat().st_mode & 0o777 == 0o400
    ])[-1]  # fmt: skip
    found = stand.check()
    assert (found["status"], found["damages"]) == ("ok", [])
    assert found["looked"]["vault files"] > 900
    rotten = stand.vault.folder / "bases" / base / "data" / "base" / "1" / "1249"
    flip(rotten, 12_345)
    flip(sealed, 777)
    found = stand.check()
    assert found["status"] == "damaged"
    assert any(f"{base}/base/1/1249" in one for one in found["damages"])
    assert any(sealed.name in one for one in found["damages"])
    report = stand.drill()
    assert not report["ok"]
    assert any("base/1/1249" in one for one in report["troubles"])


def test_only_the_vault_lets_go_and_a_kill_forgets_nothing(raised: Raise) -> None:
    """Of five base backups three are kept with the log that they need (a day is a second here);
    after SIGKILL, also in the middle of taking one, the vault has what it had and restores it."""
    stand = raised(speed="86400")
    for number in range(4):
        stand.write(number)
        stand.cluster.primary.query("SELECT pg_switch_wal()")
        assert stand.vault.http.post("/backups", timeout=60).status_code == 201
    kept = [base["id"] for base in stand.backups()["bases"]]
    assert len(kept) == 3
    chain = stand.vault.folder / "log" / "chain-0001"
    first = stand.backups()["bases"][0]["start"] // (4 << 20)
    until("older log is gone", 20, lambda: not (chain / f"{1:08X}{0:08X}{first - 1:08X}").exists())
    with pytest.raises(httpx.HTTPError):
        stand.vault.http.post("/backups", timeout=0.3)
    stand.vault.end(signal.SIGKILL)
    for number in range(4, 8):
        stand.write(number)
    stand.vault.start(ready=False)
    until("the vault is back", 60, lambda: stand.vault.health()[0] == 200)
    assert [base["id"] for base in stand.backups()["bases"]][: len(kept)] == kept
    stand.archived(stand.now())
    stand.marked(stand.now())
    report = stand.drill()
    assert report["ok"], report["troubles"]
    assert stand.restored() == {f"OBS-{number}" for number in range(8)}
    assert stand.backups()["log"]["gaps"] == []


def test_asking_for_backups_drives_none_out(raised: Raise) -> None:
    """Whoever may ask, and asks again and again after the record was spoilt: the first backup of
    the hour stays, and what was there then is restored from it."""
    stand = raised(speed="60")
    for number in range(5):
        stand.write(number)
    stand.marked(stand.now())
    before, first = stand.now(), _newest(stand)
    with stand.connect() as connection:
        connection.execute("DELETE FROM resource")
    for _ in range(4):
        assert stand.vault.http.post("/backups", timeout=60).status_code == 201
    kept = [base["id"] for base in stand.backups()["bases"]]
    assert kept[0] == first
    assert 4 <= len(kept) <= 5, "the newest three, and the first of every span"
    stand.archived(stand.now())
    report = stand.drill(to=before)
    assert report["ok"], report["troubles"]
    assert stand.restored() == {f"OBS-{number}" for number in range(5)}


def test_twenty_planted_corruptions_are_all_named(raised: Raise) -> None:
    """Bits flip in twenty pages of tables and indexes of primary and standby, beneath running
    servers that do not read them: every page is named."""
    stand = raised(standby=True)
    for number in range(50):
        stand.write(number)
    stand.cluster.primary.query("CHECKPOINT")
    assert stand.check()["status"] == "ok"
    planted = rot(stand, 20)
    found = stand.check()
    assert found["status"] == "damaged"
    missed = [
        where for where in planted
        if not any(_names(one, *where) for one in found["damages"])
    ]  # fmt: skip
    assert missed == [], found


def _names(damage: str, node: str, file: str, page: int) -> bool:
    if not damage.startswith(f"{node}: ./{file}"):
        return False
    return f"./{file} page {page} " in damage or f"./{file}, " in damage


def test_a_check_that_trusts_memory_misses_them(raised: Raise) -> None:
    """Planted defect: the database is asked, which does not read its disk."""
    stand = raised("integrity-trusts-memory")
    stand.cluster.primary.query("CHECKPOINT")
    rot(stand, 5)
    found = stand.check()
    assert (found["status"], found["damages"]) == ("ok", [])


def test_a_receiver_that_ended_is_not_seen_on_the_page_and_by_the_drill(raised: Raise) -> None:
    """Planted defect: the page says fresh; the drill restores what there is, and lacks the rest."""
    stand = raised("backup-stops-silently")
    streams = "SELECT count(*) FROM pg_stat_replication WHERE application_name = 'backup'"
    until("the receiver has ended", 20, lambda: stand.cluster.primary.query(streams) == [(0,)])
    for number in range(20):
        stand.write(number)
    stand.archived(stand.now())
    assert stand.backups()["log"]["age_s"] < 3
    stand.cluster.primary.kill()
    stand.drill()
    assert stand.restored() == set()


def test_a_drill_that_reads_nothing_calls_itself_good(raised: Raise) -> None:
    """Planted defect: success is reported, and no file, row or resource was compared."""
    stand = raised("drill-skips-check")
    stand.write(1)
    report = stand.drill()
    assert (report["ok"], report["files"], report["rows"], report["read"]) == (True, 0, 0, 0)


def flip(path: Path, offset: int) -> None:
    """One bit, as rot does: the file's times and mode tell nothing."""
    mode = path.stat().st_mode
    path.chmod(0o600)
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 4]))
    path.chmod(mode)


def rot(stand: Stand, number: int) -> list[tuple[str, str, int]]:
    """Flip bits in so many pages, by seed; (node, file, page) of each."""
    dice, done = random.Random(7), set[tuple[str, str, int]]()
    while len(done) < number:
        server = dice.randrange(len(stand.servers))
        data = stand.servers[server].data
        files = sorted(
            path for name in ("1", "4", "5") for path in (data / "base" / name).glob("[1-9]*")
            if path.stat().st_size
        )  # fmt: skip
        path = dice.choice(files)
        offset = dice.randrange(path.stat().st_size)
        where = (NAMES[server], path.relative_to(data).as_posix(), offset // 8192)
        if where not in done:
            flip(path, offset)
            done.add(where)
    return sorted(done)
