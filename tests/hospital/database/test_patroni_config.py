"""What a database node derives from its environment, and what it tells Patroni."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stacks.hospital import postgres, settings
from stacks.hospital.database_place import Node, node
from stacks.hospital.patroni_config import Defects, patroni_config

BINARIES = Path("/opt/pg/bin")


def environment(name: str, folder: Path, standby: bool = True) -> dict[str, str]:
    me, other = ("A", "B") if name == "ehr-db-a" else ("B", "A")
    own = {
        "SERVICE_NAME": name,
        "SERVICE_ROOM": me,
        "DATA_DIR": str(folder),
        "BIND_POSTGRES": "127.0.0.1:1000",
        "BIND_REST": "127.0.0.1:1001",
        "BIND_RAFT": "127.0.0.1:1002",
        "TARGET_EHR_DB_WITNESS_RAFT": "127.0.0.1:3002",
        "LINK_EHR_DB_WITNESS_RAFT": "127.0.0.1:9302",
        "FRONT_EHR_DB_WITNESS_RAFT": "127.0.0.1:9303",
    }
    if standby:
        own |= {
            f"TARGET_EHR_DB_{other}_RAFT": "127.0.0.1:2002",
            f"LINK_EHR_DB_{other}_RAFT": "127.0.0.1:9202",
            f"FRONT_EHR_DB_{other}_POSTGRES": "127.0.0.1:9100",
            f"FRONT_EHR_DB_{other}_REST": "127.0.0.1:9101",
        }
    return own


def place(name: str, folder: Path, standby: bool = True) -> Node:
    return node(settings.read(environment(name, folder, standby)), BINARIES)


def config(name: str, folder: Path, defects: Defects | None = None) -> dict[str, Any]:
    return patroni_config(place(name, folder), defects or Defects())


def test_a_node_advertises_only_the_addresses_of_its_links(tmp_path: Path) -> None:
    """The other node reaches PostgreSQL and REST through proxies; we listen on our own address."""
    made = config("ehr-db-a", tmp_path)
    assert made["postgresql"]["connect_address"] == "127.0.0.1:9100"
    assert made["restapi"]["connect_address"] == "127.0.0.1:9101"
    assert made["postgresql"]["listen"] == "127.0.0.1:1000"
    assert made["restapi"]["listen"] == "127.0.0.1:1001"


def test_raft_members_are_named_by_their_own_addresses_and_called_by_links(tmp_path: Path) -> None:
    """Identities must be equal on all nodes, so no proxy's address appears among them."""
    found = place("ehr-db-b", tmp_path)
    raft = patroni_config(found, Defects())["raft"]
    assert raft["self_addr"] == "127.0.0.1:1002"
    assert raft["partner_addrs"] == ["127.0.0.1:2002", "127.0.0.1:3002"]
    assert {str(link) for _, link in found.raft_peers.values()} == {
        "127.0.0.1:9202",
        "127.0.0.1:9302",
    }


def test_only_the_first_node_may_initialise_a_cluster(tmp_path: Path) -> None:
    """Two nodes that both initialise would be two hospitals: the second waits and clones."""
    assert "bootstrap" in config("ehr-db-a", tmp_path)
    assert "bootstrap" not in config("ehr-db-b", tmp_path)


def test_a_topology_without_standby_still_has_a_database(tmp_path: Path) -> None:
    """`standby-gone`: the lone node advertises its own address and initialises."""
    lone = place("ehr-db-a", tmp_path, standby=False)
    assert lone.first
    assert lone.other is None
    assert lone.advertised_postgres == lone.listen


def test_synchronous_and_durable_unless_a_defect_is_planted(tmp_path: Path) -> None:
    """fsync is on in every case; only the named defects give up synchronous replication."""
    healthy = config("ehr-db-a", tmp_path)["bootstrap"]["dcs"]
    assert healthy["synchronous_mode"] is True
    assert healthy["postgresql"]["parameters"]["synchronous_commit"] == "on"
    assert healthy["loop_wait"] + 2 * healthy["retry_timeout"] <= healthy["ttl"] == 20
    for defects in (Defects(asynchronous=True), Defects(unfenced=True)):
        planted = config("ehr-db-a", tmp_path, defects)["bootstrap"]["dcs"]
        assert planted["synchronous_mode"] is False
        assert planted["postgresql"]["parameters"]["fsync"] == "on"
    standby = config("ehr-db-b", tmp_path, Defects(no_failover=True))
    assert standby["tags"] == {"nofailover": True}


def test_a_long_data_folder_means_no_unix_socket(tmp_path: Path) -> None:
    """Linux allows 107 bytes: beyond them the node speaks TCP only instead of failing."""
    short = replace(place("ehr-db-a", tmp_path), data_dir=Path("/d/x"))
    assert short.socket_dir == Path("/d/x/s")
    long = replace(short, data_dir=Path("/d") / ("x" * 95))
    made = patroni_config(long, Defects())["postgresql"]
    assert made["use_unix_socket"] is False
    assert made["parameters"]["unix_socket_directories"] == ""


def test_a_missing_address_is_one_clear_error(tmp_path: Path) -> None:
    """The text names the variable that is missing."""
    lacking = environment("ehr-db-a", tmp_path)
    del lacking["BIND_REST"]
    with pytest.raises(settings.SettingsError, match="BIND_REST"):
        node(settings.read(lacking), BINARIES)


def test_a_connection_string_names_every_node_in_order() -> None:
    """libpq tries the hosts in the order given."""
    text = postgres.dsn(("h1", 1), ("h2", 2), target_session_attrs="read-write")
    assert "host=h1,h2 port=1,2" in text
    assert "target_session_attrs=read-write" in text
