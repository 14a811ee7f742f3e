"""A PostgreSQL server on a restored copy: recovers to a point, answers on a socket, is thrown away.

    with Scratch(place, folder) as scratch:
        scratch.restore(data, log, to=None); scratch.start(); scratch.connect(...)

It refuses to be reached over the network, and to write anywhere but into its own folder.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import psycopg

from stacks.hospital import postgres
from stacks.hospital.pages import instant
from stacks.hospital.recovery.backup_places import Place

COPY_S, RECOVER_S, END_S = 120.0, 180.0, 5.0
POLL_S = 0.05
PORT = 5432
ENDED_EARLY = "recovery ended before configured recovery target was reached"
_FETCH = """#!/bin/sh
for file in {log}/"$1" {log}/"$1".partial; do
  [ -f "$file" ] && exec cat "$file" > "$2"
done
exit 1
"""
_SETTINGS = {
    "listen_addresses": "", "port": PORT, "unix_socket_permissions": "0700",
    # Recovery wants at least what the primary had.
    "max_connections": 100, "max_worker_processes": 8, "max_wal_senders": 10,
    "wal_level": "replica", "hot_standby": "on", "archive_mode": "off",
    "synchronous_standby_names": "", "shared_buffers": "24MB", "huge_pages": "off",
    "dynamic_shared_memory_type": "mmap", "io_method": "sync", "jit": "off", "autovacuum": "off",
    # It is thrown away: nothing in it has to survive a power cut.
    "fsync": "off", "full_page_writes": "off", "max_wal_size": "256MB",
    "hba_file": "hba.conf", "restore_command": 'sh ../fetch "%f" "%p"',
    "logging_collector": "off", "log_line_prefix": "%m [%p] ", "cluster_name": "restore drill",
}  # fmt: skip


class RestoreFailed(RuntimeError):
    """The copy did not become a database; the text is what PostgreSQL said last."""


class Scratch:
    """One restored copy; leaving the block ends the server and removes everything."""

    def __init__(self, place: Place, folder: Path) -> None:
        self._binaries, self.folder = place.binaries, folder
        self.data = folder / "data"
        self._process: subprocess.Popen[bytes] | None = None
        self._words = folder / "postgres.log"
        # A socket's name may be 107 bytes long: both sides name it from where they stand.
        self._socket = f"/proc/self/cwd/{os.path.relpath(folder)}"

    def __enter__(self) -> Scratch:
        # A server that a killed vault left behind ends by itself when its folder is gone.
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(mode=0o700, parents=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()
        shutil.rmtree(self.folder, ignore_errors=True)

    def restore(self, data: Path, log: Path, to: float | None) -> None:
        """Lay out a copy that recovers from `log` up to `to` (Unix seconds; None: to its end).

        Raises RestoreFailed, OSError.
        """
        copying = ["cp", "--recursive", "--reflink=auto", "--no-preserve=mode"]
        try:
            subprocess.run(
                [*copying, "--no-target-directory", data, self.data],
                check=True, timeout=COPY_S, capture_output=True,
            )  # fmt: skip
        except subprocess.SubprocessError as error:
            raise RestoreFailed(f"the copy was not made: {error}") from None
        self.data.chmod(0o700)
        fetch = _FETCH.format(log=shlex.quote(str(log.absolute())))
        (self.folder / "fetch").write_text(fetch)
        (self.folder / "hba.conf").write_text("local all all scram-sha-256\n")
        (self.data / "postgresql.auto.conf").write_text("")
        self.aim(to)

    def aim(self, to: float | None) -> None:
        """Write down where recovery shall end."""
        settings = {**_SETTINGS, "unix_socket_directories": ".."}
        if to is not None:
            settings |= {
                "recovery_target_time": instant(to), "recovery_target_action": "promote",
            }  # fmt: skip
        lines = [f"{name} = '{value}'\n" for name, value in settings.items()]
        (self.data / "postgresql.conf").write_text("".join(lines))
        (self.data / "recovery.signal").touch()

    def start(self) -> None:
        """Recover, and wait until it is a database of its own. Raises RestoreFailed."""
        with self._words.open("ab") as words:
            self._process = subprocess.Popen(
                [self._binaries / "postgres", "-D", self.data],
                stdin=subprocess.DEVNULL, stdout=words, stderr=words, cwd=self.folder,
                env={**os.environ, "LC_ALL": "C"},
            )  # fmt: skip
        end = time.monotonic() + RECOVER_S
        while self._process.poll() is None:
            if time.monotonic() > end:
                raise RestoreFailed(f"not recovered within {RECOVER_S:g} s: {self._last()}")
            with (
                suppress(psycopg.OperationalError),
                self.connect(postgres.SUPERUSER, "postgres") as connection,
            ):
                row = connection.execute("SELECT pg_is_in_recovery()").fetchone()
                if row is not None and not row[0]:
                    return
            time.sleep(POLL_S)
        raise RestoreFailed(self._last())

    def connect(
        self, account: postgres.Account = postgres.APPLICATION, database: str = postgres.DATABASE
    ) -> psycopg.Connection[Any]:
        """A session with it. Raises psycopg.Error."""
        text = postgres.dsn((self._socket, PORT), account=account, database=database)
        return psycopg.connect(text, autocommit=True)

    def end(self) -> None:
        """End the server, if it runs; from any thread."""
        process = self._process
        if process is None:
            return
        for number in (signal.SIGQUIT, signal.SIGKILL):
            with suppress(ProcessLookupError):
                process.send_signal(number)
            with suppress(subprocess.TimeoutExpired):
                process.wait(END_S)
                return

    def _last(self) -> str:
        """What PostgreSQL said of the reason."""
        with suppress(OSError):
            lines = self._words.read_text(errors="replace").splitlines()
            told = [line for line in lines if "FATAL" in line or "PANIC" in line]
            return " ".join((told or lines)[-1:])[-300:] or "it said nothing"
        return "it said nothing"
