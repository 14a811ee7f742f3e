"""A service as a process: start, announce the stop, finish what was accepted, exit 0."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx

from tests.ports import free_port

ROOT = Path(__file__).parents[3]
TOY = """
import asyncio
import os
from pathlib import Path
from contextlib import asynccontextmanager
from stacks.hospital.web import Face, Route, answer, run

async def slow(request):
    print("began", flush=True)
    while not Path(os.environ["DATA_DIR"], "release").exists():
        await asyncio.sleep(0.02)
    return answer({"done": True})

died = []
async def duty(stop):
    if not died:
        died.append(1)
        raise RuntimeError("once")
    await stop.wait()
    print("duty finished", flush=True)

@asynccontextmanager
async def toy(settings, log):
    yield Face(routes=[Route("/slow", slow)], background=[duty])
    print("closed", flush=True)

run(toy)
"""


def environment(tmp_path: Path, port: int) -> dict[str, str]:
    return {
        "SERVICE_NAME": "toy",
        "SERVICE_ROOM": "A",
        "DATA_DIR": str(tmp_path),
        "STOP_S": "10",
        "BIND_HTTP": f"127.0.0.1:{port}",
        "PYTHONPATH": str(ROOT),
        "PATH": os.environ["PATH"],
    }


def test_a_deliberate_stop_is_announced_and_loses_nothing(tmp_path: Path) -> None:
    """SIGTERM: a request in progress is answered, background work ends well, status 0."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-c", TOY],
        env=environment(tmp_path, port),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 10
        status = ""
        while status != "ready":
            assert time.monotonic() < deadline
            try:
                status = httpx.get(f"{url}/health").json()["status"]
            except httpx.TransportError:
                time.sleep(0.02)
        answers: list[httpx.Response] = []
        thread = threading.Thread(
            target=lambda: answers.append(httpx.get(f"{url}/slow", timeout=15))
        )
        thread.start()
        assert process.stdout is not None
        assert process.stdout.readline() == "began\n"
        process.send_signal(signal.SIGTERM)
        while status == "ready":
            assert time.monotonic() < deadline
            status = httpx.get(f"{url}/health").json()["status"]
        assert status == "stopping"
        assert httpx.get(f"{url}/slow").status_code == 503
        (tmp_path / "release").touch()
        thread.join(5)
        assert answers[0].json() == {"done": True}
        out, err = process.communicate(timeout=15)
    finally:
        process.kill()
        process.wait(5)
    assert process.returncode == 0, err
    assert out.split("\n")[:2] == ["duty finished", "closed"]
    assert '"event":"background_died"' in err


def test_a_wrong_start_is_one_line(tmp_path: Path) -> None:
    """No BIND_HTTP: status 64; a port in use: status 1; never a traceback."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for port_text, code, words in (("", 64, "BIND_HTTP"), (f"127.0.0.1:{port}", 1, "listened")):
            found = environment(tmp_path, port) | {"BIND_HTTP": port_text}
            done = subprocess.run(
                [sys.executable, "-c", TOY],
                env=found,
                capture_output=True,
                text=True,
                timeout=20,
                check=False,
            )
            assert done.returncode == code, done.stderr
            assert words in done.stderr
            assert len(done.stderr.strip().splitlines()) == 1
