"""A workload: traffic (or an auditor) as a value, and its child process as the harness sees it.

It knows nothing of what a workload does, and never writes into a workload's journal: a child that
dies leaves no `workload.ended` behind, and that is how the history learns that it was abandoned.

What the child is given, in the JSON file named by the environment variable WORKLOAD_CONFIG:

    {"workload": "day", "journal": "<file to write>", "seed": 7, "speed": 60.0,
     "links":  {"wards>ehr-a.http": "127.0.0.1:40001", ...},     the proxies of the links
     "direct": {"ehr-db-a.postgres": "127.0.0.1:40002", ...},    the services themselves
     "params": {...}}

It prints the line `ready` when its work begins, ends on SIGTERM, and ends by itself within a
second or two when its standard input closes (its harness is gone).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import msgspec

CONFIG_VARIABLE = "WORKLOAD_CONFIG"
READY = "ready"
READY_WITHIN_S = 60.0  # set-up of a ward population on a slow machine
STOP_WITHIN_S = 12.0  # operations in flight get about 6 s of it; then the child is killed
KILL_WITHIN_S = 5.0
LAST_WORDS_CHARS = 300
LAST_WORDS_BYTES = 8_192


class WorkloadError(RuntimeError):
    """A workload that could not be started or did not become ready: says where to look."""


@dataclass(frozen=True, slots=True)
class Workload:
    """One load generator.

    `command` may hold `{python}`, which becomes this interpreter. `params` are handed to the
    child as JSON. `beside` are programs that start and end with it (a watcher, say), each with
    its own process and journal file.
    """

    name: str
    command: tuple[str, ...]
    params: Mapping[str, Any] = field(default_factory=dict, compare=False)
    beside: tuple[Workload, ...] = ()


class WorkloadProcess:
    """A workload's child processes: `with WorkloadProcess(...)` starts them and awaits `ready`.

    `run` is the run folder; used are `journal/`, `logs/` and `workloads/` in it. Raises
    WorkloadError when a child does not start, or does not say `ready` within `ready_s` seconds.
    """

    def __init__(
        self,
        workload: Workload,
        run: Path,
        *,
        seed: int,
        speed: float,
        links: Mapping[str, str],
        direct: Mapping[str, str],
        ready_s: float = READY_WITHIN_S,
    ) -> None:
        self.workload = workload
        self._ready_s = ready_s
        surroundings = {"seed": seed, "speed": speed, "links": links, "direct": direct}
        members = (*workload.beside, workload)
        self._children = [_Child(member, run, surroundings) for member in members]

    def __enter__(self) -> WorkloadProcess:
        end = time.monotonic() + self._ready_s
        try:
            for child in self._children:
                child.start()
            for child in self._children:
                child.await_ready(end, self._ready_s)
        except BaseException:
            self.stop(abandon=True)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop(abandon=kind is not None and issubclass(kind, KeyboardInterrupt))

    @property
    def alive(self) -> bool:
        """Whether every child still runs."""
        return all(child.alive for child in self._children)

    @property
    def exit_codes(self) -> dict[str, int | None]:
        """Exit code by workload name; None for a child that still runs or never started."""
        return {child.workload.name: child.exit_code for child in self._children}

    def wait(self, within_s: float) -> bool:
        """Wait until every child has ended by itself; False when one still runs after that."""
        end = time.monotonic() + within_s
        return all(child.ended_before(end) for child in self._children)

    def stop(self, *, abandon: bool = False) -> None:
        """End every child: politely (SIGTERM, STOP_WITHIN_S together), or at once (`abandon`).

        Idempotent; never raises. A child that had to be killed has no `workload.ended`.
        """
        if not abandon:
            for child in self._children:
                child.signal(signal.SIGTERM)
            self.wait(STOP_WITHIN_S)
        for child in self._children:
            child.kill()

    def last_words(self) -> str:
        """Why it ended, in one line: the exit code and the last line of the log of a dead child."""
        for child in self._children:
            if not child.alive:
                return child.last_words()
        return f"{self.workload.name} still runs"


class _Child:
    """One child process; its standard output is read by a thread until it closes."""

    def __init__(self, workload: Workload, run: Path, surroundings: Mapping[str, Any]) -> None:
        self.workload = workload
        self._journal = run / "journal" / f"{workload.name}.jsonl"
        self._log = run / "logs" / f"workload-{workload.name}.log"
        self._config = run / "workloads" / f"{workload.name}.json"
        self._surroundings = surroundings
        self._process: subprocess.Popen[bytes] | None = None
        self._ready = threading.Event()
        self._reader: threading.Thread | None = None

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        return None if self._process is None else self._process.poll()

    def start(self) -> None:
        command = [_word(word) for word in self.workload.command]
        try:
            for file in (self._journal, self._log, self._config):
                file.parent.mkdir(parents=True, exist_ok=True)
            self._config.write_bytes(msgspec.json.format(msgspec.json.encode(self._given())))
            log = self._log.open("ab")
        except OSError as error:
            raise WorkloadError(f"workload {self.workload.name}: {error}") from error
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
                start_new_session=True,  # a terminal's Ctrl-C is the harness's to handle
                env={**os.environ, CONFIG_VARIABLE: str(self._config)},
            )  # fmt: skip
        except OSError as error:
            raise WorkloadError(
                f"workload {self.workload.name}: cannot start {command[0]}: {error.strerror}"
            ) from error
        finally:
            log.close()
        assert self._process.stdout is not None
        self._reader = threading.Thread(
            target=_read, args=(self._process.stdout, self._log, self._ready.set), daemon=True,
            name=f"workload-{self.workload.name}",
        )  # fmt: skip
        self._reader.start()

    def await_ready(self, end: float, allowed_s: float) -> None:
        while not self._ready.wait(0.02):
            if not self.alive:
                self._join_reader()
                if self._ready.is_set():
                    return  # said ready, did all its work and ended
                raise WorkloadError(f"workload {self.last_words()}")
            if time.monotonic() > end:
                raise WorkloadError(
                    f"workload {self.workload.name} did not say `{READY}` within {allowed_s:g} s;"
                    f" its last words: {self._last_line()}; see {self._log}"
                )

    def ended_before(self, end: float) -> bool:
        if self._process is None:
            return True
        try:
            self._process.wait(max(0.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            return False
        return True

    def signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)

    def kill(self) -> None:
        """End what is left of the child's process group, and give back its pipes."""
        if self._process is None:
            return
        if self._process.poll() is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(KILL_WITHIN_S)
        self._join_reader()
        if self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.close()

    def last_words(self) -> str:
        code = self.exit_code
        how = "was never started" if code is None else f"ended with exit code {code}"
        if code is not None and code < 0:
            how = f"was ended by {signal.Signals(-code).name}"
        return f"{self.workload.name} {how}: {self._last_line()}; see {self._log}"

    def _given(self) -> dict[str, Any]:
        return {
            "workload": self.workload.name,
            "journal": str(self._journal),
            **self._surroundings,
            "params": self.workload.params,
        }

    def _last_line(self) -> str:
        try:
            with self._log.open("rb") as log:
                log.seek(max(0, log.seek(0, os.SEEK_END) - LAST_WORDS_BYTES))
                text = log.read().decode("utf-8", "replace").strip()
        except OSError:
            return "(no log)"
        return text.splitlines()[-1][-LAST_WORDS_CHARS:] if text else "(it logged nothing)"

    def _join_reader(self) -> None:
        if self._reader is not None:
            self._reader.join(KILL_WITHIN_S)


def _word(word: str) -> str:
    return word.replace("{python}", sys.executable)


def _read(out: IO[bytes], log: Path, ready: Callable[[], None]) -> None:
    """Follow a child's standard output: the line `ready` is for us, the rest belongs in its log."""
    with out:
        for line in out:
            if line.strip() == READY.encode():
                ready()
                continue
            with suppress(OSError), log.open("ab") as file:
                file.write(line)
