"""A plain PostgreSQL pair for the tests of the record: a primary and a synchronous standby.

It refuses to be Patroni: the test itself says who dies and who is promoted.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psycopg

from stacks.hospital import postgres
from tests.ports import free_port

REPO = Path(__file__).parents[3]
START_S = 20.0
SYNC_S = 30.0
_SYNC = "SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync' AND state = 'streaming'"


def unprivileged(*command: str | Path) -> list[str]:
    """The command as a user that PostgreSQL accepts: it refuses uid 0."""
    words = [str(word) for word in command]
    if os.getuid() != 0:
        return words
    return ["unshare", "--user", "--map-user=1000", "--map-group=1000", *words]


class Server:
    """One PostgreSQL server in its own folder."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name, self.data = name, folder / name
        self.port = free_port()
        self.log = folder / f"{name}.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start and wait until it answers."""
        settings = {
            "port": self.port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "shared_buffers": "16MB",
            "max_connections": 60,
            "wal_level": "replica",
            "wal_keep_size": "64MB",  # as Patroni sets it: who reads log without a slot finds it
            "hot_standby": "on",
            "fsync": "off",
            "autovacuum": "off",
            "cluster_name": self.name,
        }
        options = [f"--{name}={value}" for name, value in settings.items()]
        command = unprivileged(postgres.binaries() / "postgres", "-D", self.data, *options)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + START_S
        while True:
            try:
                self.query("SELECT 1")
                return
            except psycopg.OperationalError:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise
                time.sleep(0.05)

    def query(self, text: str) -> list[tuple[object, ...]]:
        """Ask as superuser in the application's database."""
        with psycopg.connect(
            postgres.dsn(("127.0.0.1", self.port), account=postgres.SUPERUSER), autocommit=True
        ) as connection:
            cursor = connection.execute(text.encode())
            return cursor.fetchall() if cursor.description else []

    def children(self) -> list[int]:
        """The process ids of this server: the postmaster and all that it forked."""
        assert self.process is not None
        top = self.process.pid
        found = [top]
        listing = subprocess.run(
            ["ps", "-e", "-o", "pid=,ppid="], capture_output=True, text=True, check=True, timeout=5
        ).stdout
        pairs = [tuple(map(int, line.split())) for line in listing.splitlines()]
        while True:
            more = [pid for pid, parent in pairs if parent in found and pid not in found]
            if not more:
                return found
            found += more

    def signal(self, number: signal.Signals) -> None:
        """Signal every process of the server (unshare does not fork: its pid is the postmaster)."""
        for pid in self.children():
            with suppress(ProcessLookupError):  # one that just ended by itself
                os.kill(pid, number)

    def kill(self) -> None:
        """End it at once, as a crash does."""
        if self.process is not None and self.process.poll() is None:
            self.signal(signal.SIGKILL)
            self.process.wait(10)


class Cluster:
    """A primary and, after `add_standby`, its synchronous standby."""

    def __init__(self, folder: Path, template: Path) -> None:
        self.folder = folder
        self.primary = Server(folder, "db-a")
        self.standby: Server | None = None
        code = (
            "import pathlib, sys; from stacks.hospital import cluster_template as t;"
            "print(t.ready_template(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])))"
        )
        made = subprocess.run(
            unprivileged(sys.executable, "-c", code, template, folder),
            cwd=REPO,
            capture_output=True,
            text=True,
            timeout=90,
            check=True,
        )
        subprocess.run(unprivileged("cp", "-a", made.stdout.strip(), self.primary.data), check=True)
        hba = self.primary.data / "pg_hba.conf"
        hba.write_text(
            "host all all 127.0.0.1/32 scram-sha-256\n"
            "host replication all 127.0.0.1/32 scram-sha-256\n"
        )
        self.primary.start()

    def add_standby(self) -> Server:
        """Copy the primary into a streaming standby and make commits wait for it."""
        standby = self.standby = Server(self.folder, "db-b")
        account = postgres.REPLICATION
        source = (
            f"host=127.0.0.1 port={self.primary.port} user={account.name} "
            f"password={account.password} application_name=standby"
        )
        subprocess.run(
            unprivileged(
                postgres.binaries() / "pg_basebackup",
                "-D",
                standby.data,
                "-R",
                "-X",
                "stream",
                "-c",
                "fast",
                "-d",
                source,
            ),
            check=True,
            capture_output=True,
            timeout=60,
        )
        standby.start()
        self.primary.query("ALTER SYSTEM SET synchronous_standby_names = 'standby'")
        self.primary.query("SELECT pg_reload_conf()")
        self._in_step(standby)
        return standby

    def _in_step(self, standby: Server) -> None:
        """A standby answers before it streams; a commit before that would wait for it, and for
        ever where a base backup lets the log go that the standby has yet to fetch."""
        deadline = time.monotonic() + SYNC_S
        while not self.primary.query(_SYNC):
            if time.monotonic() > deadline or standby.process is None or standby.process.poll():
                raise AssertionError(f"{standby.name} is not synchronous; see {standby.log}")
            time.sleep(0.05)

    def promote(self) -> None:
        """Make the standby a primary that waits for nobody."""
        assert self.standby is not None
        self.standby.query("ALTER SYSTEM SET synchronous_standby_names = ''")
        self.standby.query("SELECT pg_promote()")

    def stop(self) -> None:
        """Kill what runs and remove the folder."""
        for server in (self.primary, self.standby):
            if server is not None:
                server.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
