"""Makes a new standby from the template instead of a base backup, when that is sound.

    python -m stacks.hospital.template_clone --datadir=D --connstring=C ...   (run by Patroni)

The template is a cold copy of a cleanly stopped cluster. If the primary itself began from it
(same system identifier), is still on its first timeline and still has all log since then, a copy
of it is a valid standby: it replays everything that the primary ever did. It spares the primary a
checkpoint and the standby the fsync of every file that follows a base backup.

It refuses in every other case (exit status 1): Patroni then takes a base backup.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from stacks.hospital import postgres
from stacks.hospital.cluster_template import existing_template

ASK_S = 5.0
COPY_S = 30.0
KEPT_BYTES = 48 * 1024 * 1024
"""Less than the primary's wal_keep_size (64 MB): so far back its log is there in any case."""


class Unsound(Exception):
    """The template must not be used; the text says why."""


def log_position(text: str) -> int:
    """A position in the log, such as `0/1400050`, as a number of bytes."""
    high, _, low = text.partition("/")
    return (int(high, 16) << 32) + int(low, 16)


def check(template: str, primary: str) -> None:
    """Compare pg_controldata of the template with IDENTIFY_SYSTEM of the primary.

    Raises Unsound.
    """
    facts = dict(re.findall(r"^(.+?):\s+(.+)$", template, re.MULTILINE))
    system, timeline, position = primary.strip().split("|")[:3]
    if facts["Database cluster state"] != "shut down":
        raise Unsound(f"the template was not cleanly stopped: {facts['Database cluster state']}")
    if system != facts["Database system identifier"]:
        raise Unsound("the primary did not begin from this template")
    if timeline != facts["Latest checkpoint's TimeLineID"]:
        raise Unsound(f"the primary is on timeline {timeline} already")
    written = log_position(position) - log_position(facts["Latest checkpoint location"])
    if not 0 <= written <= KEPT_BYTES:
        raise Unsound(f"the primary has written {written} bytes of log since")


def clone(data_dir: Path, connstring: str) -> None:
    """Copy the template to `data_dir`. Raises Unsound, OSError, SubprocessError."""
    text = os.environ.get("STACK_TEMPLATE")
    template = existing_template(Path(text) if text else None)
    if template is None:
        raise Unsound("there is no shared template")
    binaries = postgres.binaries()
    control = _output([str(binaries / "pg_controldata"), str(template)])
    target = f"{connstring} dbname=postgres replication=1"
    check(control, _output([str(binaries / "psql"), "-XAtw", "-c", "IDENTIFY_SYSTEM", target]))
    copying = ["cp", "--archive", "--reflink=auto", "--no-target-directory"]
    subprocess.run([*copying, template, data_dir], check=True, timeout=COPY_S)


def _output(command: list[str]) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=ASK_S, check=True,
        env={**os.environ, "LC_ALL": "C"},
    )  # fmt: skip
    return done.stdout


def main() -> None:
    """Exit status 0: `--datadir` is a standby's data directory; 1: it is absent."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--datadir", type=Path, required=True)
    parser.add_argument("--connstring", required=True)
    given, _ = parser.parse_known_args()
    try:
        clone(given.datadir, given.connstring)
    except (Unsound, OSError, subprocess.SubprocessError, ValueError, KeyError) as error:
        shutil.rmtree(given.datadir, ignore_errors=True)
        print(f"template not used: {error}", file=sys.stderr, flush=True)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
