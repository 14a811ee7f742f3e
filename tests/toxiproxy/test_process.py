"""The server as a process: its line, its exit codes, its start and its end."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

BOUND_S = 10.0
STOP_BOUND_S = 1.0


def run(*arguments: str) -> tuple[int, list[str]]:
    """Exit code and stderr lines of a server that is expected not to start."""
    done = subprocess.run(
        [sys.executable, "-m", "chaos.toxiproxy", *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=BOUND_S,
    )
    assert done.stdout == ""
    return done.returncode, done.stderr.splitlines()


def test_refuses_to_start_with_one_clear_line(tmp_path: Path) -> None:
    """Bad arguments and files exit 64, what the system refuses exits 1; never a traceback."""
    bad, clash = tmp_path / "bad.json", tmp_path / "clash.json"
    bad.write_text('[{"name": "p"}]')
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        clash.write_text(
            json.dumps([{"name": "p", "upstream": "u:1", "listen": f"127.0.0.1:{port}"}])
        )
        cases = [
            (("--port", port), 1, "already in use"),
            (("--port", "0", "--config", str(clash)), 1, "already in use"),
            (("--port", "0", "--config", str(bad)), 64, "missing required field: upstream"),
            (("--port", "0", "--config", str(tmp_path / "none")), 64, "No such file"),
            (("--port", "70000"), 64, "port (0 to 65535)"),
            (("--bogus",), 64, "--bogus"),
            (("--port", "0", "--host", "0.0.0.0"), 64, "--allow-all-interfaces"),
            (("--port", "0", "--host", "no.such.host.invalid"), 1, "no such host"),
        ]
        for arguments, code, text in cases:
            got, lines = run(*arguments)
            assert (got, len(lines), text in lines[0]) == (code, 1, True), (arguments, lines)


def test_starts_with_proxies_from_a_file(fresh_server, tmp_path: Path) -> None:
    """The file is what POST /populate takes; host names are looked up."""
    config = tmp_path / "proxies.json"
    config.write_text('[{"name": "p", "listen": "localhost:0", "upstream": "localhost:1"}]')
    server = fresh_server("--config", str(config))
    assert server("GET", "/proxies")[1]["p"]["enabled"] is True


def test_sigterm_ends_it_at_once_with_connections_open(fresh_server) -> None:
    """Exit code 0 within a second, open proxied connections end, half-sent requests do not wait."""
    server = fresh_server()
    with socket.create_server(("127.0.0.1", 0)) as upstream:
        port = server.proxy(f"127.0.0.1:{upstream.getsockname()[1]}")
        with (
            socket.create_connection(("127.0.0.1", port), timeout=5) as client,
            socket.create_connection((server.host, server.port), timeout=5) as half,
        ):
            half.sendall(b"POST /reset HTTP/1.1\r\nHo")
            peer, _ = upstream.accept()
            began = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(STOP_BOUND_S) == 0
            assert time.monotonic() - began < STOP_BOUND_S
            assert client.recv(1) == b""
            peer.close()
    assert server.process.communicate(timeout=5)[1] == ""


def test_all_interfaces_with_the_flag(fresh_server) -> None:
    """With the flag a listen without a host means all interfaces, as in the reference."""
    server = fresh_server("--allow-all-interfaces")
    status, proxy = server("POST", "/proxies", {"name": "p", "upstream": "127.0.0.1:9"})
    assert status == 201
    assert proxy["listen"].startswith(("[::]:", "0.0.0.0:"))
    socket.create_connection(("127.0.0.1", int(proxy["listen"].rsplit(":", 1)[1]))).close()


def test_a_seed_repeats_the_dice(fresh_server) -> None:
    """Two servers with one seed spare the same connections."""

    def spared(seed: str) -> list[bool]:
        server = fresh_server("--seed", seed)
        with socket.create_server(("127.0.0.1", 0)) as upstream:
            port = server.proxy(f"127.0.0.1:{upstream.getsockname()[1]}")
            server.toxic("limit_data", "upstream", toxicity=0.5, bytes=0)
            seen = []
            for _ in range(24):
                with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
                    peer, _ = upstream.accept()
                    peer.settimeout(5)
                    client.sendall(b"x")
                    seen.append(peer.recv(1) == b"x")
                    peer.close()
        return seen

    first = spared("5")
    assert first == spared("5")
    assert len(set(first)) == 2


def test_imports_nothing_of_the_harness() -> None:
    """The server stands apart: only its own package is loaded."""
    code = (
        "import sys, chaos.toxiproxy.__main__;"
        "print([m for m in sys.modules if m.startswith('chaos.')"
        " and not m.startswith('chaos.toxiproxy')])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_descriptors_that_run_out_do_not_take_the_api_down() -> None:
    """With a low limit, connections beyond it are turned away and the API still answers."""
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (300, 300));"
        "from chaos.toxiproxy.__main__ import main; sys.exit(main(['--port', '0']))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    clients: list[socket.socket] = []
    try:
        assert process.stdout is not None
        host, port = json.loads(process.stdout.readline())["api"].rsplit(":", 1)
        with socket.create_server(("127.0.0.1", 0), backlog=512) as upstream:
            body = json.dumps(
                {
                    "name": "p",
                    "listen": "127.0.0.1:0",
                    "upstream": f"127.0.0.1:{upstream.getsockname()[1]}",
                }
            )
            api = http.client.HTTPConnection(host, int(port), timeout=2)
            api.request("POST", "/proxies", body)
            listen = json.loads(api.getresponse().read())["listen"]
            api.close()
            target = ("127.0.0.1", int(listen.rsplit(":", 1)[1]))
            clients += [socket.create_connection(target, timeout=5) for _ in range(200)]
            for _ in range(5):
                api = http.client.HTTPConnection(host, int(port), timeout=1)
                api.request("GET", "/version")
                assert api.getresponse().status == 200
                api.close()
            assert clients[-1].recv(1) == b""  # turned away, not left hanging
    finally:
        for client in clients:
            client.close()
        process.terminate()
        assert process.wait(5) == 0


def test_a_silent_name_server_does_not_hold_the_api_up() -> None:
    """A listen name that takes 30 s to look up is refused within a second; other calls do not
    notice."""
    code = (
        "import socket, sys, time; real = socket.getaddrinfo\n"
        "def slow(host, *rest, **more):\n"
        "    time.sleep(30) if host.endswith('.slow') else None\n"
        "    return real(host, *rest, **more)\n"
        "socket.getaddrinfo = slow\n"
        "from chaos.toxiproxy.__main__ import main; sys.exit(main(['--port', '0']))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        host, port = json.loads(process.stdout.readline())["api"].rsplit(":", 1)

        def call(method: str, path: str, value: object) -> tuple[int, str, float]:
            api = http.client.HTTPConnection(host, int(port), timeout=5)
            began = time.monotonic()
            api.request(method, path, json.dumps(value))
            answer = api.getresponse()
            text = answer.read().decode()
            api.close()
            return answer.status, text, time.monotonic() - began

        new = {"name": "p", "upstream": "127.0.0.1:9", "listen": "127.0.0.1:0"}
        assert call("POST", "/proxies", new)[0] == 201
        other = [{**new, "name": f"n{n}", "listen": f"host{n}.slow:0"} for n in range(12)]
        for method, path, value in (
            ("POST", "/proxies", {**new, "name": "q", "listen": "a.slow:0"}),
            ("PATCH", "/proxies/p", {"listen": "b.slow:0"}),
            ("POST", "/populate", other),
        ):
            status, text, took_s = call(method, path, value)
            assert (status, "i/o timeout" in text, took_s < 1) == (500, True, True), (text, took_s)
            assert call("GET", "/proxies/p", None)[2] < 0.5
    finally:
        process.terminate()
        assert process.wait(5) == 0


@pytest.mark.skipif(not os.path.exists("/proc/net/tcp"), reason="needs /proc")
def test_idle_server_uses_no_cpu(fresh_server) -> None:
    """Nothing polls: an idle second costs no measurable CPU."""
    server = fresh_server()
    server.proxy("127.0.0.1:9")
    server.toxic("latency", latency=10)

    def cpu_ticks() -> int:
        fields = Path(f"/proc/{server.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return int(fields[11]) + int(fields[12])

    before = cpu_ticks()
    time.sleep(1)
    assert cpu_ticks() - before <= 1
