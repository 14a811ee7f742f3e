"""Replays the answers recorded from the reference server, where that recording is at hand.

The recording is not part of this repository; the facts that matter are test cases of their own in
test_api.py and test_data_path.py.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

RECORDING = Path(__file__).parents[3] / "shared" / "toxiproxy"
REPLAY_S = 110
COUNTS = {"status", "body"}  # differences in these matter; wording of JSON errors does not

# Where this server answers differently on purpose, and why.
DIFFERS = {
    "update-clash.3": "a change that fails changes nothing; the reference leaves it half done",
    "half-close-upstream": "half-close is kept: the other direction goes on",
    "half-close-client": "half-close is kept: the answer after the client's end arrives",
    "populate-clash-existing.2": "a replacement that fails leaves the old proxy running",
    "toxic-attrs.3": "a negative latency has no meaning: 400",
    "toxic-attrs.11": "so the toxic that was refused is not listed",
    "toxic-update-errors.10": "a change that fails changes nothing, its good attribute neither",
    "toxic-update-errors.12": "the same, seen once more",
    "stuck-reader": "a stuck reader never blocks the API",
}


@pytest.mark.slow
@pytest.mark.skipif(
    not (RECORDING / "cases.json").exists(), reason="no recording of the reference beside the repo"
)
def test_answers_as_the_reference_does(fresh_server) -> None:
    """Every recorded answer and behaviour is repeated, except for those in DIFFERS."""
    server = fresh_server()
    api = f"{server.host}:{server.port}"
    done = subprocess.run(
        [sys.executable, "conformance.py", "--api", api, "--check", "cases.json"],
        cwd=RECORDING,
        check=False,
        capture_output=True,
        text=True,
        timeout=REPLAY_S,
    )
    *misses, summary = [json.loads(line) for line in done.stdout.splitlines()]
    unexpected = [
        miss
        for miss in misses
        if (miss.get("behaviour") or set(miss["differs"]) & COUNTS)
        and miss.get("behaviour", miss.get("step")) not in DIFFERS
    ]
    assert unexpected == [], done.stderr
    assert summary["summary"]["steps"] >= 200
    assert summary["summary"]["behaviours"] >= 20
