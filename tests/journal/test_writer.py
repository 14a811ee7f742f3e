"""The journal's writer: nothing appended is lost, nothing goes on after a hole."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import pytest

from chaos.journal import events as ev
from chaos.journal.history import History
from chaos.journal.writer import JournalError, Writer

KILLED = """
import sys, pathlib
from chaos.journal.events import ServiceSeen
from chaos.journal.writer import Writer
{patch}
writer = Writer(pathlib.Path(sys.argv[1]))
number = 0
while True:
    writer.append(ServiceSeen(t=float(number), service=str(number), state="ready"))
    print(number, flush=True)
    number += 1
"""
FULL = """
import pathlib, resource, sys
from chaos.journal.events import ServiceSeen
from chaos.journal.writer import JournalError, Writer
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
writer = Writer(pathlib.Path(sys.argv[1]))
errors = []
for number in range(400):
    try:
        writer.append(ServiceSeen(t=float(number), service="x" * 20, state="ready"))
    except JournalError as error:
        errors.append(str(error))
writer.close()
print(len(errors), len(set(errors)), errors[0])
"""


def seen(number: int) -> ev.ServiceSeen:
    return ev.ServiceSeen(t=float(number), service=str(number), state="ready")


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    """Events come back equal, in order, and can be cited by line."""
    with Writer(tmp_path / "harness.jsonl") as writer:
        for number in range(5):
            writer.append(seen(number))
    history = History.read(tmp_path)
    assert history.events == tuple(seen(n) for n in range(5))
    assert history.cite(history.seen[2]) == "harness.jsonl:3"
    assert (history.defects, history.notes) == ((), ())


@pytest.mark.parametrize("patch", ["", "from gevent import monkey; monkey.patch_all()"])
def test_sigkill_loses_nothing_that_was_appended(tmp_path: Path, patch: str) -> None:
    """Every event whose append had returned is in the file, in a plain and in a gevent child."""
    if patch:
        pytest.importorskip("gevent")
    file = tmp_path / "a.jsonl"
    code = KILLED.format(patch=patch)
    child = subprocess.Popen([sys.executable, "-c", code, str(file)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    told = -1
    while told < 300:
        told = int(child.stdout.readline())
    child.send_signal(signal.SIGKILL)
    rest = child.stdout.read().split()
    child.wait(10)
    child.stdout.close()
    told = int(rest[-1]) if rest and rest[-1].isdigit() else told
    numbers = [int(e.service) for e in History.read(tmp_path).events]  # type: ignore[attr-defined]
    assert numbers == list(range(len(numbers)))
    assert len(numbers) > told


def test_threads_share_a_writer(tmp_path: Path) -> None:
    """No line is torn and none is lost when eight threads append at once."""
    writer = Writer(tmp_path / "a.jsonl")

    def work(base: int) -> None:
        for number in range(500):
            writer.append(seen(base + number))

    threads = [threading.Thread(target=work, args=(n * 1_000,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    writer.close()
    lines = (tmp_path / "a.jsonl").read_bytes().splitlines()
    names = {msgspec.json.decode(line, type=ev.ServiceSeen).service for line in lines}
    assert (len(lines), len(names)) == (4_000, 4_000)


def test_a_full_disk_is_one_clear_error_and_final(tmp_path: Path) -> None:
    """Every later append fails with the same line, the torn line stays the last, and what was
    whole can be read; the run lacks its end and cannot pass."""
    file = tmp_path / "a.jsonl"
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(file)], capture_output=True, text=True, timeout=60,
        check=True,
    )  # fmt: skip
    failures, kinds, message = done.stdout.strip().split(" ", 2)
    assert (int(failures) > 100, kinds) == (True, "1")
    assert "disk is full" in message
    assert str(file) in message
    history = History.read(tmp_path)
    assert history.defects == ()
    assert len(history.notes) == 1
    assert len(history.events) + int(failures) == 400


def test_one_writer_per_file(tmp_path: Path) -> None:
    """A second writer of the same file is refused with one line."""
    with Writer(tmp_path / "a.jsonl"), pytest.raises(JournalError, match="exists already"):
        Writer(tmp_path / "a.jsonl")


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    """One line that names the file and the cause."""
    with pytest.raises(JournalError, match="No such file"):
        Writer(tmp_path / "none" / "a.jsonl")


def test_closed_is_closed(tmp_path: Path) -> None:
    """Closing twice is harmless, appending after it is an error."""
    writer = Writer(tmp_path / "a.jsonl")
    writer.close()
    writer.close()
    with pytest.raises(JournalError, match="is closed"):
        writer.append(seen(1))


def test_a_signal_handler_may_append(tmp_path: Path) -> None:
    """While its own thread is appending: no deadlock, no torn line."""
    writer = Writer(tmp_path / "a.jsonl")
    before = signal.signal(signal.SIGALRM, lambda *_: writer.append(seen(0)))
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    try:
        for _ in range(5_000):
            writer.append(seen(0))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    writer.close()
    history = History.read(tmp_path)
    assert history.defects == ()
    assert len(history.events) >= 5_000


def test_the_file_is_private_to_nobody_and_not_inherited(tmp_path: Path) -> None:
    """A child process must not hold the journal open."""
    with Writer(tmp_path / "a.jsonl") as writer:
        assert not os.get_inheritable(writer._fd)
