"""`python -m chaos.toxiproxy`: runs the embedded server; prints one JSON line when it listens.

    {"api": "127.0.0.1:8474", "version": "2.12.0", "pid": 4711}

Exit codes: 0 after SIGTERM or SIGINT, 1 cannot listen, 64 bad arguments or config file.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import NoReturn

from chaos.toxiproxy.server import EXIT_USAGE, Server, Settings, StartError


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_USAGE, f"toxiproxy: {message}; see --help\n")


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65_535:
        raise ValueError
    return port


_port.__name__ = "port (0 to 65535)"


def _settings(arguments: list[str] | None) -> Settings:
    parser = _Parser(prog="python -m chaos.toxiproxy", description="A Toxiproxy-API server.")
    parser.add_argument("--host", default="127.0.0.1", help="where the API listens")
    parser.add_argument("--port", type=_port, default=8474, help="0 takes a free port")
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="proxies, as for POST /populate"
    )
    parser.add_argument("--proxy-metrics", action="store_true", help="byte counters on /metrics")
    parser.add_argument("--runtime-metrics", action="store_true", help="process on /metrics")
    parser.add_argument(
        "--allow-all-interfaces", action="store_true", help="let 0.0.0.0 and [::] be listened on"
    )
    parser.add_argument("--seed", type=int, help="of toxicity, jitter and slices")
    said = parser.parse_args(arguments)
    return Settings(
        host=said.host,
        port=said.port,
        config=said.config,
        proxy_metrics=said.proxy_metrics,
        runtime_metrics=said.runtime_metrics,
        all_interfaces=said.allow_all_interfaces,
        seed=said.seed,
    )


def main(arguments: list[str] | None = None) -> int:
    """Run the server; returns the exit code."""
    settings = _settings(arguments)
    try:
        server = Server(settings)
    except StartError as error:
        print(f"toxiproxy: {error}", file=sys.stderr)
        return error.code
    except OSError as error:
        print(f"toxiproxy: cannot start: {error}", file=sys.stderr)
        return 1
    server.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
