"""Every planted defect breaks exactly its claims, and the sound hospital breaks none.

Each test raises the whole hospital and runs one experiment under preset `smoke`, which says in
every verdict where it asks for less evidence than the claim itself. `-m "teeth and not slow"` has
every claim at least once; the rest of the defects are marked `slow` as well.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from stacks.hospital.bugs import BUGS, VARIABLE, Bug
from stacks.hospital.claims import CATALOGUE

ROOT = Path(__file__).resolve().parents[2]
SEED = 7
RUN_S = 400.0  # one experiment, the stack's start and the final read included
SHOWN = {bug.name: bug for bug in BUGS.values() if bug.shown_by}
# Those that a claim has another, quicker witness for.
SLOW = frozenset(
    {
        "ack-before-commit",
        "archive-deletes-on-resend",
        "buffer-in-memory",
        "cache-wrong-patient",
        "copy-accepts-writes",
        "copy-misses-new-patients",
        "double-booked-after-restore",
        "drops-when-buffer-100",
        "duplicate-on-retry",
        "late-ack-shift",
        "late-booking-wins",
        "matched-by-name",
        "merge-wrong-patient",
        "modality-needs-worklist",
        "no-failover",
        "no-retry-after-timeout",
        "one-node-only",
        "order-needs-engine",
        "order-not-sent",
        "poison-blocks-channel",
        "prelim-overwrites-final",
        "queue-in-memory",
        "retry-storm",
        "router-acks-before-disk",
        "shed-fifo",
        "store-not-kept",
        "unmatched-result-dropped",
        "website-not-told",
    }
)
# People retry an order for 45 s before they give up: the short preset's outage is over by then.
PRESET = {"order-needs-engine": "ci"}
BROKEN, HELD, VOID = "broken", "held", "void"
EXIT = {HELD: 0, BROKEN: 1}

pytestmark = [pytest.mark.teeth, pytest.mark.timeout(RUN_S + 60)]


def ran(experiment: str, folder: Path, defect: str = "") -> tuple[int, dict[str, Any], str]:
    """(exit status, judgement, where to look) of one run in state and run folders of its own."""
    environment = {**os.environ, "HOSPITAL_CHAOS_STATE": str(folder / "state"), VARIABLE: defect}
    arguments = ["--preset", PRESET.get(defect, "smoke"), "--seed", str(SEED)]
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from chaos.cli import main; main()",
            "run",
            experiment,
            *arguments,
            "--out",
            str(folder / "reports"),
            "--json",
        ],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=RUN_S,
        check=False,
    )
    assert done.stdout.strip(), f"status {done.returncode}, no judgement: {done.stderr[-2000:]}"
    judgement = json.loads(done.stdout)
    return done.returncode, judgement, _told(judgement)


def _told(judgement: dict[str, Any]) -> str:
    lines = [f"{judgement['name']}: {judgement['outcome']}", *judgement["reasons"]]
    lines += [
        f"{claim['id']} {claim['verdict']}: {claim['reason']}"
        for claim in judgement["claims"]
        if claim["verdict"] != HELD
    ]
    return "\n".join([*lines, f"run folder: {judgement.get('folder')}"])


def found(judgement: dict[str, Any], verdict: str) -> set[str]:
    """Ids of the claims with this verdict."""
    return {claim["id"] for claim in judgement["claims"] if claim["verdict"] == verdict}


def _slow(name: str) -> Any:
    return pytest.param(name, marks=pytest.mark.slow if name in SLOW else ())


@pytest.mark.parametrize("name", [_slow(name) for name in SHOWN])
def test_a_defect_breaks_exactly_its_claims(name: str, tmp_path: Path) -> None:
    """Planted alone, the defect is found, by the claims that it violates and by no other."""
    bug: Bug = SHOWN[name]
    status, judgement, told = ran(bug.shown_by, tmp_path, name)
    assert judgement["outcome"] == BROKEN, told
    assert found(judgement, BROKEN) == set(bug.claims), told
    assert not found(judgement, VOID), told
    assert status == EXIT[BROKEN], told


QUICK = sorted({bug.shown_by for bug in SHOWN.values() if bug.name not in SLOW})


@pytest.mark.parametrize("experiment", QUICK)
def test_the_sound_hospital_holds_every_claim(experiment: str, tmp_path: Path) -> None:
    """Where a defect is shown, the same run without it breaks nothing and proves all it asks."""
    status, judgement, told = ran(experiment, tmp_path)
    assert judgement["outcome"] == HELD, told
    assert status == EXIT[HELD], told


def test_every_claim_has_teeth() -> None:
    """Each claim of the hospital is broken by a planted defect of the quick set, 20 at least."""
    quick = [bug for bug in SHOWN.values() if bug.name not in SLOW]
    assert {claim for bug in quick for claim in bug.claims} == set(CATALOGUE)
    assert len(quick) >= 20
    assert set(SHOWN) >= SLOW
    for bug in BUGS.values():
        assert set(bug.claims) <= set(CATALOGUE), f"{bug.name} names a claim that is not there"
