"""The image of the light and the speaking stack: the hospital's own, their programs on top.

    python -m tests.light_image        prints the tag; builds where an input has changed

It adds no package: Python and the proxy server are in the image below.
"""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import tarfile
from contextlib import suppress
from pathlib import Path

import docker
import docker.errors

from tests.light_stack import IN_IMAGE, PROGRAM

REPOSITORY = "hospital-chaos/light"
BUILD_S = 900
KEPT_IMAGES = 4
"""So many of the newest stay: another working tree may still use them."""
PROGRAMS = ("light_service.py", "speaking_service.py")


def main() -> None:
    """Print the image's tag."""
    print(tag())


def tag() -> str:
    """Build (or find) the image."""
    below = subprocess.run(
        [sys.executable, "-m", "stacks.hospital.image"],
        stdout=subprocess.PIPE, text=True, check=True, timeout=BUILD_S,
    ).stdout.split()[-1]  # fmt: skip
    programs = {name: (Path(PROGRAM).parent / name).read_bytes() for name in PROGRAMS}
    digest = hashlib.sha256(below.encode() + b"".join(programs.values())).hexdigest()[:12]
    name = f"{REPOSITORY}:{digest}"
    client = docker.from_env(timeout=BUILD_S)
    if not client.images.list(name=name):
        recipe = f"FROM {below}\nCOPY {' '.join(PROGRAMS)} {IN_IMAGE}/\n".encode()
        files = {"Dockerfile": recipe, **programs}
        client.images.build(fileobj=_packed(files), custom_context=True, tag=name, rm=True)
        _forget_old(client)
    return name


def _forget_old(client: docker.DockerClient) -> None:
    images = client.api.images(name=REPOSITORY)
    earlier = sorted(images, key=lambda image: image["Created"], reverse=True)[KEPT_IMAGES:]
    for one in (tag for image in earlier for tag in image["RepoTags"]):
        with suppress(docker.errors.APIError):  # one in use stays
            client.images.remove(one)


def _packed(files: dict[str, bytes]) -> io.BytesIO:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, content in files.items():
            about = tarfile.TarInfo(name)
            about.size, about.mode = len(content), 0o644
            archive.addfile(about, io.BytesIO(content))
    packed.seek(0)
    return packed


if __name__ == "__main__":
    main()
