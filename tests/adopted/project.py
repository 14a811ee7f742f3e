"""Makes the shop's image from Debian packages, starts it with Compose, and looks at it.

It builds once (the image stays, named by the digest of what is in it) and removes every project
that it started.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent / "shop"
PACKAGES = "python3-minimal,python3,redis-server"
MIRROR = "http://deb.debian.org/debian"
BUILD_S = 400
CALL_S = 120


def ask(*command: str, env: dict[str, str] | None = None, bound_s: float = CALL_S) -> str:
    """Output of a program; its last words when it fails."""
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=bound_s, check=False,
        env={**os.environ, **(env or {})},
    )  # fmt: skip
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr[-800:]}"
    return done.stdout


def compose() -> tuple[str, ...]:
    """The Compose that is installed; skips with the reason when none is."""
    found = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
    if found.returncode == 0:
        return ("docker", "compose")
    if path := shutil.which("docker-compose"):
        return (path,)
    pytest.skip("no Compose here (Debian: apt-get install docker-compose)")


def image() -> str:
    """The tag of the shop's image, made from a Debian base where it is missing."""
    program = (HERE / "shop.py").read_bytes()
    base = f"hospital-chaos-test/redis:{hashlib.sha256(PACKAGES.encode()).hexdigest()[:12]}"
    tag = f"hospital-chaos-test/shop:{hashlib.sha256(base.encode() + program).hexdigest()[:12]}"
    if not ask("docker", "images", "-q", base):
        if not shutil.which("mmdebstrap"):
            pytest.skip("mmdebstrap is not installed (apt-get install mmdebstrap)")
        recipe = (
            "set -o pipefail; mmdebstrap --format=tar --variant=essential "
            f"--include={PACKAGES} --aptopt='APT::Install-Recommends \"false\"' "
            f"--dpkgopt=force-unsafe-io bookworm - {MIRROR} | docker import - {base}"
        )
        ask("bash", "-c", recipe, env={"LC_ALL": "C"}, bound_s=BUILD_S)
    if not ask("docker", "images", "-q", tag):
        recipe = f"FROM {base}\nCOPY shop.py /shop.py\n"
        ask("bash", "-c", f"docker build -q -t {tag} -f - {HERE} <<< '{recipe}'", bound_s=BUILD_S)
    return tag


class Shop:
    """The running project."""

    def __init__(self, name: str, keep: bool) -> None:
        self.name = name
        self.env = {
            "COMPOSE_PROJECT_NAME": name, "SHOP_PROJECT": name, "SHOP_IMAGE": image(),
            "KEEP": str(int(keep)),
        }  # fmt: skip
        self._compose = (*compose(), "-f", str(HERE / "compose.yaml"))

    def compose(self, *words: str) -> str:
        """`docker compose WORDS` on this project."""
        return ask(*self._compose, *words, env=self.env)

    def container(self, service: str) -> str:
        """The name of its one container."""
        return ask(
            "docker", "ps", "-a", "--format", "{{.Names}}",
            "--filter", f"label=com.docker.compose.project={self.name}",
            "--filter", f"label=com.docker.compose.service={service}",
        ).strip()  # fmt: skip

    def inspect(self, service: str) -> dict[str, Any]:
        """As the engine sees it now."""
        (found,) = json.loads(ask("docker", "inspect", self.container(service)))
        return dict(found)

    def as_it_is(self, service: str) -> dict[str, Any]:
        """All of a container that must be after a run what it was before."""
        seen = self.inspect(service)
        networks = seen["NetworkSettings"]["Networks"]
        return {
            "id": seen["Id"], "name": seen["Name"], "config": seen["Config"],
            "host": seen["HostConfig"], "running": seen["State"]["Running"],
            "paused": seen["State"]["Paused"],
            "networks": {
                name: (one["IPAddress"], one["MacAddress"], sorted(one["Aliases"]))
                for name, one in networks.items()
            },
        }  # fmt: skip


@contextmanager
def running(keep: bool = False) -> Iterator[Shop]:
    """A shop of its own, taken down afterwards."""
    shop = Shop(f"shop{secrets.token_hex(3)}", keep)
    shop.compose("up", "-d")
    try:
        yield shop
    finally:
        shop.compose("down", "-t", "1", "-v")
