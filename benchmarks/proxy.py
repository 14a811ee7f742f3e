"""The embedded proxy by the project's proxy benchmark (proxybench.py), as ratios in one run.

The benchmark program is not part of this repository; PROXYBENCH names it, or it lies beside the
clone in shared/toxiproxy/.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.figure import skip, tell

METRICS = "throughput1,rtt,connrate,latency_accuracy,bandwidth_accuracy,rss1000"
BOUND_S = 900


def main() -> None:
    """Start the server, run the benchmark against it, compare with the targets."""
    tool = Path(os.environ.get("PROXYBENCH", "../shared/toxiproxy/proxybench.py"))
    if not tool.exists() or not shutil.which("gcc"):
        skip("embedded proxy", f"needs gcc and {tool} (or PROXYBENCH)")
        return
    command = [sys.executable, "-m", "chaos.toxiproxy", "--host", "127.0.0.1", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            measure(tool, address(server.stdout.readline()))
        finally:
            server.terminate()


def address(line: str) -> str:
    """`host:port` from the line that the server prints when it listens."""
    try:
        told = json.loads(line)
        return str(told.get("api") or f"{told['host']}:{told['port']}")
    except (ValueError, KeyError, AttributeError):
        return line.split()[-1].removeprefix("http://").rstrip("/")


def measure(tool: Path, api: str) -> None:
    """One run of the benchmark, its lines turned into figures."""
    done = subprocess.run(
        [sys.executable, str(tool), "--api", api, "--label", "embedded", "--repeat", "3",
         "--only", METRICS, "--quiet-wait", "5"],
        capture_output=True, text=True, timeout=BOUND_S, check=False,
    )  # fmt: skip
    for line in done.stdout.splitlines():
        figure(json.loads(line))
    if done.returncode:
        skip("embedded proxy", done.stderr.strip().splitlines()[-1])


def figure(line: dict[str, Any]) -> None:
    """One line of the benchmark against its target."""
    metric = line["metric"]
    if metric.startswith("throughput1_"):
        share = 100 * (line["ratio"] or 0)
        tell(f"proxy {metric}", share, "% of direct", at_least=35)
    elif metric == "rtt_1B_echo":
        tell("proxy added round trip p50", line["added"]["p50_us"], "us", at_most=120)
    elif metric == "new_connections" and line["workers"] == 16:
        share = 100 * line["proxied"]["median"] / line["direct"]["median"]
        tell("proxy new connections, 16 workers", share, "% of direct", at_least=25)
    elif metric == "latency_accuracy":
        name = f"proxy latency {line['set_ms']} ms {line['stream']}"
        tell(f"{name} p50 error", line["p50"], "ms", at_most=0.6)
        tell(f"{name} earliest", line["min"], "ms", at_least=0)
    elif metric == "bandwidth_accuracy":
        error = abs(line["error_pct"])
        tell(f"proxy bandwidth {line['set_rate']} kB/s error", error, "%", at_most=3)
    elif metric == "rss_1000_idle":
        name = "touched" if line["one_byte_echoed"] else "untouched"
        tell(f"proxy idle connection, {name}", line["rss_kb_per_conn"], "kB", at_most=40)


if __name__ == "__main__":
    main()
