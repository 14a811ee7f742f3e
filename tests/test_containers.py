"""Undo steps on containers against an engine that answers as wanted: idempotent, bounded, told."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chaos import reaper
from chaos.reaper import StepFailed, containers, patience, play_step, removal
from chaos.runtime import docker_lost, engine
from chaos.runtime.children import Children
from chaos.runtime.docker_plan import Plan
from chaos.runtime.mounted import MountedArrays
from tests.fake_engine import Answer, FakeEngine
from tests.light_stack import light_stack

GONE: Answer = (404, {"message": "No such container: c1"})


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeEngine]:
    """An engine that knows no container; patience is short."""
    monkeypatch.setattr(patience, "COMES_BACK_S", 1.5)
    monkeypatch.setattr(removal, "QUIET_S", 0.3)
    monkeypatch.setattr(containers, "ENDING_S", 1.0)
    monkeypatch.setattr(containers, "UNSEEN_S", 0.8)
    monkeypatch.setattr(patience, "_silent_until", {})
    made = FakeEngine(tmp_path, lambda _method, _path, _body: GONE).start()
    yield made
    made.stop()


def step(fake: FakeEngine, do: str, **more: object) -> dict[str, object]:
    return {"do": do, "engine": fake.path, "container": "c1", "service": "web", **more}


def state(**of: object) -> Answer:
    return (200, {"State": of})


# ---------------------------------------------------------------- one container


@pytest.mark.parametrize(
    ("do", "more"),
    [
        ("start_container", {}),
        ("kill_container", {"only": "c1/t"}),
        ("unpause_container", {}),
        ("update_container", {"limits": {"Memory": 1}}),
        ("connect_container", {"network": "n", "ip": "10.0.0.9"}),
    ],
)
def test_what_is_gone_needs_no_undo(fake: FakeEngine, do: str, more: dict[str, object]) -> None:
    """404 is success: somebody has removed it, or the stack was taken down before."""
    assert play_step(step(fake, do, **more))


@pytest.mark.parametrize(
    ("do", "more"),
    [
        ("start_container", {}),
        ("unpause_container", {}),
        ("update_container", {"limits": {"Memory": 1}}),
        ("connect_container", {"network": "n", "ip": ""}),
    ],
)
def test_an_engine_that_refuses_fails_the_step_with_its_words(
    fake: FakeEngine, do: str, more: dict[str, object]
) -> None:
    """Never taken for done, and the engine's own words are told."""
    fake.answer = lambda method, _path, _body: (
        state(Paused=True) if method == "GET" else (500, {"message": "cgroups: no such thing"})
    )
    with pytest.raises(StepFailed, match="cgroups: no such thing"):
        play_step(step(fake, do, **more))


def test_one_that_runs_is_not_started_again(fake: FakeEngine) -> None:
    """304, and its process lives: done, at once."""
    fake.answer = lambda method, _path, _body: (
        state(Running=True, Pid=os.getpid()) if method == "GET" else (304, {})
    )
    assert play_step(step(fake, "start_container")) == "it runs already"
    assert fake.verbs() == ["POST /containers/c1/start"]


def test_one_that_was_just_killed_is_started_when_the_engine_has_noticed(fake: FakeEngine) -> None:
    """304 while its process is dead is the engine's delay, not a container that runs."""
    dead = subprocess.Popen(["true"])
    dead.wait()
    noticed_t = time.monotonic() + 0.3

    def answer(method: str, _path: str, _body: Any) -> Answer:
        if method == "GET":
            return state(Running=time.monotonic() < noticed_t, Pid=dead.pid)
        return (304 if time.monotonic() < noticed_t else 204), {}

    fake.answer = answer
    assert play_step(step(fake, "start_container")) == "started"
    assert time.monotonic() >= noticed_t


def test_a_process_that_cannot_be_seen_is_believed_after_a_moment(fake: FakeEngine) -> None:
    """The engine may live in another process namespace: its word counts then."""
    fake.answer = lambda method, _path, _body: (
        state(Running=True, Pid=2**22 + 1) if method == "GET" else (304, {})
    )
    assert play_step(step(fake, "start_container")) == "it runs already"


