"""What Patroni and PostgreSQL are told, as pure functions of a node's Settings.

It refuses to start anything: the launcher writes the text and starts the programs.

Durability. `synchronous_mode`: a commit is acknowledged when it is flushed on both nodes, and
only a node named in Patroni's /sync key may be promoted, so an acknowledged write survives the
loss of either node. When the standby is lost, commits wait (at most wal_sender_timeout plus two
of Patroni's rounds, about 8 s) until Patroni has first taken the standby off /sync and then
dropped the requirement; from then until the standby has caught up again there is one copy only.
In that window the standby is not promoted: a second failure costs availability, and data only
if the remaining disk is lost too. `synchronous_mode_strict` would refuse writes instead.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stacks.hospital import postgres
from stacks.hospital.database_place import Node
from stacks.hospital.settings import Address

TTL_S = 20  # the floor that Patroni accepts: how long a dead primary keeps the leader's lock
LOOP_WAIT_S = 1
RETRY_S = 5  # Patroni wants loop_wait + 2 x retry_timeout <= ttl
PRIMARY_STOP_S = 4
STREAM_DEAD_S = 5
ANY_LAG = 1 << 40
CLONE = "stacks.hospital.template_clone"


@dataclass(frozen=True, slots=True)
class Defects:
    """Which planted defects this node was started with."""

    asynchronous: bool = False
    no_failover: bool = False
    unfenced: bool = False
    any_lag: bool = False


def raft_section(
    own: Address, peers: Mapping[str, tuple[Address, Address]], folder: Path
) -> dict[str, Any]:
    """The `raft` section, the same for database nodes and witness."""
    return {
        "self_addr": str(own),
        "bind_addr": str(own),
        "partner_addrs": sorted(str(identity) for identity, _ in peers.values()),
        "data_dir": str(folder),
    }


def log_section(service: str) -> dict[str, Any]:
    """Structured lines on stderr, in the shape of stacks/hospital/log.py."""
    return {
        "type": "json",
        "format": [
            {"asctime": "ts"},
            {"created": "epoch_s"},
            {"levelname": "level"},
            {"message": "event"},
        ],
        "dateformat": "%Y-%m-%dT%H:%M:%S%z",
        "static_fields": {"service": service},
        "traceback_level": "DEBUG",  # a refused connection is one line, not a traceback
        "loggers": {"urllib3.connectionpool": "ERROR"},
    }


def patroni_config(
    node: Node, defects: Defects, votes: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Patroni's configuration for this node (Patroni reads YAML, of which JSON is a part).

    `votes` names the store that decides who is primary; without it that is Patroni's own Raft.
    """
    if votes is None:
        votes = {"raft": raft_section(node.raft, node.raft_peers, node.data_dir / "raft")}
    config: dict[str, Any] = {
        "scope": "ehr-db",
        "name": node.name,
        "log": log_section(node.name),
        "restapi": {"listen": str(node.rest), "connect_address": str(node.advertised_rest)},
        **votes,
        "watchdog": {"mode": "off"},
        "postgresql": _postgresql(node),
        "tags": {"nofailover": defects.no_failover and not node.first},
    }
    if node.first:
        # Without this section a node never initialises a cluster: it waits for a leader to clone.
        config["bootstrap"] = {"dcs": _cluster_wide(defects)}
        config["postgresql"]["bin_name"] = {"initdb": str(node.initdb)}
    return config


def _postgresql(node: Node) -> dict[str, Any]:
    def account(of: postgres.Account) -> dict[str, str]:
        return {"username": of.name, "password": of.password}

    return {
        "listen": str(node.listen),
        "connect_address": str(node.advertised_postgres),
        "data_dir": str(node.pgdata),
        "bin_dir": str(node.binaries),
        "pgpass": str(node.data_dir / "pgpass"),
        "use_unix_socket": node.socket_dir is not None,
        "use_unix_socket_repl": node.socket_dir is not None,
        "authentication": {
            "superuser": account(postgres.SUPERUSER),
            "replication": account(postgres.REPLICATION),
        },
        "parameters": {
            "unix_socket_directories": str(node.socket_dir or ""),
            "unix_socket_permissions": "0700",
        },
        "pg_hba": [
            "local all all scram-sha-256",
            "local replication all scram-sha-256",
            "host all all all scram-sha-256",
            "host replication all all scram-sha-256",
        ],
        "create_replica_methods": ["template", "basebackup"],
        "template": {"command": shlex.join([sys.executable, "-m", CLONE])},
        "basebackup": ["no-sync", {"checkpoint": "fast"}],
        # When rewinding is impossible the node is cloned anew: a second at this size.
        "remove_data_directory_on_rewind_failure": True,
        "remove_data_directory_on_diverged_timelines": True,
    }


def _cluster_wide(defects: Defects) -> dict[str, Any]:
    parameters: dict[str, Any] = {
        "max_connections": 60,
        "shared_buffers": "24MB",
        "huge_pages": "off",
        "dynamic_shared_memory_type": "mmap",  # under the data folder, not in a shared /dev/shm
        "io_method": "sync",  # no I/O worker processes for a database of a few megabytes
        "fsync": "on",
        "synchronous_commit": "on",
        "wal_log_hints": "on",
        "wal_keep_size": "64MB",
        "max_slot_wal_keep_size": "512MB",
        "min_wal_size": "32MB",
        "max_wal_size": "256MB",
        "max_wal_senders": 6,
        "max_replication_slots": 6,
        "max_worker_processes": 4,
        "max_parallel_workers_per_gather": 0,
        "jit": "off",
        "hot_standby_feedback": "on",
        # A paused peer keeps its connections open; these say how long it may stay silent.
        "wal_sender_timeout": f"{STREAM_DEAD_S}s",
        "wal_receiver_timeout": f"{STREAM_DEAD_S}s",
        "wal_receiver_status_interval": "1s",
        "wal_retrieve_retry_interval": "500ms",
        "tcp_keepalives_idle": 5,
        "tcp_keepalives_interval": 2,
        "tcp_keepalives_count": 3,
        "logging_collector": "off",
        "log_line_prefix": "%m [%p] ",
        "log_checkpoints": "off",
    }
    synchronous = not (defects.asynchronous or defects.unfenced)
    if defects.asynchronous:
        # "It is replicated, what can be lost?" Everything that neither disk nor network has seen
        # yet: the commit answers from memory, and the log leaves it some seconds later.
        parameters |= {"synchronous_commit": "off", "wal_writer_delay": "3s"}
    return {
        "ttl": TTL_S,
        "loop_wait": LOOP_WAIT_S,
        "retry_timeout": RETRY_S,
        "maximum_lag_on_failover": ANY_LAG if defects.any_lag else 1 << 20,
        "check_timeline": True,
        "synchronous_mode": synchronous,
        "synchronous_mode_strict": False,
        "primary_start_timeout": 0,  # a crashed primary hands over at once instead of recovering
        "primary_stop_timeout": PRIMARY_STOP_S,
        "postgresql": {"use_pg_rewind": True, "use_slots": True, "parameters": parameters},
    }
