"""What experiments wait for while the hospital returns: the pair whole, normal declared, a check.

It only asks (Patroni's view of the pair, the incident system, the vault); it orders nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import httpx

from chaos.experiment import Experiment
from chaos.runtime import Runtime
from stacks.hospital.primary import ASK_S, NODES

PAIR_S = 60.0
BEHIND_S = 30.0
INCIDENT, VAULT = "incident", "backup"
JUST_NOW_S = 15.0
WATCHED_S = 2.5
"""So long until the watcher, who looks once a second, has seen what the vault says."""


def wait_for_pair(experiment: Experiment) -> None:
    """Until the standby holds all that is acknowledged, or follows at least where Patroni is told
    to promise no more. Else the run is void: a second fault on a pair that is none is more than
    this experiment may do."""
    runtime = experiment.runtime

    def whole() -> bool:
        promised = _asked(runtime, "/config").get("synchronous_mode") is not False
        return all(_is_whole(_seen_by(runtime, node), promised) for node in NODES) and (
            len({_leader(_seen_by(runtime, node)) for node in NODES}) == 1
        )

    experiment.until(whole, PAIR_S, "the pair is whole again")


def wait_until_behind(experiment: Experiment) -> None:
    """Until the standby lacks log that the primary has, and writes are acknowledged without it."""
    runtime = experiment.runtime
    experiment.until(
        lambda: any(
            one.get("role") == "replica" and _lag(one) > 0
            for node in NODES for one in _seen_by(runtime, node)
        ),
        BEHIND_S, "the standby is behind, and commits no longer wait for it",
    )  # fmt: skip


def wait_for_normal(experiment: Experiment, most_s: float) -> None:
    """Until no incident goes on, `most_s` seconds at most: whether it had to is for the claims."""
    runtime = experiment.runtime
    _until_or_over(
        experiment, lambda: _json(runtime, INCIDENT, "/incident").get("state") == "normal",
        most_s, "normal is declared, or its time is over",
    )  # fmt: skip


def wait_for_check(experiment: Experiment, most_s: float) -> None:
    """Until the vault has reported damage, or ended a check that began from now on: `most_s`
    seconds at most."""
    runtime, now = experiment.runtime, time.time()

    def ended() -> bool:
        found = _json(runtime, VAULT, "/integrity")
        began = float(found.get("checked_at", 0.0))
        if found.get("status") == "damaged" and began >= now - JUST_NOW_S:
            return True
        return not found.get("running", True) and began >= now

    _until_or_over(experiment, ended, most_s, "a whole check has ended, or its time is over")
    experiment.wait(WATCHED_S, why="its report is read")


def _until_or_over(
    experiment: Experiment, condition: Callable[[], bool], most_s: float, what: str
) -> None:
    begun = time.monotonic()
    experiment.until(
        lambda: time.monotonic() - begun > most_s or condition(), most_s + 4 * ASK_S, what
    )


def _is_whole(members: list[dict[str, Any]], promised: bool) -> bool:
    """One node's view. Who slept still sees what was: only where both see the same it is so."""
    standby = next((one for one in members if one.get("role") in ("sync_standby", "replica")), {})
    if promised and standby.get("role") != "sync_standby":
        return False
    same = {one.get("timeline") for one in members}
    return len(members) == len(NODES) and len(same) == 1 and standby.get("state") == "streaming"


def _leader(members: list[dict[str, Any]]) -> str:
    return next((str(one.get("name")) for one in members if one.get("role") == "leader"), "")


def _asked(runtime: Runtime, path: str) -> dict[str, Any]:
    """What the first node that answers says of the pair."""
    answers = (_json(runtime, node, path, "rest") for node in NODES)
    return next((found for found in answers if found), {})


def _seen_by(runtime: Runtime, node: str) -> list[dict[str, Any]]:
    members = _json(runtime, node, "/cluster", "rest").get("members")
    return [one for one in members or () if isinstance(one, dict)]


def _lag(member: dict[str, Any]) -> float:
    lag = member.get("lag")
    return float(lag) if isinstance(lag, int | float) else 0.0


def _json(runtime: Runtime, service: str, path: str, port: str = "http") -> dict[str, Any]:
    try:
        answer = httpx.get(f"http://{runtime.address(service, port)}{path}", timeout=ASK_S)
        found = answer.json()
    except (httpx.HTTPError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
