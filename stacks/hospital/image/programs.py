"""Runs the programs that making an image needs (docker, mmdebstrap, pip), each with a bound.

It refuses to wait for ever and to raise anything but ImageFailure.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import IO

from stacks.hospital.image.failure import EngineAbsent, ImageFailure, said

ASK_S = 20.0
END_S = 5.0
KEPT_LINES = 40
MISSING = {
    "docker": "no `docker` program on PATH; apt-get install docker.io",
    "mmdebstrap": "no registry answers and there is no mmdebstrap to make a Debian base with;"
    " apt-get install mmdebstrap, or give Docker a registry and use --online",
}


def _unheard(line: str) -> None:
    """Nobody wants to hear this line."""


def ask(*command: str, within_s: float = ASK_S) -> str | None:
    """What a program prints, or None when it refuses; raises ImageFailure when it cannot run.

    An engine that cannot be reached is a failure and no refusal.
    """
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=within_s, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except FileNotFoundError:
        raise _missing(command[0]) from None
    except subprocess.TimeoutExpired:
        raise ImageFailure(f"`{' '.join(command[:3])}` gives no answer in {within_s:.0f} s;"
                           " is its service hung?") from None  # fmt: skip
    except OSError as error:
        raise ImageFailure(f"{command[0]} cannot be run: {error}") from None
    if done.returncode == 0:
        return done.stdout.strip()
    refusal = said(command[0], done.stderr)
    if isinstance(refusal, EngineAbsent):
        raise refusal
    return None


def carry_out(
    command: Sequence[str],
    within_s: float,
    hear: Callable[[str], None] = _unheard,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Run a program to its end, hearing each line that it prints; raises ImageFailure."""
    flow([command], within_s, hear, environment)


def flow(
    commands: Sequence[Sequence[str]],
    within_s: float,
    hear: Callable[[str], None] = _unheard,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Run programs of which each reads what the one before writes; raises ImageFailure.

    `hear` gets every line of their messages (of the last one: of its output, too).
    """
    running: list[subprocess.Popen[bytes]] = []
    heard: list[list[str]] = []
    listening: list[threading.Thread] = []
    late = threading.Event()

    def end() -> None:
        late.set()
        _end(running)

    timer = threading.Timer(within_s, end)
    timer.daemon = True
    try:
        for number, command in enumerate(commands):
            last = number == len(commands) - 1
            process = _start(command, running[-1].stdout if running else None, last, environment)
            if running and (feed := running[-1].stdout) is not None:
                feed.close()  # its reader's end lies with the next program now
            running.append(process)
            heard.append([])
            words = process.stdout if last else process.stderr
            assert words is not None  # both were asked for as pipes
            listening.append(_listen(words, heard[-1], hear))
        timer.start()
        for thread in listening:
            thread.join()  # bounded by the timer: it ends the programs, and so what they say
        statuses = [_status(one) for one in running]
    finally:
        timer.cancel()
        _end(running)
    for command, status, lines in zip(commands, statuses, heard, strict=True):
        if late.is_set():
            raise ImageFailure(f"{command[0]} was not done in {within_s:.0f} s and was ended")
        if status != 0:
            raise said(command[0], "\n".join(lines))


def _status(one: subprocess.Popen[bytes]) -> int:
    try:
        return one.wait(END_S)
    except subprocess.TimeoutExpired:  # it closed its output and lives on
        _end([one])
        return one.wait(END_S)


def _end(running: Sequence[subprocess.Popen[bytes]]) -> None:
    """End what still runs, gently first: mmdebstrap then unmounts and removes what it made."""
    for one in running:
        if one.poll() is None:
            one.terminate()
    for one in running:
        try:
            one.wait(END_S)
        except subprocess.TimeoutExpired:
            one.kill()
            one.wait(END_S)


def _start(
    command: Sequence[str],
    feed: IO[bytes] | None,
    last: bool,
    environment: Mapping[str, str] | None,
) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            list(command),
            stdin=feed or subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if last else subprocess.PIPE,
            env={**os.environ, **(environment or {})},
        )
    except FileNotFoundError:
        raise _missing(command[0]) from None
    except OSError as error:
        raise ImageFailure(f"{command[0]} cannot be run: {error}") from None


def _listen(words: IO[bytes], kept: list[str], hear: Callable[[str], None]) -> threading.Thread:
    def listen() -> None:
        with words:
            for raw in words:
                line = raw.decode("utf-8", "replace").rstrip()
                kept.append(line)
                del kept[:-KEPT_LINES]
                hear(line)

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    return thread


def there(program: str) -> bool:
    """Whether a program is on PATH."""
    return shutil.which(program) is not None


def _missing(program: str) -> ImageFailure:
    line = MISSING.get(program, f"no `{program}` on PATH; install it")
    return EngineAbsent(line) if program == "docker" else ImageFailure(line)
