"""The program that makes sure the hospital's image exists and prints its tag.

It refuses to hide where time went: steps, seconds, size and layers go to stderr.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import NoReturn

from stacks.hospital.image.base import HOW, MIRROR, PUBLIC
from stacks.hospital.image.build import Made, Order, ensure, measure
from stacks.hospital.image.failure import EXIT_USAGE, ImageFailure
from stacks.hospital.image.inputs import inputs

EXIT_INTERRUPTED = 130
MEGA = 1e6
HELP = f"""\
Make sure that the one image of the mock hospital exists; print its tag as the last line.

The tag is made from the digest of everything that goes in (lists of packages, Dockerfile, code of
services and proxy), so an image that is there already is right and nothing is built. What is built
anew after a change: code only 5 s, Python packages 20 s, Debian packages a minute.

The Debian base is {PUBLIC} where a registry answers; else mmdebstrap makes one from a
Debian mirror. Python wheels are fetched by this machine's pip and kept in ~/.cache/hospital-chaos.
"""
EXAMPLES = """\
examples:
  python -m stacks.hospital.image                     build it if need be, print its tag
  python -m stacks.hospital.image --offline           never ask a registry
  python -m stacks.hospital.image --report image.json size, layers and seconds as JSON
  python -m stacks.hospital.image --tag-only          print the tag, build nothing, ask nobody
  python -m stacks.hospital.image --fresh             all anew, with the Debian packages of today

It ends with 0, with 64 (wrong usage) or 69 (no Docker engine, no network, full disk, ...), then
with one line that says what to do.
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        print(f"{self.prog}: {message}; see --help", file=sys.stderr)
        raise SystemExit(EXIT_USAGE)


def parser() -> argparse.ArgumentParser:
    """The program's options."""
    made = _Parser(
        "python -m stacks.hospital.image", description=HELP, epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    how = made.add_mutually_exclusive_group()
    for one, text in zip(
        HOW,
        (
            "ask a registry, make the base here if none answers (default)",
            "insist on the public base",
            "make the base here, never ask a registry",
        ),
        strict=True,
    ):
        how.add_argument(f"--{one}", dest="how", action="store_const", const=one, help=text)
    made.add_argument("--mirror", default=MIRROR, help=f"Debian mirror (default {MIRROR})")
    made.add_argument("--report", type=Path, metavar="FILE", help="write what was made as JSON")
    made.add_argument("--fresh", action="store_true", help="build although it is there, no cache")
    made.add_argument("--tag-only", action="store_true", help="print the tag and do nothing")
    made.set_defaults(how=HOW[0])
    return made


def main(words: list[str] | None = None) -> None:
    """Exit status 0, EXIT_USAGE or EXIT_UNAVAILABLE; see HELP."""
    given = parser().parse_args(words)
    start = time.monotonic()

    def hear(line: str) -> None:
        print(f"{time.monotonic() - start:6.1f} s  {line}", file=sys.stderr, flush=True)

    try:
        wanted = inputs()
        if not given.tag_only:
            made = ensure(wanted, Order(given.how, given.mirror.rstrip("/"), given.fresh), hear)
            if made.built or given.report:
                measure(made)
            made.seconds["all"] = round(time.monotonic() - start, 2)
            _tell(made, given.report)
    except ImageFailure as failure:
        print(f"image: {failure}", file=sys.stderr)
        raise SystemExit(failure.status) from None
    except OSError as error:
        print(f"image: {error}", file=sys.stderr)
        raise SystemExit(EXIT_USAGE) from None
    except KeyboardInterrupt:
        print("image: interrupted; nothing half-made has the image's name", file=sys.stderr)
        raise SystemExit(EXIT_INTERRUPTED) from None
    print(wanted.tag)


def _tell(made: Made, report: Path | None) -> None:
    if report is not None:
        report.write_text(made.json() + "\n", encoding="utf-8")
    if not made.built:
        return
    for layer in made.layers:
        print(f"{int(str(layer['bytes'])) / MEGA:8.1f} MB  {layer['by']}", file=sys.stderr)
    steps = ", ".join(f"{step} {seconds:.1f} s" for step, seconds in made.seconds.items())
    print(f"{made.size_bytes / MEGA:8.1f} MB  {made.tag} ({steps})", file=sys.stderr)


if __name__ == "__main__":
    main()
