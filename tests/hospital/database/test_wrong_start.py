"""A wrong start of a database node or witness is one clear line and an exit status."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from stacks.hospital import database, step_down

from .pair import MODULES, WITNESS, A, Pair

START_S = 15.0


def start(pair: Pair, service: str, **changed: str) -> tuple[int, list[str]]:
    """Exit status and stderr of a start that should fail."""
    data = pair.folder / service
    data.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-m", f"stacks.hospital.{MODULES[service]}"], cwd=data,
        env={**pair.environment(service), **changed}, capture_output=True, text=True,
        timeout=START_S, check=False,
    )  # fmt: skip
    return done.returncode, done.stderr.strip().splitlines()


@pytest.mark.parametrize("service", [A, WITNESS])
def test_a_missing_address_or_unknown_defect_is_a_usage_error(tmp_path: Path, service: str) -> None:
    """Status 64 and one line that names the variable."""
    status, lines = start(Pair(tmp_path / "1", tmp_path), service, BIND_RAFT="")
    assert (status, len(lines)) == (64, 1)
    assert "BIND_RAFT" in lines[0]
    status, lines = start(Pair(tmp_path / "2", tmp_path), service, HOSPITAL_BUG="no-such-defect")
    assert (status, len(lines)) == (64, 1)
    assert "no-such-defect" in lines[0]


@pytest.mark.parametrize(("service", "port"), [(A, "rest"), (A, "postgres"), (WITNESS, "raft")])
def test_a_taken_port_is_named(tmp_path: Path, service: str, port: str) -> None:
    """Status 69 and one line with the address, instead of Patroni's traceback or a hang."""
    pair = Pair(tmp_path / "p", tmp_path)
    with socket.create_server(pair.addresses[service, port]):
        status, lines = start(pair, service)
    assert (status, len(lines)) == (69, 1)
    assert "address already in use" in lines[0]
    assert str(pair.addresses[service, port][1]) in lines[0]


@pytest.mark.parametrize("service", [A, WITNESS])
def test_votes_that_the_disk_refuses_to_read_are_named(tmp_path: Path, service: str) -> None:
    """Status 69 and one line with the Raft journal, instead of a traceback."""
    pair = Pair(tmp_path / "p", tmp_path)
    unreadable = pair.folder / service / "raft" / "votes.journal"
    unreadable.mkdir(parents=True)  # no read of a folder succeeds, not even root's
    status, lines = start(pair, service)
    assert status == 69
    assert [line for line in lines if str(unreadable) in line] == lines[-1:]
    assert not any("Traceback" in line for line in lines)


@pytest.mark.parametrize("service", [A, WITNESS])
def test_a_machine_without_etcd_is_told_what_to_install(tmp_path: Path, service: str) -> None:
    """HOSPITAL_DCS=etcd where no etcd is on the PATH: status 69 and one line with the package."""
    pair = Pair(tmp_path / "p", tmp_path, votes="etcd")
    status, lines = start(pair, service, PATH="/nowhere")
    assert (status, len(lines)) == (69, 1)
    assert "etcd-server" in lines[0]


def test_an_unknown_store_of_votes_is_a_usage_error(tmp_path: Path) -> None:
    """HOSPITAL_DCS=consul: status 64 and one line with the choices."""
    status, lines = start(Pair(tmp_path / "p", tmp_path, votes="consul"), WITNESS)
    assert (status, len(lines)) == (64, 1)
    assert "raft and etcd" in lines[0]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root must step down")
def test_root_that_may_not_step_down_is_told_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """PostgreSQL refuses root: where the kernel refuses, too, the node names the remedy."""
    pair = Pair(tmp_path / "p", tmp_path)
    (pair.folder / A).mkdir(parents=True)
    monkeypatch.setattr(os, "environ", dict(pair.environment(A)))
    monkeypatch.setattr(step_down, "CLONE_NEWUSER", 0x1)  # a flag that unshare does not know
    with pytest.raises(SystemExit) as ended:
        database.main()
    assert ended.value.code == 69
    assert "start as another user" in capsys.readouterr().err
