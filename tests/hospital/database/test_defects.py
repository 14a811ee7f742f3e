"""Each planted defect of the database really does what its story says."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

import pytest

from .pair import A, B, Pair, until

# Campaigns only: experiments show the same defects (tests/teeth).
pytestmark = [pytest.mark.slow, pytest.mark.campaign, pytest.mark.timeout(180)]
Raise = Callable[..., Pair]


def test_asynchronous_standby_loses_acknowledged_rows(raised: Raise) -> None:
    """Rows acknowledged just before the primary dies are not on the promoted standby."""
    pair = raised("asynchronous-standby", synchronous=False)
    table = "SELECT relname FROM pg_class WHERE relname = 'ledger'"
    until("the table on the standby", 20, lambda: pair.query(B, table))
    keys = {key for n in range(40) if pair.write(key := f"row-{n}")}
    assert len(keys) > 30
    pair.kill(A)
    until("promotion", 25, lambda: pair.is_primary(B))
    assert keys - pair.keys(B)


def test_no_failover_leaves_the_hospital_without_a_database(raised: Raise) -> None:
    """Long after the bound nobody has taken over; the old primary's return ends the outage."""
    pair = raised("no-failover")
    pair.kill(A)
    time.sleep(32)  # the healthy pair has taken over after at most 25
    assert not pair.is_primary(B)
    assert pair.query(B, "SELECT 1") == 1
    pair.start(A)
    until("the old primary again", 40, lambda: pair.is_primary(A))


def test_stale_primary_goes_on_acknowledging(raised: Raise) -> None:
    """After SIGSTOP and SIGCONT two nodes acknowledge rows that the other never sees."""
    pair = raised("stale-primary-writable", synchronous=False)
    pair.signal(A, signal.SIGSTOP)
    until("promotion", 30, lambda: pair.is_primary(B))
    pair.signal(A, signal.SIGCONT)
    time.sleep(5)  # several of Patroni's rounds: enough to fence a primary that can be fenced
    assert pair.write("on-a", A)
    assert pair.write("on-b", B)
    assert "on-a" not in pair.keys(B)
    assert "on-b" not in pair.keys(A)
