"""One node of the record's database: PostgreSQL under Patroni, primary or synchronous standby.

It refuses to decide who is primary (Patroni does, with its peers' votes) and to run PostgreSQL
as root: there it first steps into a user namespace of its own, which needs no chown.

Ports: `postgres`, `rest` (Patroni: /primary, /replica, /synchronous, /cluster, /health) and
`raft` (the votes: Patroni's own Raft, or etcd where HOSPITAL_DCS says so). What holds when a node
is lost: see patroni_config.py.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import sys
from typing import Any, NoReturn

import yaml  # type: ignore[import-untyped]

from stacks.hospital import bugs, postgres, settings
from stacks.hospital.cluster_template import TemplateFailure, ready_template, write_initdb
from stacks.hospital.database_place import Node, dcs, node, voters
from stacks.hospital.etcd import patroni_section
from stacks.hospital.etcd_member import EtcdMember, EtcdMissing
from stacks.hospital.log import Log
from stacks.hospital.patroni_config import Defects, patroni_config
from stacks.hospital.ports import PortTaken, refuse_taken
from stacks.hospital.stale_locks import free_stale_locks
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
        member = EtcdMember(own, log, voters(place)) if dcs(own) == "etcd" else None
        refuse_taken(place.rest, place.raft)
        for lock in free_stale_locks(place.pgdata, place.socket_dir):
            log.info("freed the lock of a server that is gone", lock=str(lock))
        if not (place.pgdata / "postmaster.pid").exists():
            refuse_taken(place.listen)  # else our own may run still, and Patroni adopts it
    except settings.SettingsError as error:
        settings.usage_exit(str(error))
    except (Refused, postgres.PostgresMissing, PortTaken, EtcdMissing, OSError) as error:
        _give_up(f"{own.name}: {error}")
    with member or contextlib.nullcontext():
        _serve(own, place, member, log)


def _serve(own: settings.Settings, place: Node, member: EtcdMember | None, log: Log) -> None:
    """Prepare while the members of etcd find each other, then be a database node."""
    try:
        _prepare(place, own)
    except (TemplateFailure, OSError) as error:
        _give_up(f"{own.name}: {error}")
    defects = Defects(
        asynchronous=bugs.planted("asynchronous-standby")
        or bugs.planted("failover-loss-unreported"),
        no_failover=bugs.planted("no-failover"),
        unfenced=bugs.planted("stale-primary-writable"),
        any_lag=bugs.planted("failback-while-behind"),
    )
    config = place.data_dir / "patroni.yml"
    votes = {"etcd3": patroni_section(member.client)} if member else None
    try:
        config.write_text(json.dumps(patroni_config(place, defects, votes), indent=1) + "\n")
    except OSError as error:
        _give_up(f"{own.name}: {error}")
    log.info("starting", room=own.room, first=place.first, postgres=str(place.listen))
    _run_patroni(place, str(config), defects, member, log)


def _give_up(line: str) -> NoReturn:
    print(line, file=sys.stderr, flush=True)
    raise SystemExit(EXIT_UNAVAILABLE)


def _prepare(place: Node, own: settings.Settings) -> None:
    """Folders, and for the first start of the first node the template that it begins from."""
    if place.socket_dir is not None:
        place.socket_dir.mkdir(mode=0o700, exist_ok=True)
    if place.first and not place.pgdata.exists():
        template = ready_template(own.template, place.data_dir / "template")
        write_initdb(place.initdb, template, place.pgdata)


def _run_patroni(
    place: Node, config: str, defects: Defects, member: EtcdMember | None, log: Log
) -> None:
    # Imported late: by now we are no longer root, and a refusal above costs no start-up time.
    import patroni.postgresql
    from patroni.__main__ import main as patroni_main

    work: contextlib.AbstractContextManager[object] = contextlib.nullcontext()
    if member is None:
        from stacks.hospital import raft_links

        try:
            raft_links.prepare(place.data_dir, place.raft_peers, log)
        except raft_links.VotesUnreadable as error:
            _give_up(f"{place.name}: {error}")
        work = raft_links.voting(place.data_dir)
    # Patroni looks once a second whether PostgreSQL is up; here it is up in a quarter of one.
    patroni.postgresql.polling_loop = functools.partial(
        patroni.postgresql.polling_loop, interval=START_POLL_S
    )
    if defects.unfenced:
        _take_off_the_fence()
    if member is not None:
        member.await_quorum()
    sys.argv = ["patroni", config]
    with work:
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
