"""Every planted defect breaks exactly its claims, and the sound hospital breaks none.

Each test raises the whole hospital and runs one experiment under preset `smoke`, which says in
every verdict where it asks for less evidence than the claim itself. `-m "teeth and not slow"` has
every claim at least once, ten of the defects and three sound runs in containers where there is an
engine; the rest, and everything on the other runtime, is marked `slow` as well.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from chaos.runtime import engine
from chaos.storage.mounting import missing
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
        "analysers-on-array-a",
        "ack-before-durable",
        "acks-when-full",
        "any-title",
        "archive-deletes-on-resend",
        "archive-mixes-patients",
        "archive-vouches-when-full",
        "backup-skips-images",
        "backup-stops-silently",
        "billing-forgets",
        "buffer-in-memory",
        "cache-wrong-patient",
        "charges-first",
        "copy-accepts-writes",
        "copy-misses-new-patients",
        "copy-on-array-a",
        "copy-stale-marked-now",
        "double-booked-after-restore",
        "drops-when-buffer-100",
        "duplicate-on-retry",
        "eta-expires",
        "failback-while-behind",
        "failover-loss-unreported",
        "laboratory-acks-when-full",
        "late-ack-shift",
        "late-booking-wins",
        "matched-by-name",
        "merge-wrong-patient",
        "modality-needs-worklist",
        "newest-first-replay",
        "no-failover",
        "no-retry-after-timeout",
        "one-node-only",
        "order-needs-engine",
        "order-not-sent",
        "poison-blocks-channel",
        "prelim-overwrites-final",
        "queue-in-memory",
        "reads-need-primary",
        "restore-latest",
        "retry-storm",
        "router-acks-before-disk",
        "shed-fifo",
        "snapshot-torn",
        "store-not-kept",
        "unmatched-result-dropped",
        "website-not-told",
    }
)
# Shown in containers where there is an engine: of every department, and of what etcd decides.
IN_CONTAINERS = frozenset(
    {
        "ack-before-fsync",
        "asynchronous-standby",
        "callcentre-lags",
        "cancels-dialysis",
        "copy-in-room-a",
        "gam-needs-ehr",
        "no-bypass",
        "shed-urgent-first",
        "stale-primary-writable",
        "stat-as-routine",
    }
)
SOUND_IN_CONTAINERS = ("saint-luc", "network-slowdown", "pacs-outage")
# Of the process runtime's sound runs the quick set has those of the departments that containers do
# not raise there; `make test` has one more.
SOUND_QUICK = ("staged-return",)
NO_ENGINE = engine.missing()
# They need arrays that can be mounted.
ON_ARRAYS = frozenset(
    {
        "restore-engine",
        "array-lost-in-maintenance",
        "bit-rot",
        "disk-full-engine",
        "disk-full-imaging",
        "disk-full-laboratory",
        "failover-failback",
        "false-all-clear",
        "power-cut-with-backlog",
        "saint-etienne",
    }
)
NO_ARRAYS = missing()
# People retry an order for 45 s before they give up: the short preset's outage is over by then.
PRESET = {"order-needs-engine": "ci"}
BROKEN, HELD, VOID, INCONCLUSIVE = "broken", "held", "void", "inconclusive"
EXIT = {HELD: 0, BROKEN: 1}

pytestmark = [pytest.mark.teeth, pytest.mark.timeout(2 * RUN_S + 60)]


def ran(
    experiment: str, folder: Path, runtime: str, defect: str = ""
) -> tuple[int, dict[str, Any], str]:
    """(exit status, judgement, where to look) of one run in state and run folders of its own.

    A void run says nothing, of the hospital or of the defect, and a sound hospital that was not
    proven to hold is not one that breaks: on a machine that is busy with others, once more.
    """
    if runtime == "docker" and NO_ENGINE:
        pytest.skip(NO_ENGINE)
    if experiment in ON_ARRAYS and NO_ARRAYS:
        pytest.skip(NO_ARRAYS)
    status, judgement, told = _run(experiment, folder / "1", runtime, defect)
    said_nothing = {VOID} if defect else {VOID, INCONCLUSIVE}
    if judgement["outcome"] in said_nothing:
        status, judgement, again = _run(experiment, folder / "2", runtime, defect)
        told = f"{told}\nonce more: {again}"
    return status, judgement, told


def _run(
    experiment: str, folder: Path, runtime: str, defect: str
) -> tuple[int, dict[str, Any], str]:
    folder.mkdir()
    environment = {**os.environ, "HOSPITAL_CHAOS_STATE": str(folder / "state"), VARIABLE: defect}
    arguments = ["--preset", PRESET.get(defect, "smoke"), "--seed", str(SEED)]
    arguments += ["--runtime", runtime]
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


def _shown(name: str, runtime: str) -> Any:
    """One defect on one runtime; in the quick set it is shown on one of the two."""
    there = name in IN_CONTAINERS
    quick = there if runtime == "docker" else not there or bool(NO_ENGINE)
    return _case(name, runtime, quick=quick and name not in SLOW)


def _sound(experiment: str, runtime: str) -> Any:
    quick = SOUND_IN_CONTAINERS if runtime == "docker" and not NO_ENGINE else SOUND_QUICK
    return _case(experiment, runtime, quick=experiment in quick)


def _case(name: str, runtime: str, quick: bool) -> Any:
    marks = [] if quick else [pytest.mark.slow]
    marks += [pytest.mark.docker] if runtime == "docker" else []
    return pytest.param(name, runtime, marks=marks, id=f"{runtime}-{name}")


def _may_break(name: str, runtime: str) -> set[str]:
    """The claims that the defect violates, or is known to violate in some runs of that kind."""
    bug = SHOWN[name]
    return {*bug.claims, *bug.by_chance, *(bug.also if runtime == "docker" else ())}


def _for_another_reason(name: str, judgement: dict[str, Any]) -> list[str]:
    """What broke by chance, but not of the cause that the defect's entry knows."""
    words = SHOWN[name].by_chance
    return [
        claim["reason"]
        for claim in judgement["claims"]
        if claim["verdict"] == BROKEN and words.get(claim["id"], "") not in claim["reason"]
    ]


