"""The parent side of workloads, tried on real child processes of a few lines each."""

from __future__ import annotations

import json
import os
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from chaos.workload import Workload, WorkloadError, WorkloadProcess

Start = Callable[..., WorkloadProcess]

POLITE = """
    import json, os, signal, sys, time
    config = json.load(open(os.environ["WORKLOAD_CONFIG"]))
    def end(*_):
        open(config["journal"], "a").write("ended\\n"); sys.exit(0)
    signal.signal(signal.SIGTERM, end)
    print("hello"); print("ready", flush=True)
    time.sleep(60)
"""
DEAF = """
    import signal, time
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("ready", flush=True)
    time.sleep(60)
"""
READS_STDIN = """
    import os, sys
    print("ready", flush=True)
    sys.stdin.read()
    open(sys.argv[1], "w").write("gone")
"""


def script(folder: Path, text: str, name: str = "day", *args: str) -> Workload:
    file = folder / f"{name}.py"
    file.write_text(textwrap.dedent(text))
    return Workload(name, ("{python}", str(file), *args), {"preset": "smoke"})


@pytest.fixture
def start(tmp_path: Path) -> Start:
    def make(workload: Workload, **more: float) -> WorkloadProcess:
        return WorkloadProcess(
            workload, tmp_path, seed=7, speed=60.0, links={"wards>ehr-a.http": "127.0.0.1:1"},
            direct={"ehr-a.http": "127.0.0.1:2"}, **more,
        )  # fmt: skip

    return make


def test_a_child_is_told_everything_and_ends_politely(tmp_path: Path, start: Start) -> None:
    """The child reads its whole configuration; on SIGTERM it writes its last line and exits 0."""
    with start(script(tmp_path, POLITE)) as child:
        assert child.alive
        told = json.loads((tmp_path / "workloads" / "day.json").read_text())
        assert told == {
            "workload": "day", "journal": str(tmp_path / "journal" / "day.jsonl"), "seed": 7,
            "speed": 60.0, "links": {"wards>ehr-a.http": "127.0.0.1:1"},
            "direct": {"ehr-a.http": "127.0.0.1:2"}, "params": {"preset": "smoke"},
        }  # fmt: skip
        child.stop()
        assert child.exit_codes == {"day": 0}
    assert (tmp_path / "journal" / "day.jsonl").read_text() == "ended\n"
    assert "hello" in (tmp_path / "logs" / "workload-day.log").read_text()


def test_death_before_ready_names_the_cause(tmp_path: Path, start: Start) -> None:
    """A child that dies before `ready` gives its exit code, its last line and its log's place."""
    bad = script(tmp_path, "import sys; print('no address for gam', file=sys.stderr); sys.exit(64)")
    with pytest.raises(WorkloadError, match=r"exit code 64: no address for gam; see .*day\.log"):
        start(bad).__enter__()


def test_a_missing_program_is_one_clear_line(start: Start) -> None:
    """A command that does not exist is a WorkloadError, not an OSError."""
    with pytest.raises(WorkloadError, match="cannot start /no/such/program"):
        start(Workload("day", ("/no/such/program",))).__enter__()


def test_a_silent_child_is_given_up_and_removed(tmp_path: Path, start: Start) -> None:
    """Without `ready` within the bound the child is killed and the bound is named."""
    silent = start(script(tmp_path, "import time; time.sleep(60)"), ready_s=0.3)
    with pytest.raises(WorkloadError, match=r"did not say `ready` within 0.3 s"):
        silent.__enter__()
    assert silent.exit_codes == {"day": -9}


def test_a_death_in_mid_run_is_seen(tmp_path: Path, start: Start) -> None:
    """When the child dies by itself, `alive` turns False and `last_words` say how."""
    with start(script(tmp_path, "print('ready', flush=True); raise SystemExit(3)")) as child:
        assert child.wait(5)
        assert not child.alive
        assert "exit code 3" in child.last_words()


def test_a_deaf_child_is_killed_within_its_bound(
    tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGTERM is followed by SIGKILL after STOP_WITHIN_S: `stop` cannot hang."""
    monkeypatch.setattr("chaos.workload.STOP_WITHIN_S", 0.2)
    with start(script(tmp_path, DEAF)) as child:
        began = time.monotonic()
        child.stop()
        assert time.monotonic() - began < 2
        assert child.exit_codes == {"day": -9}
        assert "SIGKILL" in child.last_words()


def test_abandoning_is_immediate(tmp_path: Path, start: Start) -> None:
    """`stop(abandon=True)` waits for nobody: the journal has no last line."""
    with start(script(tmp_path, POLITE)) as child:
        began = time.monotonic()
        child.stop(abandon=True)
        assert time.monotonic() - began < 1
    assert not (tmp_path / "journal" / "day.jsonl").exists()


def test_what_runs_beside_starts_and_ends_with_it(tmp_path: Path, start: Start) -> None:
    """A watcher has its own process and journal; its death ends the soundness of the whole."""
    watch = script(tmp_path, POLITE, "watch")
    day = script(tmp_path, POLITE, "day")
    both = Workload("day", day.command, beside=(watch,))
    with start(both) as child:
        assert child.exit_codes == {"watch": None, "day": None}
    assert child.exit_codes == {"watch": 0, "day": 0}
    assert (tmp_path / "journal" / "watch.jsonl").exists()

    mortal = script(tmp_path, "print('ready', flush=True); raise SystemExit(3)", "watch")
    with start(Workload("day", day.command, beside=(mortal,))) as child:
        deadline = time.monotonic() + 5
        while child.alive and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not child.alive
        assert "watch ended with exit code 3" in child.last_words()


def test_a_childs_standard_input_closes_with_its_harness(tmp_path: Path) -> None:
    """SIGKILL of the harness closes the child's stdin: the child learns of it and ends."""
    mark = tmp_path / "mark"
    child = script(tmp_path, READS_STDIN, "day", str(mark))
    harness = textwrap.dedent(f"""
        import os, pathlib, signal
        from chaos.workload import Workload, WorkloadProcess
        process = WorkloadProcess(
            Workload("day", {child.command!r}), pathlib.Path({str(tmp_path)!r}),
            seed=1, speed=1.0, links={{}}, direct={{}},
        )
        process.__enter__()
        os.kill(os.getpid(), signal.SIGKILL)
    """)
    pid = os.posix_spawn(sys.executable, [sys.executable, "-c", harness], dict(os.environ))
    os.waitpid(pid, 0)
    deadline = time.monotonic() + 5
    while not mark.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert mark.exists()
