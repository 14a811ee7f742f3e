"""A container engine of a test's own: its own network, its own small disk, its own restarts.

It lives in a network and mount namespace of its own, so that neither its bridges and packet rules
nor its data meet those of the machine's engine. It needs root, as every dockerd does.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.conditions import until

READY_S = 30.0
ENDED_S = 40.0  # a dockerd that ends stops its containers first, 15 s at most
LOADED_S = 300.0
NEEDED = ("dockerd", "docker", "nsenter", "unshare", "ip", "mount")


def lacking() -> str:
    """Why an engine of our own cannot be started here; '' when it can."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    missing = [program for program in NEEDED if not shutil.which(program, path=path)]
    if missing:
        return f"an engine of its own needs {', '.join(missing)}"
    if os.geteuid() != 0:
        return "an engine of its own needs root"
    done = subprocess.run(
        ["unshare", "--net", "--mount", "ip", "link", "set", "lo", "up"], capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    return f"an engine of its own needs namespaces: {done.stderr.strip()}" * bool(done.returncode)


class OwnEngine:
    """One dockerd under a short temporary folder (a socket's path is 107 bytes at most)."""

    def __init__(self, disk_mib: int = 1400) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="oe-", dir="/tmp"))
        self.socket = self.folder / "s"
        self.data = self.folder / "data"
        self.data.mkdir()
        # holds the namespaces while dockerd restarts; everything in them ends with it
        self._holder = subprocess.Popen(
            ["unshare", "--net", "--mount", "--propagation", "private", "sleep", "infinity"],
            stdin=subprocess.DEVNULL,
        )
        own = Path(f"/proc/{self._holder.pid}/ns/net")
        assert until(lambda: own.readlink() != Path("/proc/self/ns/net").readlink(), 5)
        self.do("ip", "link", "set", "lo", "up")
        self.do("mount", "-t", "tmpfs", "-o", f"size={disk_mib}m", "tmpfs", str(self.data))
        self.daemon: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """What a program must see to use this engine."""
        return {"DOCKER_HOST": f"unix://{self.socket}"}

    def inside(self, *words: str) -> list[str]:
        """The command, in both of the engine's namespaces."""
        return ["nsenter", "-t", str(self._holder.pid), "--net", "--mount", *words]

    def reaching(self, *words: str) -> list[str]:
        """The command, where it can reach the engine's containers, and see our files."""
        return ["nsenter", "-t", str(self._holder.pid), "--net", *words]

    def do(self, *words: str, **env: str) -> str:
        """Run a command inside; its standard output."""
        done = subprocess.run(
            self.inside(*words), env={**os.environ, **env}, check=False, capture_output=True,
            text=True, timeout=LOADED_S,
        )  # fmt: skip
        assert done.returncode == 0, f"{words}: {done.stderr}"
        return done.stdout.strip()

    def docker(self, *words: str) -> str:
        """One command of the engine's own client."""
        return self.do("docker", *words, **self.environment)

    def start(self) -> None:
        """Start dockerd and wait until it answers."""
        with open(self.folder / "log", "ab") as log:
            self.daemon = subprocess.Popen(
                self.inside(
                    "dockerd", "--data-root", str(self.data),
                    "--exec-root", str(self.folder / "exec"),
                    "--pidfile", str(self.folder / "pid"), "-H", f"unix://{self.socket}",
                    "--bridge=none",
                ),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        assert until(self.answers, READY_S, 0.1), (self.folder / "log").read_text()[-2000:]

    def answers(self) -> bool:
        """Whether it answers now."""
        asked = subprocess.run(
            ["docker", "version"], env={**os.environ, **self.environment}, capture_output=True,
            check=False,
        )  # fmt: skip
        return asked.returncode == 0

    def stop(self) -> None:
        """End dockerd, with its containers."""
        if self.daemon is None:
            return
        self.daemon.terminate()
        self.daemon.wait(ENDED_S)
        self.daemon = None

    def load(self, tag: str) -> None:
        """Copy an image from the machine's own engine."""
        with subprocess.Popen(["docker", "save", tag], stdout=subprocess.PIPE) as saved:
            subprocess.run(
                ["docker", "load"], stdin=saved.stdout, env={**os.environ, **self.environment},
                check=True, capture_output=True, timeout=LOADED_S,
            )  # fmt: skip

    def filled(self) -> Path:
        """Fill its disk to the last byte; removing the file (it is named) makes room again."""
        file = self.data / "filled"
        self.do("sh", "-c", f"cat /dev/zero > {file} 2> /dev/null; test -s {file}")
        return file

    def close(self) -> None:
        """End it, and everything in it."""
        try:
            for name in self.docker("ps", "-aq").split() if self.daemon else []:
                self.docker("rm", "-fv", name)
        finally:
            self.stop()
            self._holder.kill()
            self._holder.wait()
            shutil.rmtree(self.folder, ignore_errors=True)