RUNTIMES = ("process", "docker")


@pytest.mark.parametrize(
    ("name", "runtime"), [_shown(name, runtime) for runtime in RUNTIMES for name in SHOWN]
)
def test_a_defect_breaks_exactly_its_claims(name: str, runtime: str, tmp_path: Path) -> None:
    """Planted alone, the defect is found, by the claims that it violates and by no other (but for
    those that it is known to break in some runs: `Bug.also` and `Bug.by_chance` say why)."""
    bug: Bug = SHOWN[name]
    status, judgement, told = ran(bug.shown_by, tmp_path, runtime, name)
    assert judgement["outcome"] == BROKEN, told
    assert set(bug.claims) <= found(judgement, BROKEN) <= _may_break(name, runtime), told
    assert _for_another_reason(name, judgement) == [], told
    assert not found(judgement, VOID), told
    assert status == EXIT[BROKEN], told


EXPERIMENTS = sorted({bug.shown_by for bug in SHOWN.values()} | set(SOUND_IN_CONTAINERS))


@pytest.mark.parametrize(
    ("experiment", "runtime"),
    [_sound(one, runtime) for runtime in RUNTIMES for one in EXPERIMENTS],
)
def test_the_sound_hospital_holds_every_claim(
    experiment: str, runtime: str, tmp_path: Path
) -> None:
    """Where a defect is shown, the same run without it breaks nothing and proves all it asks."""
    status, judgement, told = ran(experiment, tmp_path, runtime)
    assert judgement["outcome"] == HELD, told
    assert status == EXIT[HELD], told


def test_every_claim_has_teeth() -> None:
    """Each claim of the hospital is broken by a planted defect of the quick set, 20 at least."""
    quick = [bug for bug in SHOWN.values() if bug.name not in SLOW]
    assert {claim for bug in quick for claim in bug.claims} == set(CATALOGUE)
    assert len(quick) >= 20
    assert set(SHOWN) >= SLOW | IN_CONTAINERS
    assert not SLOW & IN_CONTAINERS
    for bug in BUGS.values():
        named = {*bug.claims, *bug.also, *bug.by_chance}
        assert named <= set(CATALOGUE), f"{bug.name} names a claim that is not there"
