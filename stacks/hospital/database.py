"""One node of the record's database: PostgreSQL under Patroni, primary or synchronous standby.

It refuses to decide who is primary (Patroni does, with its peers' votes) and to run PostgreSQL
as root: there it first steps into a user namespace of its own, which needs no chown.

Ports: `postgres`, `rest` (Patroni: /primary, /replica, /synchronous, /cluster, /health) and
`raft`. What holds when a node is lost: see patroni_config.py.
"""

from __future__ import annotations

import functools
import json
import os
import sys
from typing import Any, NoReturn

import yaml  # type: ignore[import-untyped]

from stacks.hospital import bugs, postgres, settings
from stacks.hospital.cluster_template import TemplateFailure, ready_template, write_initdb
from stacks.hospital.database_place import Node, node
from stacks.hospital.log import Log
from stacks.hospital.patroni_config import Defects, patroni_config
from stacks.hospital.ports import PortTaken, refuse_taken
from stacks.hospital.step_down import Refused, step_down

EXIT_UNAVAILABLE = 69
START_POLL_S = 0.1

# Patroni reads a thousand lines of YAML at import, and its child that starts PostgreSQL imports it
# again (and this module first): the parser in C saves 0.15 s each time.
yaml.SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def main() -> None:
    """Run this node until SIGTERM (a primary then hands over first) or SIGKILL."""
    own = settings.read_or_exit()
    log = Log(own.name)
    bugs.active()
    try:
        if os.geteuid() == 0:
            step_down()
        place = node(own, postgres.binaries())
        refuse_taken(place.rest, place.raft)
        if not (place.pgdata / "postmaster.pid").exists():
            refuse_taken(place.listen)  # else our own may run still, and Patroni adopts it
        _prepare(place, own)
    except settings.SettingsError as error:
        settings.usage_exit(str(error))
    except (Refused, postgres.PostgresMissing, PortTaken, TemplateFailure, OSError) as error:
        _give_up(f"{own.name}: {error}")
    defects = Defects(
        asynchronous=bugs.planted("asynchronous-standby"),
        no_failover=bugs.planted("no-failover"),
        unfenced=bugs.planted("stale-primary-writable"),
    )
    config = place.data_dir / "patroni.yml"
    config.write_text(json.dumps(patroni_config(place, defects), indent=1) + "\n")
    log.info("starting", room=own.room, first=place.first, postgres=str(place.listen))
    _run_patroni(place, str(config), defects)


def _give_up(line: str) -> NoReturn:
    print(line, file=sys.stderr, flush=True)
    raise SystemExit(EXIT_UNAVAILABLE)


def _prepare(place: Node, own: settings.Settings) -> None:
    """Folders, and for the first start of the first node the template that it begins from."""
    (place.data_dir / "raft").mkdir(exist_ok=True)
    if place.socket_dir is not None:
        place.socket_dir.mkdir(mode=0o700, exist_ok=True)
    if place.first and not place.pgdata.exists():
        template = ready_template(own.template, place.data_dir / "template")
        write_initdb(place.initdb, template, place.pgdata)


def _run_patroni(place: Node, config: str, defects: Defects) -> None:
    # Imported late: by now we are no longer root, and a refusal above costs no start-up time.
    import patroni.postgresql
    from patroni.__main__ import main as patroni_main

    from stacks.hospital import raft_links

    raft_links.route(place.raft_peers)
    raft_links.quicken()
    # Patroni looks once a second whether PostgreSQL is up; here it is up in a quarter of one.
    patroni.postgresql.polling_loop = functools.partial(
        patroni.postgresql.polling_loop, interval=START_POLL_S
    )
    if defects.unfenced:
        _take_off_the_fence()
    sys.argv = ["patroni", config]
    patroni_main()


def _take_off_the_fence() -> None:
    """The defect `stale-primary-writable`: losing the lock does not stop a primary."""
    from patroni.ha import Ha

    fenced = Ha.demote

    def demote(self: Any, mode: str) -> bool | None:
        if mode in ("immediate-nolock", "offline"):
            return None
        outcome: bool | None = fenced(self, mode)
        return outcome

    Ha.demote = demote


if __name__ == "__main__":
    main()
