"""The kill -9 campaign on containers: nothing of ours is left after 10 s, nothing else is touched.

The moments are random but seeded (KILL9_SEED). KILL9_MOMENTS=50 is the whole campaign, with a fault
of every kind; without it there are four, which is what CI has time for.
"""

from __future__ import annotations

import json
import os
import random
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chaos import reaper
from chaos.lease import heal
from chaos.reaper.mounts import mounts_below
from chaos.runtime import engine
from tests import light_image
from tests.conditions import held_leases, repeated, until
from tests.storage.arrays import needs_fuse

SEED = int(os.environ.get("KILL9_SEED", "7"))
MOMENTS = int(os.environ.get("KILL9_MOMENTS", "12"))
# Where a life is cut: from when the harness says that it begins this, for so long.
PARTS = (("up", 4.0), ("fault", 1.5), ("fault", 1.5), ("down", 1.2))
BEGINS_S = 60.0  # a part has begun by then, also on a busy machine
WHOLE_S = 10.0
ROOT = Path(__file__).resolve().parents[1]
PROGRAM = [sys.executable, "-m", "tests.kill9_docker_harness"]

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(600)]


def docker(*words: str) -> str:
    """One command of the engine's client."""
    done = subprocess.run(["docker", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"docker {' '.join(words)}: {done.stderr}"
    return done.stdout.strip()


def left(run: str) -> list[str]:
    """Containers, networks and volumes with that run's label."""
    only = ("--filter", f"label={reaper.RUN_LABEL}={run}")
    found = docker("ps", "-a", *only, "--format", "{{.Names}} {{.State}}").splitlines()
    found += docker("network", "ls", *only, "--format", "network {{.Name}}").splitlines()
    return found + docker("volume", "ls", *only, "--format", "volume {{.Name}}").splitlines()


class Strangers:
    """What stands beside us and is not ours: containers, networks, volumes, in several states."""

    def __init__(self, image: str) -> None:
        mark = secrets.token_hex(4)
        self.networks = [f"hc-{mark}-net-A", f"theirs-{mark}"]
        self.volumes = [f"hc-{mark}-vol-disk-web"]
        self.containers = [f"hc-{mark}-svc-web", f"hc-{mark}-paused", f"{mark}-limits"]
        for network in self.networks:
            docker("network", "create", "--internal", "--label", "theirs=yes", network)
        for volume in self.volumes:
            docker("volume", "create", volume)
        other = f"{reaper.RUN_LABEL}={mark}-another"  # of another run, as it were
        more = (("--label", other), (), ("--memory=64m", "--pids-limit=50", "--cpus=0.5"))
        for name, options in zip(self.containers, more, strict=True):
            docker(
                "run", "-d", "--init", "--name", name, "--network", self.networks[0],
                "-v", f"{self.volumes[0]}:/data", *options, image, "sleep", "100000",
            )  # fmt: skip
        docker("pause", self.containers[1])

    def looks(self) -> list[Any]:
        """Everything the engine says of them."""
        looks = json.loads(docker("inspect", "--type", "container", *self.containers))
        looks += json.loads(docker("network", "inspect", *self.networks))
        return [*looks, *json.loads(docker("volume", "inspect", *self.volumes))]

    def remove(self) -> None:
        """Take them away again."""
        docker("rm", "-fv", *self.containers)
        docker("network", "rm", *self.networks)
        docker("volume", "rm", *self.volumes)


@pytest.fixture(scope="module")
def image() -> str:
    """The light image's tag, made once."""
    if why := engine.missing():
        pytest.skip(why)
    return light_image.tag()


@pytest.fixture(scope="module")
def strangers(image: str) -> Iterator[Strangers]:
    """Strangers beside the whole campaign."""
    found = Strangers(image)
    yield found
    found.remove()


@pytest.fixture(scope="module")
def runs() -> Iterator[list[str]]:
    """The runs that were killed. What a call under way brought later would be found here."""
    found: list[str] = []
    yield found
    late = {run: things for run in found if (things := left(run))}
    for run in late:
        reaper.play_step({"do": "remove_stack", "engine": engine.socket_path(), "run": run})
    assert late == {}


@pytest.fixture
def place() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="k9d-", dir="/tmp"))
    (folder / "run").mkdir()
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


