"""The kill-9 campaign: whenever the harness is killed, its world is whole again within 5 s.

The moments are random but seeded; each test's id names its number. KILL9_SEED=… tries others.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from chaos import reaper
from chaos.lease import heal, standing, take_down
from chaos.toxiproxy.client import Toxiproxy, ToxiproxyError
from tests.conditions import answering, held_leases, repeated, until

SEED = int(os.environ.get("KILL9_SEED", "7"))
WHOLE_S = 5.0
LONGEST_S = 1.6  # from the start of the program; it has raised its stack after about 0.6 s
ROOT = Path(__file__).resolve().parents[1]

pytestmark = pytest.mark.slow


@dataclass
class Campaign:
    """One harness that is about to die, in a state and temp folder of its own."""

    place: Path
    state: Path
    mark: str
    child: subprocess.Popen[bytes]

    def lines(self) -> list[dict[str, object]]:
        """What it said until now."""
        text = (self.place / "said").read_text()
        return [json.loads(line) for line in text.splitlines(keepends=True) if line[-1] == "\n"]

    def said(self, word: str) -> object:
        """The last value it said for that word; None when it has not."""
        found = [line[word] for line in self.lines() if word in line]
        return found[-1] if found else None

    def left_processes(self) -> dict[int, reaper.Stat]:
        """Everything that the harness has started and that lives (its reaper included)."""
        return reaper.find({"folder": "/no/such", "marks": [self.mark]})

    def left_folders(self) -> list[str]:
        """Data folders of stacks."""
        return [p.name for p in self.place.glob("hc-*")]

    def open_ports(self) -> list[int]:
        """Ports of the stack that still answer."""
        first, count = self.said("api"), self.said("ports")
        if not isinstance(first, int) or not isinstance(count, int):
            return []
        return answering(first, count)

    def whole(self) -> bool:
        """No process, no port, no folder, no lease (an empty run folder may await `heal`)."""
        left = self.left_processes() or self.left_folders() or self.open_ports()
        return not left and not held_leases(self.state)

    def tell(self) -> str:
        """What is left, for the failure's text."""
        said = self.lines()[-2:]
        ports = self.open_ports()
        processes = {pid: seen.state for pid, seen in self.left_processes().items()}
        files = [str(p.relative_to(self.state)) for p in self.state.rglob("*")]
        logs = [p.read_text()[-500:] for p in self.state.rglob("reaper.log")]
        return f"seed {SEED} {said=} {processes=} {ports=} {self.left_folders()} {files} {logs}"


@pytest.fixture
def place() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="k9-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def start(place: Path, number: int, *more: str) -> Campaign:
    """Start the harness with a mark that everything it starts inherits."""
    state = place / "state"
    mark = f"HOSPITAL_KILL9={place.name}"
    name, _, value = mark.partition("=")
    env = {**os.environ, "TMPDIR": str(place), name: value, "PYTHONPATH": str(ROOT)}
    (place / "run").mkdir()
    with open(place / "said", "wb") as out, open(place / "errors", "wb") as errors:
        child = subprocess.Popen(
            [sys.executable, str(ROOT / "tests" / "kill9_harness.py"), str(state),
             str(place / "run"), str(SEED * 1000 + number), *more],
            stdout=out, stderr=errors, env=env, cwd=place, start_new_session=True,
        )  # fmt: skip
    return Campaign(place, state, mark, child)


def end(campaign: Campaign) -> None:
    """Whatever the test found: nothing stays behind it."""
    campaign.child.kill()
    campaign.child.wait()
    until(campaign.whole, WHOLE_S)
    reaper.kill({"folder": str(campaign.place), "marks": [campaign.mark]})


def moment(number: int, longest_s: float) -> float:
    return random.Random(SEED * 1000 + number).uniform(0.0, longest_s)


@pytest.mark.parametrize("number", repeated(50, few=20))
def test_sigkill_of_the_harness_leaves_nothing(place: Path, number: int) -> None:
    """At any moment of its life: no process, port, folder or lease after 5 s."""
    campaign = start(place, number)
    try:
        time.sleep(moment(number, LONGEST_S))
        assert campaign.child.poll() is None, (place / "errors").read_text()[-2000:]
        campaign.child.send_signal(signal.SIGKILL)
        campaign.child.wait()
        assert until(campaign.whole, WHOLE_S, every_s=0.05), campaign.tell()
        assert heal(campaign.state) == []
        assert not list(campaign.state.glob("*/owner.json"))
    finally:
        end(campaign)


@pytest.mark.parametrize("number", range(100, 110))
def test_sigkill_of_the_harness_leaves_a_standing_stack_whole(place: Path, number: int) -> None:
    """A stack that stands serves on: every service ready, none paused, no toxic, no link closed."""
    campaign = start(place, number, "standing")
    try:
        assert until(lambda: campaign.said("began") is not None, 15)
        time.sleep(moment(number, 0.8))
        campaign.child.send_signal(signal.SIGKILL)
        campaign.child.wait()
        assert until(lambda: stands_whole(campaign), WHOLE_S, every_s=0.05), campaign.tell()
        (found,) = standing(campaign.state)
        assert take_down(found).ok
        assert until(campaign.whole, WHOLE_S, every_s=0.05), campaign.tell()
    finally:
        for found in standing(campaign.state):
            take_down(found)
        end(campaign)


def stands_whole(campaign: Campaign) -> bool:
    """Only the stack's own lease is left, and the stack is as before any fault."""
    if len(held_leases(campaign.state)) != 1:
        return False
    first = campaign.said("api")
    assert isinstance(first, int)
    try:
        proxies = Toxiproxy("127.0.0.1", first, reaper.ask).proxies().values()
    except ToxiproxyError:
        return False
    if not proxies or any(p.toxics or not p.enabled for p in proxies):
        return False
    if any(seen.state in "Tt" for seen in campaign.left_processes().values()):
        return False
    # ports: proxies, then web.http, echo.http, echo.echo, store.http, mirror.http
    for port in (first + 1, first + 2, first + 4, first + 5):
        try:
            if reaper.ask("127.0.0.1", port, "GET", "/health")[0] != 200:
                return False
        except reaper.Silent:
            return False
    return True


@pytest.mark.parametrize("number", range(200, 206))
def test_heal_cleans_when_harness_and_reaper_were_killed_together(place: Path, number: int) -> None:
    """Nobody is left to undo anything; the next command does it before anything else."""
    campaign = start(place, number)
    try:
        assert until(lambda: campaign.said("began") is not None, 15)
        time.sleep(moment(number, 0.8))
        watcher = campaign.said("reaper")
        assert isinstance(watcher, int)
        os.kill(watcher, signal.SIGKILL)
        campaign.child.send_signal(signal.SIGKILL)
        campaign.child.wait()
        assert campaign.left_processes()
        healed = heal(campaign.state)
        assert healed
        assert all(lease.ok for lease in healed), healed
        assert campaign.whole(), campaign.tell()
    finally:
        end(campaign)
