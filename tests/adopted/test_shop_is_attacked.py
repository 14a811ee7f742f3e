"""A project written by hand, raised by Compose, attacked through its opt-in labels and healed."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chaos.journal.events import FaultGone, FaultSeen
from chaos.journal.history import History
from chaos.runtime import engine
from tests.adopted.project import HERE, Shop, ask, running
from tests.conditions import repeated, until

pytestmark = [pytest.mark.docker, pytest.mark.timeout(900)]

ROOT = Path(__file__).resolve().parents[2]
EVERY = ("front", "store", "books")
HEALED_S = 10.0  # everything is as before so soon after the harness was killed
FRONT_MS, STORE_MS = 100, 300  # as shop-store-slow orders
KILLS = 6


@pytest.fixture(autouse=True, scope="module")
def _engine() -> None:
    if why := engine.missing():
        pytest.skip(why)


@pytest.fixture(scope="module")
def shop() -> Iterator[Shop]:
    """A shop that forgets prices."""
    with running() as made:
        yield made


class Harness:
    """The command line on one shop, with a state folder of its own."""

    def __init__(self, shop: Shop, folder: Path, **env: str) -> None:
        self.shop, self.out = shop, folder / "out"
        self.env = {**os.environ, **shop.env, **env, "HOSPITAL_CHAOS_STATE": str(folder / "state")}

    def words(self, *words: str) -> list[str]:
        return [
            sys.executable, "-c", "from chaos.cli import main; main()", *words,
            "--experiments", str(HERE),
        ]  # fmt: skip

    def ask(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.words(*words), cwd=ROOT, env=self.env, capture_output=True, text=True,
            timeout=600, check=False,
        )  # fmt: skip

    def run(self, name: str) -> tuple[int, dict[str, Any]]:
        """Run one experiment: exit code and judgement."""
        done = self.ask("run", name, "--runtime", "docker", "--out", str(self.out), "--json")
        assert done.stdout.startswith("{"), done.stderr
        return done.returncode, json.loads(done.stdout)

    def begin(self, name: str) -> subprocess.Popen[bytes]:
        """Begin one, to be killed; see `kill`."""
        words = self.words("run", name, "--runtime", "docker", "--out", str(self.out))
        return subprocess.Popen(
            words, cwd=ROOT, env=self.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )


def as_they_are(shop: Shop) -> dict[str, Any]:
    return {service: shop.as_it_is(service) for service in EVERY}


def started(shop: Shop, service: str) -> str:
    return str(shop.inspect(service)["State"]["StartedAt"])


def ours(shop: Shop) -> str:
    """What of ours is on the shop's networks or named in its containers."""
    found = ask("docker", "network", "inspect", f"{shop.name}_default")
    held = json.loads(found)[0]["Containers"].values()
    return ", ".join(one["Name"] for one in held if one["Name"].startswith("hc-"))


def test_a_store_that_dies_breaks_a_shop_that_forgets(shop: Shop, tmp_path: Path) -> None:
    """Killed through the engine, restart policy `always` notwithstanding; then all is as before,
    and the policy works again."""
    before, books, store = as_they_are(shop), started(shop, "books"), started(shop, "store")
    code, judgement = Harness(shop, tmp_path).run("shop-store-dies")
    assert (code, judgement["outcome"]) == (1, "broken"), judgement
    assert as_they_are(shop) == before
    assert ours(shop) == ""
    assert started(shop, "books") == books
    assert started(shop, "store") != store
    assert before["store"]["host"]["RestartPolicy"]["Name"] == "always"
    ask("docker", "exec", "-d", shop.container("store"), "redis-cli", "shutdown", "nosave")
    assert until(lambda: shop.inspect("store")["RestartCount"] == 1, 10)
    assert until(lambda: shop.inspect("store")["State"]["Running"], 10)


def test_a_shop_that_remembers_holds(tmp_path: Path) -> None:
    """The same fault, and redundancy in the shop: the claim holds."""
    with running(keep=True) as shop:
        before = as_they_are(shop)
        code, judgement = Harness(shop, tmp_path).run("shop-store-dies")
        assert (code, judgement["outcome"]) == (0, "held"), judgement
        assert as_they_are(shop) == before


def test_slow_links_are_felt_by_real_callers(shop: Shop, tmp_path: Path) -> None:
    """The front, which knows nothing of a proxy, waits for the store; customers for both."""
    before = as_they_are(shop)
    code, judgement = Harness(shop, tmp_path).run("shop-store-slow")
    assert (code, judgement["outcome"]) == (0, "held"), judgement
    history = History.read(Path(judgement["folder"]) / "journal")
    (slow,) = [w for w in history.windows if w.name == "fault"]
    (warm,) = [w for w in history.windows if w.name == "warmup"]
    felt = latencies_ms(history, slow.start + 1.0, slow.start + 3.0)
    assert min(felt) >= FRONT_MS + STORE_MS
    assert sorted(latencies_ms(history, warm.start, warm.end))[10] < FRONT_MS
    assert as_they_are(shop) == before
    assert ours(shop) == ""


def latencies_ms(history: History, begin: float, end: float) -> list[float]:
    """Of prices that were asked for and answered between the two."""
    found = [op for op in history.ops() if begin <= op.intended and op.ended <= end]
    assert found
    return [(op.ended - op.intended) * 1e3 for op in found]


