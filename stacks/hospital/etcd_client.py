"""Asks a service's own etcd member: is there a leader, who is it, let another one lead.

It refuses to raise: a member that does not answer in time, or with anything unexpected, has no
answer (an empty one), and whoever asked asks again.
"""

from __future__ import annotations

import contextlib
import http.client
import json
from collections.abc import Collection
from typing import Any

from stacks.hospital.settings import Address

ASK_S = 1.5
SPEAKS = (3, 4)
"""The cluster version from which on etcd serves Patroni's calls under /v3."""


def has_leader(client: Address) -> bool:
    """Whether this member knows a leader that a majority follows; takes ASK_S at most."""
    return _asked(client, "/health").get("health") == "true"


def serves_patroni(client: Address) -> bool:
    """Whether there is a leader and the members have agreed on a version that Patroni can use."""
    if not has_leader(client):
        return False
    text = str(_asked(client, "/version").get("etcdcluster", ""))
    return tuple(int(part) for part in text.split(".") if part.isdecimal()) >= SPEAKS


def leads(client: Address) -> bool:
    """Whether this member itself is the leader."""
    status = _asked(client, "/v3/maintenance/status", {})
    me = _object(status.get("header")).get("member_id")
    return me is not None and status.get("leader") == me


def hand_over(client: Address, rather: Collection[str]) -> str | None:
    """If this member leads, let one of the members named in `rather` lead; who does now."""
    if not leads(client):
        return None
    members = _asked(client, "/v3/cluster/member/list", {}).get("members")
    for member in members if isinstance(members, list) else []:
        found = _object(member)
        if found.get("name") in rather:
            there = {"targetID": found.get("ID")}
            if "header" in _asked(client, "/v3/maintenance/transfer-leadership", there):
                return str(found["name"])
    return None


def _object(found: Any) -> dict[str, Any]:
    return found if isinstance(found, dict) else {}


def _asked(client: Address, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """The JSON object that etcd answers (with a body: to a POST), or an empty one."""
    asking = http.client.HTTPConnection(client.host, client.port, timeout=ASK_S)
    with contextlib.closing(asking):
        try:
            if body is None:
                asking.request("GET", path)
            else:
                asking.request("POST", path, json.dumps(body).encode())
            return _object(json.loads(asking.getresponse().read()))
        except (OSError, http.client.HTTPException, ValueError):
            return {}
