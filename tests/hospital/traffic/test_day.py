"""The whole load generator as the harness runs it: real Locust, own process, a fake hospital."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from chaos.journal.events import AnyEvent
from chaos.workload import Workload, WorkloadError, WorkloadProcess
from stacks.hospital.day import elective_rush, hospital_day
from stacks.hospital.traffic.callers import LINKS
from stacks.hospital.traffic.config import ConfigError, read
from stacks.hospital.traffic.shift import Shift
from tests.hospital.traffic.fakes import FakeService, Reply, chart_of, outcome, until

MARKS = {"X-Read-Only": "READ-ONLY", "X-As-Of": "2026-11-22T01:00:00+00:00"}


class FakeHospital:
    """Everything of the hospital that people can ask, in one server that is always well."""

    def __init__(self) -> None:
        self.finished: list[dict[str, Any]] = []
        self._seq = itertools.count(1)
        self.service = FakeService(self._behave)
        care = ("ehr-a", "ehr-b", "ro-copy", "gam", "analysers", "lis")
        self.links = {LINKS[name]: self.service.address for name in care}

    def _behave(self, method: str, path: str, body: bytes, _: dict[str, str]) -> Reply:
        if path.startswith(("/console", "/feed", "/criticals")):
            after = int(path.split("after=")[1].split("&")[0]) if "after=" in path else 0
            return 200, {}, [row for row in self.finished if row["seq"] > after]
        if path == "/specimens":
            tube = json.loads(body)
            row = {"seq": next(self._seq), "finished_at": time.time(), "status": "final"}
            self.finished.append({**tube, **row, "id": tube["specimen"], "critical": False})
            return 201, {}, {"specimen": tube["specimen"]}
        if method == "POST" and "/Observation" in path and json.loads(body).get("x-copy"):
            return 405, MARKS, outcome("not-supported", "read-only copy")
        if path.endswith("$everything"):
            return 200, MARKS, chart_of(path.split("/")[3])
        if path == "/census":
            return 200, {}, {"patients": [{"mrn": "M1", "ward": "icu", "class": "IMP"}]}
        return (201 if method == "POST" else 200), {"ETag": 'W/"1"'}, body or b"{}"


@pytest.fixture
def town() -> Iterator[FakeHospital]:
    made = FakeHospital()
    yield made
    made.service.close()


def start(workload: Workload, run: Path, town: FakeHospital, **more: Any) -> WorkloadProcess:
    alone = Workload(workload.name, workload.command, workload.params)  # without the watcher
    return WorkloadProcess(alone, run, seed=7, speed=600, links=town.links, direct={}, **more)


def journal(run: Path, name: str = "day") -> list[Any]:
    lines = (run / "journal" / f"{name}.jsonl").read_bytes().splitlines()
    return [msgspec.json.decode(line, type=AnyEvent) for line in lines]


def test_a_day_is_played_and_ends_in_good_order(tmp_path: Path, town: FakeHospital) -> None:
    """Opened, played, stopped: every operation has a last word, and the end is written."""
    with start(hospital_day("smoke", inpatients=12), tmp_path, town) as child:
        assert until(lambda: len(town.finished) > 45, 20)
        child.stop()
        assert child.exit_codes == {"day": 0}
    events = journal(tmp_path)
    kinds = Counter(type(event).__name__ for event in events)
    assert kinds["WorkloadStarted"] == kinds["WorkloadEnded"] == 1
    ended = next(event for event in events if type(event).__name__ == "WorkloadEnded")
    assert ended.ok
    assert ended.planned == ended.started > 20
    invoked = {event.op for event in events if type(event).__name__ == "OpInvoked"}
    done = [e.op for e in events if type(e).__name__ in ("OpOk", "OpRefused", "OpUnknown")]
    assert sorted(done) == sorted(invoked)
    seen = {event.kind for event in events if type(event).__name__ == "OpInvoked"}
    assert {"chart.read", "order.create", "specimen.load", "specimen.result"} <= seen


@pytest.mark.slow
def test_the_same_seed_asks_for_the_same_things(tmp_path: Path, town: FakeHospital) -> None:
    """Two runs of one seed write the same first patients, placers and digests."""
    orders = []
    for name in ("one", "two"):
        with start(hospital_day("smoke", inpatients=8), tmp_path / name, town) as child:
            child.stop()
        made = [e for e in journal(tmp_path / name) if getattr(e, "kind", "") == "patient.create"]
        orders.append({(e.key, e.klass, e.ward, e.value) for e in made if "S" in e.key})
    assert orders[0] == orders[1]
    assert len(orders[0]) > 8


@pytest.mark.slow
def test_a_rush_reads_those_who_are_there(tmp_path: Path, town: FakeHospital) -> None:
    """It admits nobody: it takes the census, and asks for elective reads and mass reports."""
    with start(elective_rush(), tmp_path, town):
        assert until(lambda: len(town.service.asked) > 30, 20)
    ops = [e for e in journal(tmp_path, "rush") if type(e).__name__ == "OpInvoked"]
    assert {(op.kind, op.klass) for op in ops} <= {
        ("chart.read", "P3"), ("back.office", "P3"), ("back.office", "P4"),
    }  # fmt: skip
    assert not [path for method, path, *_ in town.service.asked if method == "POST"]


def test_it_does_not_outlive_its_harness(tmp_path: Path, town: FakeHospital) -> None:
    """When the standard input closes (harness killed) the generator is gone within 3 s."""
    with start(hospital_day("smoke", inpatients=8), tmp_path, town) as child:
        process = child._children[0]._process
        assert process is not None
        assert process.stdin is not None
        process.stdin.close()
        process.stdin = None
        assert child.wait(3.0)


@pytest.mark.slow
def test_wards_that_cannot_be_opened_are_one_clear_line(tmp_path: Path) -> None:
    """A hospital that refuses admissions: the error says who is not ready and where to look."""
    refusing = FakeService(lambda *_: (400, {}, outcome("invalid", "no")))
    town = FakeHospital()
    town.links = dict.fromkeys(town.links, refusing.address)
    with pytest.raises(WorkloadError, match=r"wards could not be opened.*not admitted by gam"):
        start(hospital_day("smoke"), tmp_path, town).__enter__()
    refusing.close()
    town.service.close()


BAD_CONFIGURATIONS = {
    "is not set": None,
    "truncated": "{",
    "typo": '{"workload": "x", "params": {"typo": 1}}',
    "smoke, ci, soak": '{"workload": "x", "params": {"preset": "smok"}}',
    "speed": '{"workload": "x", "speed": 0}',
    "wards>ehr-a.http": '{"workload": "x", "links": {"wards>ehr-a.http": "nowhere"}}',
}


@pytest.mark.parametrize("line", sorted(BAD_CONFIGURATIONS))
def test_bad_configuration_names_its_fault(
    tmp_path: Path, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Missing, torn, misspelt, out of range: a ConfigError that says where."""
    config = BAD_CONFIGURATIONS[line]
    monkeypatch.delenv("WORKLOAD_CONFIG", raising=False)
    if config is not None:
        (tmp_path / "config.json").write_text(config)
        monkeypatch.setenv("WORKLOAD_CONFIG", str(tmp_path / "config.json"))
    with pytest.raises(ConfigError, match=line):
        Shift(read())


