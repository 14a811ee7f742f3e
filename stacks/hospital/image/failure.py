"""How making the image fails: one line for a person, and the status that the program ends with.

It refuses to guess a cause that the failed program did not name.
"""

from __future__ import annotations

EXIT_USAGE = 64
EXIT_UNAVAILABLE = 69
LAST_LINES = 3
_NO_ENGINE = "no Docker engine answers; start it (systemctl start docker) or set DOCKER_HOST"
_ENGINE = (
    (
        "permission denied while trying to connect",
        "Docker's socket may not be opened by this user; join the group `docker` or use sudo",
    ),
    ("connect to the docker daemon", _NO_ENGINE),
    ("connect to the docker api", _NO_ENGINE),
    ("error during connect", _NO_ENGINE),
)
_OTHERS = (
    (
        "no space left on device",
        "the disk is full; `docker system df` shows what Docker keeps, `docker image prune` frees"
        " unused layers",
    ),
    ("no module named pip", "this Python has no pip to fetch wheels with; python -m ensurepip"),
    ("failure resolving", "no Debian mirror is known by that name here; give one with --mirror"),
    ("could not connect to", "the Debian mirror cannot be reached; give another with --mirror"),
)


class ImageFailure(RuntimeError):
    """The image cannot be made; the text is one line: what happened and what to do."""

    status = EXIT_UNAVAILABLE


class EngineAbsent(ImageFailure):
    """There is no Docker engine to make an image with."""


def said(program: str, output: str) -> ImageFailure:
    """The failure of `program`, whose last words are in `output`: a known cause, else its words."""
    lowered = output.lower()
    for sign, remedy in _ENGINE:
        if sign in lowered:
            return EngineAbsent(remedy)
    for sign, remedy in _OTHERS:
        if sign in lowered:
            return ImageFailure(f"{program}: {remedy}")
    lines = [line.strip() for line in output.strip().splitlines() if line.strip()]
    return ImageFailure(f"{program} failed: {' / '.join(lines[-LAST_LINES:]) or 'without a word'}")
