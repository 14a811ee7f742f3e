"""What the incident system wrote into its log, what the record's own check found, and the lag.

It refuses to believe the incident system's clock alone: every entry is a sample at the instant at
which it was seen, with the instant that the entry itself gives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import httpx

from stacks.hospital.backlog import DATABASES
from stacks.hospital.channel_watch import Sampler
from stacks.hospital.clock import monotonic_of, offset_s
from stacks.hospital.traffic.config import Config

ASK_S = 1.0
LOG_EVERY_S, LAG_EVERY_S = 0.5, 1.0
INCIDENT = "incident"
RECORD, VAULT = ("ehr-a", "ehr-b"), "backup"


def incident_looks(
    config: Config, sample: Sampler
) -> Iterator[tuple[str, float, Callable[[], None]]]:  # fmt: skip
    """(name, seconds between two looks, look); nothing where no incident system stands."""
    if config.service(INCIDENT, "http") is None:
        return
    yield "incident", LOG_EVERY_S, IncidentWatch(_client(config, INCIDENT), sample).look
    for node in (*RECORD, VAULT):
        if config.service(node, "http") is not None:
            yield f"integrity-{node}", LAG_EVERY_S, _integrity(node, _client(config, node), sample)
    for node in DATABASES:
        if config.service(node, "rest") is not None:
            client = _client(config, node, "rest")
            yield f"lag-{node}", LAG_EVERY_S, _lag(node, client, sample)


class IncidentWatch:
    """Follows the log; sample `incident.<what>`: subject = services or kinds of messages, value =
    the entry's own instant, text = why (for a notice: the estimate's instant, then its words)."""

    def __init__(self, client: httpx.Client, sample: Sampler) -> None:
        self._client, self._sample, self._seq = client, sample, 0

    def look(self) -> None:
        """One look at everything new."""
        found = _json(self._client, f"/log?after={self._seq}")
        lines = found.get("entries") if isinstance(found, dict) else None
        if not isinstance(lines, list):
            self._sample("incident.poll", INCIDENT, 0.0, str(found)[:100], ok=False)
            return
        offset = offset_s()  # one for all: what was declared and told at once stays in its order
        for line in lines:
            self._seq = int(line["seq"])
            self._sample(*_sampled(line, offset))
        self._sample("incident.poll", INCIDENT, float(self._seq))


def _sampled(line: dict[str, Any], offset: float) -> tuple[str, str, float, str]:
    what = str(line["what"])
    subject = " ".join(line.get("services") or line.get("kinds") or [INCIDENT])
    text = str(line.get("text") or "")
    if what in ("declared", "announced"):
        kinds = " ".join(line.get("kinds") or [])
        text = f"{kinds} by {line.get('by')}: {text}"
    elif what == "notice":
        text = f"{monotonic_of(line.get('eta'), offset) or 0.0:.3f} {text}"
    elif line.get("because"):
        text = "; ".join(str(one) for one in line["because"])
    return f"incident.{what}", subject, monotonic_of(line.get("at"), offset) or 0.0, text[:300]


def _integrity(node: str, client: httpx.Client, sample: Sampler) -> Callable[[], None]:
    """Every finding once: value = when the check began, text = what it found."""
    known = 0.0

    def look() -> None:
        nonlocal known
        found = _json(client, "/integrity")
        if not isinstance(found, dict):
            return
        began = found.get("began_at") or found.get("checked_at")  # the record's word, the vault's
        if not began or began == known:
            return
        known = float(began)
        troubles = [
            *(found.get("troubles") or ()), *(found.get("damages") or ()),
            *(found.get("unread") or ()),
        ]  # fmt: skip
        looked = found.get("nodes") or found.get("looked") or {}
        text = ", ".join([f"{found.get('rows', '')} rows", *looked]) + "".join(
            f"; {one}" for one in troubles[:3]
        )
        ok = found.get("ok") is True or found.get("status") == "ok"
        sample("integrity", node, monotonic_of(known) or 0.0, text[:300], ok=ok)

    return look


def _lag(node: str, client: httpx.Client, sample: Sampler) -> Callable[[], None]:
    """What a database node says of the others' lag: value in bytes."""

    def look() -> None:
        found = _json(client, "/cluster")
        members = found.get("members") if isinstance(found, dict) else None
        lags = [
            one.get("lag") for one in members or ()
            if one.get("role") not in ("leader", "primary")
        ]  # fmt: skip
        known = [float(lag) for lag in lags if isinstance(lag, int | float)]
        if known and len(known) == len(lags):
            sample("replication.lag", node, max(known))
        else:
            sample("replication.lag", node, 0.0, f"{len(lags)} others: {lags}"[:100], ok=False)

    return look


def _client(config: Config, service: str, port: str = "http") -> httpx.Client:
    address = config.service(service, port)
    return httpx.Client(base_url=f"http://{address}", timeout=ASK_S)


def _json(client: httpx.Client, path: str) -> dict[str, Any] | str:
    """The JSON object of a 200, else why there is none."""
    try:
        answer = client.get(path)
        found = answer.json()
    except (httpx.HTTPError, ValueError) as error:
        return str(error).splitlines()[0] if str(error) else type(error).__name__
    if answer.status_code != 200 or not isinstance(found, dict):
        return f"answers {answer.status_code}"
    return found
