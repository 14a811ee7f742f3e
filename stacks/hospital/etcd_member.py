"""Runs the etcd member of a service: starts it, starts it again when it dies, ends it.

It refuses to outlive its service: the kernel kills etcd when the service's process ends.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Collection
from pathlib import Path
from types import TracebackType

from stacks.hospital import etcd, etcd_client
from stacks.hospital.etcd_links import Relay
from stacks.hospital.log import Log
from stacks.hospital.settings import Settings

AGAIN_S = 1.0
STOP_S = 2.0
POLL_S = 0.1
QUORUM_S = 600.0
"""How long a node waits for votes before Patroni takes over the waiting (which asks every 5 s)."""
WAITING_LINE_S = 10.0
LEADER_LOOK_S = 2.0
MORTAL = (
    sys.executable, "-I", "-S", "-c",
    "import ctypes, os, sys\n"
    "ctypes.CDLL(None).prctl(1, 9)\n"  # PR_SET_PDEATHSIG, SIGKILL; kept over the exec below
    "os.getppid() == int(sys.argv[1]) and os.execv(sys.argv[2], sys.argv[2:])\n",
)  # fmt: skip
"""Becomes the program named after it, which the kernel kills when its parent (a pid) ends. A
program of its own, for Python code between fork and exec may hang in a process with threads."""


class EtcdMissing(RuntimeError):
    """etcd is not installed; the text says what to do."""


def binary() -> Path:
    """The installed etcd; raises EtcdMissing."""
    found = shutil.which("etcd")
    if found is None:
        raise EtcdMissing(
            "HOSPITAL_DCS=etcd but no program `etcd` is on the PATH;"
            " install it (Debian: etcd-server) or leave HOSPITAL_DCS unset"
        )
    return Path(found)


class EtcdMember:
    """The running member of one service, with its relay; a context manager.

    etcd that dies (a full disk, say) is started again after a second, as an init system would do,
    for as long as the service lives: without votes a database node is only a standby.
    """

    def __init__(self, settings: Settings, log: Log, rather: Collection[str] = ()) -> None:
        """Starts nothing yet; raises SettingsError or EtcdMissing.

        `rather` names members that should lead the votes rather than this one. A primary that
        dies together with etcd's leader keeps its lock longer: there is an election first, and
        then every lease gets its whole ttl again (measured: 23 s instead of 19 to 20).
        """
        self._own, self._log, self._binary = etcd.member(settings), log, binary()
        self._rather = frozenset(rather)
        self.client = self._own.client
        self._ending = threading.Event()
        self._running: subprocess.Popen[bytes] | None = None
        self._keeper = threading.Thread(target=self._keep, name="etcd", daemon=True)

    def __enter__(self) -> EtcdMember:
        self._own.data_dir.mkdir(mode=0o700, exist_ok=True)
        self._relay = Relay(self._own.links)
        self._keeper.start()
        if self._rather:
            threading.Thread(target=self._yield_lead, name="etcd-leader", daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ending.set()
        for end in (signal.SIGTERM, signal.SIGKILL):
            if self._running is not None:
                self._running.send_signal(end)  # does nothing to a process that has ended
            self._keeper.join(STOP_S)
            if not self._keeper.is_alive():
                break
        self._relay.close()

    def await_quorum(self) -> bool:
        """Wait until the members have agreed on a leader; False after QUORUM_S, with lines."""
        began = time.monotonic()
        while not etcd_client.serves_patroni(self.client):
            waited = time.monotonic() - began
            if waited > WAITING_LINE_S:
                self._log.warn_once_per(WAITING_LINE_S, "votes_awaited", waited_s=round(waited))
            if waited > QUORUM_S or self._ending.wait(POLL_S):
                return False
        return True

    def has_leader(self) -> bool:
        """Whether this member knows a leader that a majority follows."""
        return etcd_client.has_leader(self.client)

    # Only this thread starts etcd: the kernel's "kill when the parent dies" means the thread.
    def _keep(self) -> None:
        command = (*MORTAL, str(os.getpid()), *etcd.command(self._binary, self._own))
        surroundings = etcd.environment(os.environ, self._relay.address)
        while not self._ending.is_set():
            try:
                self._running = subprocess.Popen(
                    command, cwd=self._own.data_dir, env=surroundings, stdin=subprocess.DEVNULL
                )
            except OSError as error:
                self._log.error("etcd_not_started", error=str(error), again_in_s=AGAIN_S)
            else:
                status = self._running.wait()
                if not self._ending.is_set():
                    self._log.error("etcd_ended", status=status, again_in_s=AGAIN_S)
            self._ending.wait(AGAIN_S)

    def _yield_lead(self) -> None:
        while not self._ending.wait(LEADER_LOOK_S):
            leader = etcd_client.hand_over(self.client, self._rather)
            if leader is not None:
                self._log.info("votes_led_elsewhere", leader=leader)
