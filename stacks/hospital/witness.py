"""The third vote: Patroni's Raft member in a cupboard of room C, so that two rooms can decide.

It refuses to hold patient data: it keeps only who is primary, and runs no PostgreSQL.
"""

from __future__ import annotations

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from stacks.hospital import bugs, raft_links, settings
from stacks.hospital.database_place import raft_peers as peers_of
from stacks.hospital.patroni_config import LOOP_WAIT_S, RETRY_S, TTL_S, log_section, raft_section
from stacks.hospital.ports import PortTaken, refuse_taken

SOCKET_WAIT_S = 5.0
EXIT_UNAVAILABLE = 69


def main() -> None:
    """Vote until SIGTERM."""
    own = settings.read_or_exit()
    bugs.active()
    try:
        peers, bind = peers_of(own), own.bind("raft")
        http = own.bind("http") if "BIND_HTTP" in own.environment else None
        refuse_taken(*([bind, http] if http else [bind]))
    except settings.SettingsError as error:
        settings.usage_exit(str(error))
    except PortTaken as error:
        print(f"{own.name}: {error}", file=sys.stderr, flush=True)
        raise SystemExit(EXIT_UNAVAILABLE) from None
    raft_links.route(peers)
    raft_links.quicken()
    (own.data_dir / "raft").mkdir(exist_ok=True)
    timers = {"ttl": TTL_S, "loop_wait": LOOP_WAIT_S, "retry_timeout": RETRY_S}
    config = own.data_dir / "raft.yml"
    raft = raft_section(bind, peers, own.data_dir / "raft") | timers
    config.write_text(
        json.dumps(
            {"scope": "ehr-db", "name": own.name, "log": log_section(own.name), "raft": raft},
            indent=1,
        )
        + "\n"
    )
    _vote(config, own.name, http)


def _vote(config: Path, name: str, http: settings.Address | None) -> None:
    # Late, and after raft_links: that undoes what importing pysyncobj does to `socket`.
    from patroni.daemon import abstract_main
    from patroni.raft_controller import RaftController

    def controller(*arguments: Any) -> RaftController:
        made = RaftController(*arguments)
        if http is not None:
            _serve_health(http, name, made)
        return made

    abstract_main(controller, str(config))


def health(name: str, leader: str | None) -> tuple[int, dict[str, Any]]:
    """HTTP status and body: ready when a majority of the three votes has agreed on a leader."""
    found = leader is not None
    check: dict[str, Any] = {"ok": found}
    if not found:
        check["reason"] = "no raft leader: fewer than two of the three members reach each other"
    body = {"status": "ready" if found else "starting", "service": name, "checks": {"raft": check}}
    return (200 if found else 503), body


def _serve_health(bind: settings.Address, name: str, controller: Any) -> None:
    class Health(BaseHTTPRequestHandler):
        timeout = SOCKET_WAIT_S

        def do_GET(self) -> None:
            leader = controller._raft._getLeader()
            status, body = health(name, str(leader) if leader is not None else None)
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
