"""The Debian base under the hospital's image: the public one, or one made here by mmdebstrap.

It refuses to let half a base pass for a whole one: the name is given when all programs are done.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from stacks.hospital.image.failure import EngineAbsent, ImageFailure
from stacks.hospital.image.inputs import TAG_DIGITS, listed
from stacks.hospital.image.programs import ask, carry_out, flow, there

PUBLIC = "debian:bookworm-slim"
REPOSITORY = "hospital-chaos/base"
SUITE = "bookworm"
MIRROR = "http://deb.debian.org/debian"
LOOK_S = 10.0
PULL_S = 300.0
DEBOOTSTRAP_S = 420.0
MERGED_USR = Path("/usr/share/mmdebstrap/hooks/merged-usr")
"""With this hook no package has to merge /usr afterwards, which would bring all of Perl."""
UNREAD = (
    "path-exclude=/usr/share/doc/*",
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/lintian/*",
    "path-exclude=/usr/share/locale/*",
    "path-exclude=/usr/share/i18n/*",
    "path-exclude=/usr/lib/locale/*",
    "path-include=/usr/lib/locale/C.utf8/*",
)
"""What nobody reads in a container is not unpacked."""
HOW = ("auto", "online", "offline")

Hear = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Base:
    """The base that the image is built from."""

    image: str
    origin: str
    """`public` or `mmdebstrap`."""
    made: bool
    """Whether it had to be fetched or made just now."""


def own_name(packages: str) -> str:
    """The name of the base made here from this list of packages."""
    recipe = json.dumps([SUITE, *_options(listed(packages))])
    return f"{REPOSITORY}:{hashlib.sha256(recipe.encode()).hexdigest()[:TAG_DIGITS]}"


def base(packages: str, how: str, mirror: str, fresh: bool, hear: Hear) -> Base:
    """The base, fetched or made where it is not there yet; raises ImageFailure.

    `how` (of HOW) says whether a registry may or must be asked; `fresh` wants today's packages.
    A public base that lies here is no use without a network: its packages are still to come.
    """
    own = own_name(packages)
    if not fresh:
        if how != "online" and _exists(own):
            return Base(own, "mmdebstrap", made=False)
        if how == "online" and _exists(PUBLIC):
            return Base(PUBLIC, "public", made=False)
    if how != "offline":
        refusal = _pull(how == "online", hear)
        if refusal is None:
            return Base(PUBLIC, "public", made=True)
        if how == "online":
            raise ImageFailure(f"{PUBLIC} cannot be had: {refusal}; use --offline to make a base")
        hear(f"no registry gives {PUBLIC} ({refusal})")
    hear("making the Debian base with mmdebstrap")
    _debootstrap(own, listed(packages), mirror, hear)
    return Base(own, "mmdebstrap", made=True)


def _exists(image: str) -> bool:
    return ask("docker", "image", "inspect", "--format", "{{.Id}}", image) is not None


def _pull(insist: bool, hear: Hear) -> str | None:
    """Fetch the public base; the reason when no registry gives it. Raises EngineAbsent."""
    try:
        if not insist:  # a registry that can be reached answers soon
            carry_out(["docker", "manifest", "inspect", PUBLIC], LOOK_S)
        carry_out(["docker", "pull", PUBLIC], PULL_S, hear)
    except EngineAbsent:
        raise
    except ImageFailure as refusal:
        return str(refusal)
    return None


def _options(packages: tuple[str, ...]) -> tuple[str, ...]:
    merged = ("usr-is-merged",) if MERGED_USR.is_dir() else ()
    return (
        "--variant=essential",
        f"--include={','.join((*merged, *packages))}",
        *((f"--hook-dir={MERGED_USR}",) if merged else ()),
        '--aptopt=APT::Install-Recommends "false"',
        "--dpkgopt=force-unsafe-io",
        *(f"--dpkgopt={option}" for option in UNREAD),
    )


def _debootstrap(name: str, packages: tuple[str, ...], mirror: str, hear: Hear) -> None:
    if not there("mmdebstrap"):
        ask("docker", "version", "--format", "{{.Server.Version}}")  # that comes first
        ask("mmdebstrap", "--version")  # raises, with what to install
    last: list[str] = []

    def listen(line: str) -> None:
        last.append(line)
        if line.startswith(("I: ", "E: ")):
            hear(line.removeprefix("I: "))

    sources = (
        f"deb {mirror} {SUITE} main",
        f"deb {mirror} {SUITE}-updates main",
        f"deb {mirror}-security {SUITE}-security main",
    )
    making = ["mmdebstrap", "--format=tar", *_options(packages), SUITE, "-", *sources]
    importing = ["docker", "import", "--message", "made by mmdebstrap", "-"]
    flow([making, importing], DEBOOTSTRAP_S, listen, {"LC_ALL": "C"})
    found = next((line for line in reversed(last) if line.startswith("sha256:")), None)
    if found is None or ask("docker", "tag", found, name) is None:
        raise ImageFailure(f"docker import made no image that could be named {name}")
