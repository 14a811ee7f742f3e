"""`make bench`: every benchmark in a process of its own; one JSON line per figure."""

from __future__ import annotations

import argparse
import subprocess
import sys

ALL = ("journal", "judge", "faults", "stack", "experiment", "proxy", "storage", "containers")


def main() -> int:
    """Run the named benchmarks (all by default); exit 1 when one of them failed to run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help=f"some of: {', '.join(ALL)} (default: all)")
    names = parser.parse_args().names or ALL
    if unknown := sorted(set(names) - set(ALL)):
        parser.error(f"unknown: {', '.join(unknown)}; there are: {', '.join(ALL)}")
    failed = [
        name
        for name in names
        if subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=False).returncode
    ]
    if failed:
        print(f"could not run: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