@pytest.mark.parametrize("do", ["kill_container", "unpause_container"])
def test_an_engine_that_cannot_look_has_not_said_that_nothing_is_there(
    fake: FakeEngine, do: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """500 for a question is no absence: the undo failed, and its lease stays."""
    monkeypatch.setattr(containers, "ENDING_S", 0.2)
    fake.answer = lambda _method, _path, _body: (500, {"message": "out of order"})
    with pytest.raises(StepFailed, match="cannot look at container c1: out of order"):
        play_step(step(fake, do, only="c1/t"))


def test_a_paused_one_is_thawed_and_one_that_is_not_is_left(fake: FakeEngine) -> None:
    """204 thaws; 409 or 500 of one that is not paused is no trouble."""
    fake.answer = lambda _method, _path, _body: (204, {})
    assert play_step(step(fake, "unpause_container")) == "thawed"
    fake.answer = lambda method, _path, _body: (
        state(Paused=False) if method == "GET" else (500, {"message": "is not paused"})
    )
    assert play_step(step(fake, "unpause_container")) == "it is not paused"


@pytest.mark.parametrize(
    ("state_now", "only", "words"),
    [
        ({"Running": False}, "a" * 12 + "/t1", "it does not run"),
        ({"Running": True, "StartedAt": "t2"}, "a" * 12 + "/t1", "another instance"),
        ({"Running": True, "StartedAt": "t1"}, "b" * 12 + "/t1", "another instance"),
        ({"Running": True, "StartedAt": "t1"}, "a" * 12 + "/t1", "ended"),
    ],
)
def test_only_the_instance_that_was_meant_is_ended(
    fake: FakeEngine, state_now: dict[str, object], only: str, words: str
) -> None:
    """By id and start: nothing is sent to one that ended or to another in its place."""

    def answer(method: str, _path: str, _body: Any) -> Answer:
        if method == "GET":
            return 200, {"Id": "a" * 64, "State": {"Pid": 0, **state_now}}
        return 204, {}

    fake.answer = answer
    assert words in play_step(step(fake, "kill_container", only=only))
    kills = [verb for verb in fake.verbs() if verb.endswith("/kill")]
    assert kills == (["POST /containers/c1/kill"] if words == "ended" else [])


def test_one_that_is_not_ended_fails_the_step(fake: FakeEngine) -> None:
    """The engine refuses, or says 204 while the process lives on: never taken for done."""
    status = 500
    instance = {"Running": True, "StartedAt": "t1", "Pid": os.getpid()}
    fake.answer = lambda method, path, _body: (
        (200, {"Id": "a" * 64, "State": instance})
        if method == "GET"
        else ((status, {"message": "no such luck"}) if path.endswith("/kill") else (204, {}))
    )
    wanted = step(fake, "kill_container", only="a" * 12 + "/t1")
    with pytest.raises(StepFailed, match="no such luck"):
        play_step(wanted)
    status = 204
    with pytest.raises(StepFailed, match="outlives SIGKILL"):
        play_step(wanted)


@pytest.mark.parametrize("words", ["a stopped container", "cannot update a deleted process"])
def test_limits_of_what_has_just_died_are_given_back(fake: FakeEngine, words: str) -> None:
    """The engine refuses until it has noticed the death, in its own words or those below it."""
    looks = itertools.count()

    def answer(method: str, _path: str, _body: Any) -> Answer:
        if method == "POST" and next(looks) < 3:
            return 500, {"message": words}
        return 200, {"HostConfig": {"Memory": 9}}

    fake.answer = answer
    told = play_step(step(fake, "update_container", limits={"Memory": 9}))
    assert told == "its own limits again"


def test_limits_are_read_back(fake: FakeEngine) -> None:
    """An engine that says 200 and keeps the squeeze fails the step, with what stayed."""
    for kept, wanted in ((64, pytest.raises(StepFailed, match="Memory is 64")), (9, None)):
        fake.answer = lambda _method, _path, _body, kept=kept: (  # type: ignore[misc]
            200, {"HostConfig": {"Memory": kept}},
        )  # fmt: skip
        if wanted:
            with wanted:
                play_step(step(fake, "update_container", limits={"Memory": 9}))
        else:
            assert play_step(step(fake, "update_container", limits={"Memory": 9}))
    assert fake.asked[0][2] == {"Memory": 9}


def test_a_network_is_joined_at_the_old_address_once(fake: FakeEngine) -> None:
    """The address and the names of before; attached already is done."""
    fake.answer = lambda _method, _path, _body: (200, {})
    at = {"network": "hc-1-net-A", "ip": "10.1.2.3", "aliases": ["web"]}
    assert play_step(step(fake, "connect_container", **at)) == "attached"
    config = {"IPAMConfig": {"IPv4Address": "10.1.2.3"}, "Aliases": ["web"]}
    body = {"Container": "c1", "EndpointConfig": config}
    assert fake.asked == [("POST", "/networks/hc-1-net-A/connect", body)]
    already = {"message": "endpoint with name c1 already exists in network"}
    fake.answer = lambda _method, _path, _body: (403, already)
    assert play_step(step(fake, "connect_container", **at)) == "it is attached already"


# ---------------------------------------------------------------- an engine in trouble


def test_an_engine_that_comes_back_after_a_second_is_waited_for(
    fake: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its restart does not fail an undo."""
    monkeypatch.setattr(patience, "COMES_BACK_S", 20.0)
    fake.stop()
    fake.answer = lambda _method, _path, _body: (204, {})
    threading.Timer(1.0, fake.start).start()
    assert play_step(step(fake, "start_container")) == "started"


def test_an_engine_that_is_gone_is_waited_for_once(fake: FakeEngine) -> None:
    """The step says what to do; the next one does not wait all over; one that is back counts."""
    fake.stop()
    began = time.monotonic()
    with pytest.raises(StepFailed, match="start the container engine"):
        play_step(step(fake, "start_container"))
    assert 1.4 < time.monotonic() - began < 4
    began = time.monotonic()
    with pytest.raises(StepFailed, match="hospital-chaos heal"):
        play_step(step(fake, "unpause_container"))
    assert time.monotonic() - began < 0.5
    fake.answer = lambda _method, _path, _body: (204, {})
    fake.start()
    assert play_step(step(fake, "start_container")) == "started"


def test_an_engine_that_hangs_is_given_up_within_its_bound(
    fake: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes the call and says nothing: the step fails, it does not hang."""
    monkeypatch.setattr(patience, "CALL_S", 0.3)
    monkeypatch.setattr(patience, "COMES_BACK_S", 0.5)
    fake.hangs_s = 30.0
    began = time.monotonic()
    with pytest.raises(StepFailed, match="bound"):
        play_step(step(fake, "start_container"))
    assert time.monotonic() - began < 5


def test_an_answer_that_is_not_http_is_no_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A socket's file that is a plain file, or nothing at all: words, no traceback."""
    monkeypatch.setattr(patience, "COMES_BACK_S", 0.1)
    monkeypatch.setattr(patience, "_silent_until", {})
    (tmp_path / "plain").write_text("no socket")
    for name in ("plain", "missing"):
        wrong = {"do": "start_container", "engine": str(tmp_path / name), "container": "c1"}
        with pytest.raises(StepFailed, match="start the container engine"):
            play_step(wrong)


# ---------------------------------------------------------------- a whole stack


class Shelf:
    """What an engine holds: containers, networks, volumes, each with a run's label."""

    def __init__(self) -> None:
        self.things: dict[str, list[dict[str, Any]]] = {
            "containers": [],
            "networks": [],
            "volumes": [],
        }
        self.busy: set[str] = set()  # refuses to remove these
        self.removed: list[str] = []

    def add(self, kind: str, name: str, run: str = "r1", **more: object) -> None:
        labels = {reaper.RUN_LABEL: run, reaper.SERVICE_LABEL: name}
        self.things[kind].append({"Id": name, "Name": name, "Labels": labels, **more})

    def answer(self, method: str, path: str, _body: Any) -> Answer:
        kind = path.split("/")[1].partition("?")[0]
        if path.endswith(("/kill", "/unpause")):
            return 204, {}
        if "/logs" in path:
            return 200, b"\x01\0\0\0\0\0\0\x06said\n\n"
        if method == "GET":
            wanted = json.loads(path.partition("filters=")[2])["label"]
            found = [
                t
                for t in self.things[kind]
                if f"{reaper.RUN_LABEL}={t['Labels'][reaper.RUN_LABEL]}" in wanted
            ]
            return 200, {"Volumes": found or None} if kind == "volumes" else found
        name = path.split("/")[2].partition("?")[0]
        if name in self.busy:
            return 409, {"message": f"{name} is in use"}
        self.things[kind] = [t for t in self.things[kind] if t["Id"] != name]
        self.removed.append(name)
        return 204, {}


@pytest.fixture
def shelf(fake: FakeEngine) -> Shelf:
    """Two containers, a network and a volume of run r1, and a container of another."""
    made = Shelf()
    made.add("containers", "web", State="running")
    made.add("containers", "store", State="paused")
    made.add("containers", "theirs", "r2", State="running")
    made.add("networks", "net-A")
    made.add("volumes", "vol-a")
    fake.answer = made.answer
    return made


def of_r1(fake: FakeEngine, **more: object) -> dict[str, object]:
    return {"do": "remove_stack", "engine": fake.path, "run": "r1", "logs": "", **more}


def test_a_stack_is_removed_whole_and_nothing_else(
    fake: FakeEngine, shelf: Shelf, tmp_path: Path
) -> None:
    """By its label; what is paused is thawed first; logs are kept; twice is once."""
    said = play_step(of_r1(fake, logs=str(tmp_path)))
    assert said == "removed 2 containers, 1 networks, 1 volumes"
    assert sorted(shelf.removed) == ["net-A", "store", "vol-a", "web"]
    assert [t["Id"] for t in shelf.things["containers"]] == ["theirs"]
    assert "POST /containers/store/unpause" in fake.verbs()
    assert (tmp_path / "web.log").read_bytes() == b"said\n\n"
    assert not [path for path in fake.verbs() if "theirs" in path]
    assert play_step(of_r1(fake)) == "removed 0 containers, 0 networks, 0 volumes"


def test_a_container_that_a_killed_harness_had_ordered_is_removed_when_it_appears(
    fake: FakeEngine, shelf: Shelf
) -> None:
    """Another process than the one that raised the stack waits for calls still under way."""
    looks = itertools.count()

    def answer(method: str, path: str, body: Any) -> Any:
        there = shelf.answer(method, path, body)
        if path.startswith("/containers/json") and there == (200, []) and next(looks) == 1:
            shelf.add("containers", "late", State="created")
        return there

    fake.answer = answer
    asker = [os.getppid(), 1]
    assert "removed 3 containers" in play_step(of_r1(fake, asker=asker))
    assert "late" in shelf.removed


def test_the_process_that_raised_a_stack_does_not_wait_for_itself(
    fake: FakeEngine, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own calls are through: one empty look is enough."""
    monkeypatch.setattr(removal, "QUIET_S", 60.0)
    assert "removed 2" in play_step(of_r1(fake, asker=reaper.this_process()))
    assert len(shelf.removed) == 4


def test_a_list_that_the_engine_refuses_is_never_an_empty_one(
    fake: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """500 on a list: the stack is not taken for removed."""
    monkeypatch.setattr(removal, "REMOVAL_S", 0.3)
    fake.answer = lambda _method, _path, _body: (500, {"message": "database is locked"})
    with pytest.raises(StepFailed, match="database is locked"):
        play_step(of_r1(fake))


def test_what_cannot_be_removed_is_told_with_words_to_do_it_by_hand(
    fake: FakeEngine, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything else is removed; the failure names the one and the commands."""
    monkeypatch.setattr(removal, "REMOVAL_S", 0.5)
    shelf.busy = {"vol-a"}
    with pytest.raises(StepFailed, match=r"vol-a is in use.*docker volume rm"):
        play_step(of_r1(fake))
    assert sorted(shelf.removed) == ["net-A", "store", "web"]


def test_a_removal_that_goes_on_slowly_is_no_failure(
    fake: FakeEngine, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A busy engine needs longer for everything than it may be without removing anything."""
    monkeypatch.setattr(removal, "REMOVAL_S", 0.2)
    fake.hangs_s = 0.1
    assert play_step(of_r1(fake)) == "removed 2 containers, 1 networks, 1 volumes"
    assert len(shelf.removed) == 4


def test_an_engine_that_restarts_in_the_middle_of_a_removal_is_waited_for(
    fake: FakeEngine, shelf: Shelf
) -> None:
    """It goes away at the first removal and comes back after a second: all is removed."""

    def answer(method: str, path: str, body: Any) -> Answer:
        if method == "DELETE":
            fake.answer = shelf.answer
            threading.Thread(target=restart).start()
            raise ConnectionResetError
        return shelf.answer(method, path, body)

    def restart() -> None:
        fake.stop()
        time.sleep(1.0)
        fake.start()

    fake.answer = answer
    play_step(of_r1(fake))
    left = {kind: [one["Id"] for one in some] for kind, some in shelf.things.items()}
    assert left == {"containers": ["theirs"], "networks": [], "volumes": []}


# ---------------------------------------------------------------- proxies in containers


@pytest.mark.parametrize("do", ["clear_toxics", "open_proxy"])
def test_a_proxy_whose_container_is_gone_is_not_looked_for_at_its_address(
    fake: FakeEngine, do: str
) -> None:
    """Its address may be somebody else's by now: nobody is asked there, and the undo is done."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as another:
        another.settimeout(0.0)
        at = {"api": ["127.0.0.1", another.getsockname()[1]], "proxy": "p", "toxics": ["t"]}
        for answer in (GONE, state(Running=False)):
            fake.answer = lambda _method, _path, _body, answer=answer: answer  # type: ignore[misc]
            proxy = {
                **at,
                "do": do,
                "engine": fake.path,
                "gateway": "hc-1-gate-A",
                "listen": "",
                "upstream": "",
            }
            assert "proxy server is gone" in play_step(proxy)
        with pytest.raises(BlockingIOError):
            another.accept()


# ---------------------------------------------------------------- what somebody else took away


class Stood:
    """A raised light stack, as `lost` sees it."""

    def __init__(self, fake: FakeEngine) -> None:
        self.stack, self.id, self.raised = light_stack(), "r1", True
        self._engine, self._engine_process = fake.path, engine.process(fake.path)
        self._plan = Plan(self.stack, self.id, 52_000)
        self.storage = MountedArrays(self.stack, Children("r1", Path("/none")), lambda *_: ())
        self.states = {self._plan.container(s.name): "running" for s in self.stack.services}
        self.states |= {gateway.name: "running" for gateway in self._plan.gateways.values()}
        fake.answer = lambda _method, _path, _body: (
            200, [{"Names": [f"/{n}"], "State": s} for n, s in self.states.items()],
        )  # fmt: skip


def test_what_a_fault_has_ended_is_not_lost_but_what_is_removed_is(fake: FakeEngine) -> None:
    """Exited and paused services are somebody's fault; one that is not there is named."""
    stood = Stood(fake)
    assert docker_lost.lost(stood) == ""
    web = stood._plan.container("web")
    for now in ("exited", "paused"):
        stood.states[web] = now
        assert docker_lost.lost(stood) == ""
    del stood.states[web]
    assert "container of web was removed by somebody else" in docker_lost.lost(stood)
    stood.raised = False
    assert docker_lost.lost(stood) == ""


def test_proxies_that_stand_still_are_lost_and_a_restart_is_told_as_that(fake: FakeEngine) -> None:
    """A gateway must run; who did it is said as far as it is known."""
    stood = Stood(fake)
    gateway = stood._plan.gateways["A"].name
    stood.states[gateway] = "exited"
    assert f"{gateway}) are exited: somebody else did that" in docker_lost.lost(stood)
    stood._engine_process = "1/1"
    assert "the container engine was restarted" in docker_lost.lost(stood)


def test_an_engine_that_does_not_answer_is_a_failure_in_words(fake: FakeEngine) -> None:
    """Not "nothing is lost"."""
    stood = Stood(fake)
    fake.stop()
    with pytest.raises(engine.RuntimeFailure, match="does not answer in the middle of the run"):
        docker_lost.lost(stood)
    fake.start()
    fake.answer = lambda _method, _path, _body: (500, {"message": "busy"})
    with pytest.raises(engine.RuntimeFailure, match="500"):
        docker_lost.lost(stood)
