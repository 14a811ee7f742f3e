"""A listening socket that hands its connections to its owner.

It never lets a shortage of descriptors spin the loop: it pauses and tries again.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

from chaos.toxiproxy.address import name_of
from chaos.toxiproxy.loop import INCOMING, Loop, Timer

MAX_ACCEPTS = 64  # per turn of the loop
PAUSE_MS = 100  # after an accept that the system refused


class Listener:
    """Accepts until `close`."""

    def __init__(
        self, loop: Loop, sock: socket.socket, take: Callable[[socket.socket], None]
    ) -> None:
        self._loop = loop
        self._sock = sock
        self._take = take
        self._pause: Timer | None = None
        self._open = True
        self.name = name_of(sock)
        loop.watch(sock.fileno(), self, INCOMING)

    def ready(self, events: int) -> None:
        """Accept what waits."""
        del events
        for _ in range(MAX_ACCEPTS):
            if not self._open:
                return
            try:
                client, _ = self._sock.accept()
            except BlockingIOError:
                return
            except ConnectionError:
                continue  # that client has gone again
            except OSError:
                self._loop.unwatch(self._sock.fileno())
                self._pause = self._loop.after_ms(PAUSE_MS, self._resume)
                return
            client.setblocking(False)
            self._take(client)

    def abort(self) -> None:
        """One connection could not be set up; the others go on."""

    def _resume(self) -> None:
        self._pause = None
        self._loop.watch(self._sock.fileno(), self, INCOMING)

    def close(self) -> None:
        """Stop listening; safe to call twice."""
        if self._open:
            self._open = False
            if self._pause is not None:
                self._pause.cancel()
            self._loop.forget(self._sock.fileno())
            self._sock.close()
