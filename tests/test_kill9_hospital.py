"""SIGKILL of the harness while the whole hospital runs: nothing is left after five seconds.

The moments are random but seeded, spread over raising, warm-up, fault, heal and settling.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from chaos import reaper
from tests.conditions import held_leases, until

SEED = int(os.environ.get("KILL9_SEED", "7"))
MOMENTS = (3.0, 9.0, 16.0, 24.0, 33.0)  # seconds after the start; each a little different by seed
WHOLE_S = 5.0
ROOT = Path(__file__).resolve().parents[1]
RUN = [sys.executable, "-c", "from chaos.cli import main; main()"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(number, marks=pytest.mark.campaign if number % 2 else ())
        for number in range(len(MOMENTS))
    ],
)
def test_a_killed_harness_leaves_no_hospital_behind(tmp_path: Path, number: int) -> None:
    """No process, lease, port or data folder after 5 s; the evidence so far can be judged."""
    chance = random.Random(f"{SEED}/{number}")
    state, reports = tmp_path / "state", tmp_path / "reports"
    env = {**os.environ, "HOSPITAL_CHAOS_STATE": str(state)}
    command = ["run", "app-node-crash", "--preset", "smoke", "--out", str(reports), "--json"]
    child = subprocess.Popen(
        [*RUN, *command], cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        start_new_session=True,
    )  # fmt: skip
    assert until(lambda: bool(steps_of(state, "kill")), 30.0), "the stack's lease is on disk"
    time.sleep(MOMENTS[number] * chance.uniform(0.8, 1.2))  # the moment is the test's input
    scopes = steps_of(state, "kill")
    folders = [Path(str(step["folder"])) for step in steps_of(state, "remove_tree")]
    child.kill()
    child.communicate(timeout=30)
    ended = until(lambda: not any(map(living, scopes)), WHOLE_S, 0.05)
    assert ended, [sorted(living(scope)) for scope in scopes]
    assert until(lambda: not steps_of(state, ""), WHOLE_S), "every lease was played"
    assert not any(folder.exists() for folder in folders)
    judged(reports, env)


def judged(reports: Path, env: dict[str, str]) -> None:
    """A killed run is judged without a traceback, and never held."""
    (folder,) = reports.iterdir()
    done = subprocess.run(
        [*RUN, "judge", str(folder), "--json"], cwd=ROOT, env=env, text=True,
        capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    assert done.returncode in (1, 3), done.stderr
    assert json.loads(done.stdout)["outcome"] in ("void", "broken")


def steps_of(state: Path, verb: str) -> list[dict[str, Any]]:
    """Undo steps of that kind (of any kind: '') in all leases that lie there now."""
    steps: list[dict[str, Any]] = []
    for file in held_leases(state):
        try:
            lease = json.loads(file.read_text())
        except (OSError, ValueError):
            continue
        steps += [s for s in lease["steps"] if not verb or s["do"] == verb]
    return steps


def living(scope: dict[str, Any]) -> set[int]:
    """Processes of the leased stack that are still there."""
    return set(reaper.find(scope))
