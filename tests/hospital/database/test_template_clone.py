"""A standby made from the template: only where sound, and then equal to the primary."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest

from stacks.hospital import postgres
from stacks.hospital.template_clone import KEPT_BYTES, Unsound, check, log_position

from .pair import A, B, Pair, until

CONTROL = """\
Database system identifier:           7575
Database cluster state:               shut down
Latest checkpoint location:           0/1000028
Latest checkpoint's TimeLineID:       1
"""


def test_a_young_primary_of_the_same_template_may_be_cloned_from_it() -> None:
    """Same system, same timeline, all log still there."""
    check(CONTROL, "7575|1|0/1400050|")
    check(CONTROL, "7575|1|0/1000028|")


@pytest.mark.parametrize(
    "primary",
    [
        "7576|1|0/1400050|",  # another cluster
        "7575|2|0/1400050|",  # there was a failover since
        "7575|1|1/0|",  # its log may be recycled
        "7575|1|0/1000000|",  # older than the template: not possible, so not understood
    ],
)
def test_any_doubt_means_a_base_backup(primary: str) -> None:
    """A clone that could miss a part of the log is refused."""
    with pytest.raises(Unsound):
        check(CONTROL, primary)
    with pytest.raises(Unsound):
        check(CONTROL.replace("shut down", "in production"), "7575|1|0/1400050|")


def test_log_positions_are_bytes() -> None:
    """The two halves are one 64-bit number; what is taken for kept is less than what is kept."""
    assert log_position("0/1400050") == 0x1400050
    assert log_position("1/0") == 1 << 32
    assert KEPT_BYTES < 64 * 1024 * 1024


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_standby_from_the_template_equals_its_primary(raised: Callable[..., Pair]) -> None:
    """The standby was not copied from the primary, and yet holds every row and no bad page."""
    pair = raised()
    assert "replica has been created using template" in (pair.folder / f"{B}.log").read_text()
    for number in range(50):
        assert pair.write(f"row-{number}")
    until("equal rows", 10, lambda: pair.keys(A) == pair.keys(B))
    assert len(pair.keys(B)) == 50
    catalogue = "SELECT string_agg(relname, ',' ORDER BY relname) FROM pg_class"
    assert pair.query(A, catalogue) == pair.query(B, catalogue)
    pair.started[B].send_signal(signal.SIGTERM)
    pair.started[B].wait(15)
    done = subprocess.run(
        [postgres.binaries() / "pg_checksums", "--check", "-D", pair.folder / B / "pgdata"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert re.search(r"Bad checksums: +0$", done.stdout, re.MULTILINE)


def test_without_a_template_the_clone_says_why(tmp_path: object) -> None:
    """Status 1, one line, and no data directory left behind: Patroni goes on to a base backup."""
    target = f"{tmp_path}/pgdata"
    done = subprocess.run(
        [sys.executable, "-m", "stacks.hospital.template_clone", "--scope=x", "--role=replica",
         f"--datadir={target}", "--connstring=host=127.0.0.1 port=9"],
        env={**os.environ, "STACK_TEMPLATE": f"{tmp_path}/none"}, capture_output=True, text=True,
        timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == "template not used: there is no shared template\n"
    assert not os.path.exists(target)
