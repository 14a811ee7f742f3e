"""The third vote: a member of Raft or etcd in a cupboard of room C, so that two rooms can decide.

It refuses to hold patient data: it keeps only who is primary, and runs no PostgreSQL.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from stacks.hospital import bugs, settings
from stacks.hospital.database_place import Dcs, dcs, raft_peers
from stacks.hospital.etcd_member import EtcdMember, EtcdMissing
from stacks.hospital.log import Log
from stacks.hospital.patroni_config import LOOP_WAIT_S, RETRY_S, TTL_S, log_section, raft_section
from stacks.hospital.ports import PortTaken, refuse_taken

SOCKET_WAIT_S = 5.0
EXIT_UNAVAILABLE = 69


def main() -> None:
    """Vote until SIGTERM."""
    own = settings.read_or_exit()
    bugs.active()
    try:
        votes, bind = dcs(own), own.bind("raft")
        http = own.bind("http") if "BIND_HTTP" in own.environment else None
        refuse_taken(*([bind, http] if http else [bind]))
        if votes == "etcd":
            _vote_in_etcd(EtcdMember(own, Log(own.name)), own.name, http)
        else:
            _vote_in_raft(own, http)
    except settings.SettingsError as error:
        settings.usage_exit(str(error))
    except (PortTaken, EtcdMissing) as error:
        print(f"{own.name}: {error}", file=sys.stderr, flush=True)
        raise SystemExit(EXIT_UNAVAILABLE) from None


def _vote_in_etcd(member: EtcdMember, name: str, http: settings.Address | None) -> None:
    asked_to_end = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: asked_to_end.set())
    with member:
        if http is not None:
            _serve_health(http, name, "etcd", member.has_leader)
        asked_to_end.wait()


def _vote_in_raft(own: settings.Settings, http: settings.Address | None) -> None:
    # First, for it undoes what importing pysyncobj does to `socket`; late, for etcd needs it not.
    from stacks.hospital import raft_links

    bind, peers = own.bind("raft"), raft_peers(own)
    try:
        raft_links.prepare(own.data_dir, peers, Log(own.name))
    except raft_links.VotesUnreadable as error:
        print(f"{own.name}: {error}", file=sys.stderr, flush=True)
        raise SystemExit(EXIT_UNAVAILABLE) from None

    from patroni.daemon import abstract_main
    from patroni.raft_controller import RaftController

    timers = {"ttl": TTL_S, "loop_wait": LOOP_WAIT_S, "retry_timeout": RETRY_S}
    raft = raft_section(bind, peers, own.data_dir / "raft") | timers
    told = {"scope": "ehr-db", "name": own.name, "log": log_section(own.name), "raft": raft}
    config = own.data_dir / "raft.yml"
    config.write_text(json.dumps(told, indent=1) + "\n")

    def controller(*arguments: Any) -> RaftController:
        made = RaftController(*arguments)
        if http is not None:
            _serve_health(http, own.name, "raft", lambda: made._raft._getLeader() is not None)
        return made

    with raft_links.voting(own.data_dir):
        abstract_main(controller, str(config))


def health(name: str, votes: Dcs, agreed: bool) -> tuple[int, dict[str, Any]]:
    """HTTP status and body: ready when a majority of the three votes has agreed on a leader."""
    check: dict[str, Any] = {"ok": agreed}
    if not agreed:
        check["reason"] = f"no {votes} leader: fewer than two of the three members reach each other"
    body = {"status": "ready" if agreed else "starting", "service": name, "checks": {votes: check}}
    return (200 if agreed else 503), body


def _serve_health(
    bind: settings.Address, name: str, votes: Dcs, has_leader: Callable[[], bool]
) -> None:
    class Health(BaseHTTPRequestHandler):
        timeout = SOCKET_WAIT_S

        def do_GET(self) -> None:
            status, body = health(name, votes, has_leader())
            if self.path != "/health":
                status, body = 404, {"error": f"{self.path} is not here; ask /health"}
            payload = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        def log_message(self, *_: Any) -> None:
            """Probes come every second: nothing worth a line."""

    server = ThreadingHTTPServer(bind, Health)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="health", daemon=True).start()


if __name__ == "__main__":
    main()