@pytest.mark.parametrize("module", ["traffic", "watch", "audit", "poison", "bad_input"])
def test_a_program_without_configuration_says_so_in_one_line(module: str) -> None:
    """Status 64 and one line, never a traceback."""
    env = {key: value for key, value in os.environ.items() if key != "WORKLOAD_CONFIG"}
    done = subprocess.run(
        [sys.executable, "-m", f"stacks.hospital.{module}"], env=env, capture_output=True,
        text=True, timeout=30, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 64
    (line,) = done.stderr.strip().splitlines()
    assert "WORKLOAD_CONFIG is not set" in line


@pytest.mark.slow
def test_a_full_disk_ends_the_generator(tmp_path: Path, town: FakeHospital) -> None:
    """A journal that cannot be created is one clear line and no `ready`."""
    (tmp_path / "journal").mkdir()
    (tmp_path / "journal" / "day.jsonl").write_text("exists\n")
    with pytest.raises(WorkloadError, match="exists already"):
        start(hospital_day("smoke"), tmp_path, town).__enter__()


@pytest.mark.slow
def test_the_same_locustfile_runs_under_locusts_own_command(
    tmp_path: Path, town: FakeHospital
) -> None:
    """Two users, twice, as from the web UI: statistics per kind and class, no failures, no file."""
    config = {"workload": "load-ui", "journal": str(tmp_path / "j"), "links": town.links}
    (tmp_path / "config.json").write_text(json.dumps(config))
    command = [
        sys.executable, "-m", "locust", "-f", "stacks/hospital/locustfile.py", "--headless",
        "-u", "2", "-r", "2", "-t", "4s", "--csv", str(tmp_path / "stats"), "--only-summary",
    ]  # fmt: skip
    env = {**os.environ, "WORKLOAD_CONFIG": str(tmp_path / "config.json")}
    for _ in range(2):
        done = subprocess.run(
            command, env=env, capture_output=True, text=True, timeout=60, check=False
        )
        stats = (tmp_path / "stats_stats.csv").read_text()
        assert "P1,chart.read" in stats, done.stderr
        assert "P1,order.create" in stats
    assert not (tmp_path / "j").exists()


@pytest.mark.slow
def test_sigint_is_not_its_business(tmp_path: Path, town: FakeHospital) -> None:
    """A terminal's Ctrl-C goes to the harness: the child lives in a session of its own."""
    with start(hospital_day("smoke", inpatients=8), tmp_path, town) as child:
        process = child._children[0]._process
        assert process is not None
        assert os.getsid(process.pid) != os.getsid(0)
        process.send_signal(signal.SIGINT)  # sent to it alone, it closes like SIGTERM
        assert child.wait(8.0)
        assert child.exit_codes == {"day": 0}