def test_without_the_label_a_container_is_refused_and_never_touched(
    shop: Shop, tmp_path: Path
) -> None:
    """As a fault's target it is refused with exit code 64, before anything is put in place."""
    before, was = as_they_are(shop), started(shop, "books")
    harness = Harness(shop, tmp_path)
    done = harness.ask("run", "shop-books-die", "--runtime", "docker", "--out", str(harness.out))
    assert done.returncode == 64, done.stderr
    assert "does not carry the label hospital-chaos.opt-in=true" in done.stderr
    assert "Traceback" not in done.stderr
    assert as_they_are(shop) == before
    assert started(shop, "books") == was
    assert not harness.out.exists()


@pytest.mark.parametrize(
    ("name", "env", "runtime", "words"),
    [
        ("shop-too-many", {"SHOP_MOST": "1"}, "docker", "at most 1 of project"),
        ("shop-store-dies", {"SHOP_PROJECT": "no-such"}, "docker", "there is no Compose project"),
        ("shop-store-dies", {}, "process", "--runtime docker"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_touched(
    shop: Shop, tmp_path: Path, name: str, env: dict[str, str], runtime: str, words: str
) -> None:
    """Too many targets at once, an unknown project, a runtime without containers: exit code 64."""
    before = as_they_are(shop)
    harness = Harness(shop, tmp_path, **env)
    done = harness.ask("run", name, "--runtime", runtime, "--out", str(harness.out))
    assert done.returncode == 64, done.stderr
    assert words in " ".join(done.stderr.split())
    assert as_they_are(shop) == before


def test_a_plan_names_what_would_be_touched_and_what_never(shop: Shop, tmp_path: Path) -> None:
    """By name and id, with its network and its undo; and it changes nothing."""
    before = as_they_are(shop)
    done = Harness(shop, tmp_path).ask("plan", "shop-store-dies", "--runtime", "docker", "--json")
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)
    containers = {one["service"]: one for one in plan["project"]["containers"]}
    assert set(containers) == set(EVERY)
    assert containers["books"]["changes"] == []
    assert containers["books"]["why"] == "no label hospital-chaos.opt-in=true"
    assert plan["untouched"] == ["books"]
    store = containers["store"]
    assert store["container"] == shop.container("store")
    assert before["store"]["id"].startswith(store["id"])
    assert len(store["changes"]) == 2  # behind a proxy, and killed
    (undo,) = store["undo"]
    assert f"docker network connect --alias store --alias {store['id']}" in undo or (
        f"--alias {store['id']} --alias store" in undo
    )
    assert f"docker start {store['id']}" in plan["faults"][0]["undo"][0]
    assert as_they_are(shop) == before


def test_a_killed_harness_leaves_the_shop_as_it_was(shop: Shop, tmp_path: Path) -> None:
    """SIGKILL while the store is dead and the front slow: the reaper puts all back in HEALED_S."""
    before, books = as_they_are(shop), started(shop, "books")
    harness = Harness(shop, tmp_path)
    child = harness.begin("shop-long")
    try:
        assert until(lambda: not shop.inspect("store")["State"]["Running"], 120)
        time.sleep(0.5)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert_healed(harness, before)
    assert started(shop, "books") == books


@pytest.mark.slow
def test_whatever_happened_to_the_shop_it_is_as_it_was(shop: Shop, tmp_path: Path) -> None:
    """Every fault that an existing project can have is seen, undone and seen to be gone."""
    before = as_they_are(shop)
    code, judgement = Harness(shop, tmp_path).run("shop-everything")
    assert (code, judgement["outcome"]) == (1, "broken"), judgement
    history = History.read(Path(judgement["folder"]) / "journal")
    assert [len(history.of_type(kind)) for kind in (FaultSeen, FaultGone)] == [9, 9]
    after = as_they_are(shop)
    for name in ("CpuQuota", "CpuPeriod"):  # the engine takes "none" back in other numbers
        assert after["store"]["host"].pop(name) in (-1, 100_000)
        assert before["store"]["host"].pop(name) == 0
    assert after == before


@pytest.mark.slow
@pytest.mark.parametrize("number", repeated(KILLS))
def test_whenever_the_harness_is_killed_the_shop_is_as_it_was(
    shop: Shop, tmp_path: Path, number: int
) -> None:
    """Also while gateways are about to take over their targets' names."""
    before, books = as_they_are(shop), started(shop, "books")
    harness = Harness(shop, tmp_path)
    child = harness.begin("shop-long")
    try:
        assert until(lambda: gateways(shop) != "" or child.poll() is not None, 120)
        time.sleep(random.Random(number).uniform(0.0, 3.0))
        assert child.poll() is None, "it ended before it could be killed"
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert_healed(harness, before)
    assert started(shop, "books") == books


def gateways(shop: Shop) -> str:
    return ask("docker", "ps", "-aq", "--filter", f"label=hospital-chaos.stack={shop.name}")


def assert_healed(harness: Harness, before: dict[str, Any]) -> None:
    """As before within HEALED_S, and still so when the reaper has ended its watch."""
    shop, killed = harness.shop, time.monotonic()
    until(lambda: as_they_are(shop) == before and gateways(shop) == "", HEALED_S)
    took = time.monotonic() - killed
    assert until(lambda: not list(Path(harness.env["HOSPITAL_CHAOS_STATE"]).iterdir()), HEALED_S)
    assert as_they_are(shop) == before
    assert gateways(shop) == ""
    assert took < HEALED_S