class Victim:
    """A harness that is about to die; `more` of its environment."""

    def __init__(self, place: Path, number: int, image: str, **more: str) -> None:
        self.place, self.state = place, place / "state"
        self.mark = f"HOSPITAL_KILL9={place.name}"
        name, _, value = self.mark.partition("=")
        env = {**os.environ, name: value, "LIGHT_IMAGE": image, "PYTHONPATH": str(ROOT), **more}
        words = [*PROGRAM, str(self.state), str(place / "run"), str(number)]
        with open(place / "said", "wb") as out, open(place / "errors", "wb") as errors:
            self.child = subprocess.Popen(
                words, stdout=out, stderr=errors, env=env, cwd=ROOT, start_new_session=True
            )

    def said(self, word: str) -> str:
        """The last value it said for that word; '' when it has not."""
        lines = (self.place / "said").read_text().splitlines(keepends=True)
        found = [json.loads(line) for line in lines if line.endswith("\n")]
        return str(next((line[word] for line in reversed(found) if word in line), ""))

    def begun(self, part: str) -> bool:
        """Whether it has said that it begins that part, or is over."""
        said = (self.place / "said").read_text()
        return f'"phase": "{part}' in said or self.child.poll() is not None

    def kill(self) -> None:
        self.child.send_signal(signal.SIGKILL)
        self.child.wait()

    def processes(self) -> dict[int, reaper.Stat]:
        """Everything it has started on this machine and that lives, its reaper included."""
        return reaper.find({"folder": "/no/such", "marks": [self.mark]})

    def whole(self) -> bool:
        """No lease, no process, no mount, no folder, nothing with its run's label."""
        if held_leases(self.state) or self.processes():
            return False
        if (folder := self.said("folder")) and (mounts_below(folder) or os.path.lexists(folder)):
            return False
        return not (run := self.said("run")) or not left(run)

    def tell(self) -> str:
        """What is left, for the failure's text."""
        run = self.said("run")
        logs = [p.read_text()[-1500:] for p in self.state.rglob("reaper.log")]
        files = [p.name for p in held_leases(self.state)]
        mounted = mounts_below(self.said("folder") or "/no/such")
        things = [*(left(run) if run else []), *mounted]
        return f"seed {SEED} {self.said('phase')=} {things} {files} {logs}"


@pytest.mark.parametrize("number", repeated(MOMENTS))
def test_sigkill_of_the_harness_leaves_nothing_and_touches_nobody(
    place: Path, image: str, strangers: Strangers, runs: list[str], number: int
) -> None:
    """At any moment of its life: 10 s later nothing of ours is left, strangers are as before."""
    before = strangers.looks()
    cut_a_life(Victim(place, number // 2, image), number, runs)
    assert strangers.looks() == before


@pytest.mark.storage
@needs_fuse
@pytest.mark.parametrize("number", repeated(MOMENTS))
def test_sigkill_of_the_harness_leaves_no_array_under_containers(
    place: Path, image: str, runs: list[str], number: int
) -> None:
    """Where containers stand on arrays, some of them hung or lost: no mount and no folder either,
    and no server of an array."""
    cut_a_life(Victim(place, number // 2, image, LIGHT_ARRAYS="1"), number, runs)


def cut_a_life(victim: Victim, number: int, runs: list[str]) -> None:
    """Kill it in that part of its life, and see everything whole in time."""
    part, most_s = PARTS[number % len(PARTS)]
    try:
        assert until(lambda: victim.begun(part), BEGINS_S, 0.01), victim.tell()
        # the moment is the test's input
        time.sleep(random.Random(SEED * 1000 + number).uniform(0.0, most_s))
        assert victim.child.poll() is None, (victim.place / "errors").read_text()[-2000:]
        victim.kill()
        killed_t = time.monotonic()
        assert until(victim.whole, WHOLE_S, every_s=0.2), victim.tell()
        took_s = time.monotonic() - killed_t
        print(f"killed in {victim.said('phase') or 'birth'!r}: whole after {took_s:.1f} s")
        assert heal(victim.state) == []
    finally:
        victim.kill()
        until(victim.whole, WHOLE_S, every_s=0.2)
        if run := victim.said("run"):
            runs.append(run)
