"""Looks host names up in a few threads, so that a slow name server never stops the loop.

It keeps an answer for a second only: a container that comes back has a new address.
"""

from __future__ import annotations

import ipaddress
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable

from chaos.toxiproxy.loop import Loop

KEEP_S = 1.0
MAX_THREADS = 8
MAX_KEPT = 65_536  # more names than the longest API request can hold


class Pending(Exception):
    """These names are not known yet: ask the resolver, then call again."""

    def __init__(self, hosts: tuple[str, ...]) -> None:
        super().__init__(*hosts)
        self.hosts = hosts


class UnknownHost(Exception):
    """The name was looked up and has no address (or no answer came in time)."""


Answer = tuple[str, ...] | UnknownHost


class Resolver:
    """Names to addresses, IPv4 first; literal addresses need no look-up."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._answers: dict[str, tuple[float, Answer]] = {}
        self._waiting: dict[str, list[Callable[[], None]]] = {}
        self._queue: deque[str] = deque()
        self._threads = 0

    def addresses(self, host: str) -> tuple[str, ...]:
        """The addresses of `host`; raises Pending or UnknownHost."""
        if _is_literal(host):
            return (host,)
        kept = self._answers.get(host)
        if kept is None or kept[0] < time.monotonic():
            raise Pending((host,))
        if isinstance(kept[1], UnknownHost):
            raise kept[1].with_traceback(None)
        return kept[1]

    def ask(self, host: str, done: Callable[[], None]) -> None:
        """Look `host` up and call `done` in the loop; `addresses` then has the answer."""
        waiting = self._waiting.setdefault(host, [])
        waiting.append(done)
        if len(waiting) > 1:
            return
        if self._threads >= MAX_THREADS:
            self._queue.append(host)
            return
        self._threads += 1
        threading.Thread(target=self._look_up, args=(host,), daemon=True).start()

    def give_up(self, hosts: Iterable[str]) -> None:
        """The caller can wait no longer: those still unknown count as unknown for a moment."""
        late = [host for host in hosts if host in self._waiting]
        for host in late:
            self._keep(host, UnknownHost(f"lookup {host}: i/o timeout"))
        for host in late:
            self._tell(host)

    def look_up_now(self, host: str) -> None:
        """Look `host` up and wait: only before the loop runs."""
        self._answer(host, look_up(host))

    def _look_up(self, host: str) -> None:
        answer = look_up(host)
        self._loop.from_thread(lambda: self._finished(host, answer))

    def _finished(self, host: str, answer: Answer) -> None:
        self._answer(host, answer)
        while self._queue:
            following = self._queue.popleft()
            if following in self._waiting:  # else all who asked have given up
                threading.Thread(target=self._look_up, args=(following,), daemon=True).start()
                return
        self._threads -= 1

    def _answer(self, host: str, answer: Answer) -> None:
        self._keep(host, answer)
        self._tell(host)

    def _keep(self, host: str, answer: Answer) -> None:
        if len(self._answers) >= MAX_KEPT:
            self._answers.clear()
        self._answers[host] = (time.monotonic() + KEEP_S, answer)

    def _tell(self, host: str) -> None:
        for done in self._waiting.pop(host, []):
            done()


def look_up(host: str) -> Answer:
    """Ask the system's resolver; may take long."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return UnknownHost(f"lookup {host}: no such host")
    ips = {str(entry[4][0]): None for entry in found}
    return tuple(sorted(ips, key=lambda ip: ":" in ip))


def _is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
