"""Makes sure that the image is there: builds it where its inputs have no image yet.

It refuses to build twice at a time, and to remove an image that is not an old one of its own.
"""

from __future__ import annotations

import fcntl
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from stacks.hospital.image.base import Base, base
from stacks.hospital.image.failure import ImageFailure
from stacks.hospital.image.inputs import REPOSITORY, Inputs
from stacks.hospital.image.programs import ask, carry_out
from stacks.hospital.image.wheelhouse import cache_folder, wheelhouse
from stacks.hospital.settings import SettingsError

LABEL = "hospital-chaos.inputs"
STAGE = "hospital-chaos.stage"
COMPILE_S = 60.0
BUILD_S = 600.0
LOCK_WAIT_S = 900.0
LOCK_POLL_S = 0.2
LINE = 110
BUILDER = {"BUILDX_BUILDER": "default", "BUILDKIT_PROGRESS": "plain"}
"""Where buildx is installed: its builder inside the engine, the only one that sees our base."""
STAGES_KEPT = "168h"
KEPT_IMAGES = 4
"""So many images of earlier inputs stay: another working tree may still use them."""

Hear = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Order:
    """How the image shall be made, if it must be."""

    how: str
    mirror: str
    fresh: bool = False


@dataclass(slots=True)
class Made:
    """What was made or found; `seconds` by step."""

    tag: str
    inputs: str
    built: bool = False
    base: str = ""
    base_origin: str = ""
    seconds: dict[str, float] = field(default_factory=dict)
    size_bytes: int = 0
    layers: list[dict[str, object]] = field(default_factory=list)

    def json(self) -> str:
        """As JSON, for `--report`."""
        return json.dumps(asdict(self), indent=1)


def ensure(inputs: Inputs, order: Order, hear: Hear) -> Made:
    """The image of these inputs, built if it is not there; raises ImageFailure."""
    made = Made(inputs.tag, inputs.digest)
    if not order.fresh and _is_there(inputs):
        return made
    with _alone(cache_folder(), hear):
        if not order.fresh and _is_there(inputs):
            return made  # another one built it while this one waited
        _build(inputs, order, made, hear)
    made.built = True
    _forget_old(made.tag)
    return made


def measure(made: Made) -> None:
    """Fill in size and layers as Docker tells them; raises ImageFailure."""
    size = ask("docker", "image", "inspect", "--format", "{{.Size}}", made.tag)
    made.size_bytes = int(size or 0)
    shape = '{"bytes": {{json .Size}}, "by": {{json .CreatedBy}}, "comment": {{json .Comment}}}'
    told = ask("docker", "history", "--no-trunc", "--human=false", "--format", shape, made.tag)
    layers = [json.loads(line) for line in (told or "").splitlines()]
    made.layers = [
        {"bytes": int(one["bytes"]), "by": _short(one["by"] or one["comment"])}
        for one in reversed(layers)
        if int(one["bytes"])
    ]


def _short(text: str) -> str:
    words = text.replace("/bin/sh -c ", "").replace("#(nop) ", "").replace("|1 ", "")
    return " ".join(words.split())[:90]


def _is_there(inputs: Inputs) -> bool:
    label = f'{{{{index .Config.Labels "{LABEL}"}}}}'
    found = ask("docker", "image", "inspect", "--format", label, inputs.tag)
    return found == inputs.digest


def _build(inputs: Inputs, order: Order, made: Made, hear: Hear) -> None:
    packages, requirements = inputs.text("packages.txt"), inputs.text("requirements.txt")
    with ThreadPoolExecutor(1) as beside:  # Debian and PyPI are different networks' ends
        fetching = beside.submit(_wheels, requirements, order, made, hear)
        with _timed(made, "base"):
            ground = base(packages, order.how, order.mirror, order.fresh, hear)
        wheels = fetching.result()  # bounded: each program it runs is
    made.base, made.base_origin = ground.image, ground.origin
    with _timed(made, "build"), tempfile.TemporaryDirectory(prefix="hospital-image-") as folder:
        context = Path(folder)
        try:
            inputs.write(context)
            _link(wheels, context / "wheels")
        except OSError as error:
            raise ImageFailure(f"the build's context cannot be written: {error}") from None
        _libraries(context / "guard", ground)
        _docker_build(inputs, ground, context, order.fresh, hear)


def _wheels(requirements: str, order: Order, made: Made, hear: Hear) -> Path:
    with _timed(made, "wheels"):
        return wheelhouse(requirements, cache_folder() / "wheelhouse", order.fresh, hear)


def _link(wheels: Path, target: Path) -> None:
    target.mkdir()
    for wheel in wheels.iterdir():
        _copy(wheel, target / wheel.name)


def _copy(source: Path, target: Path) -> None:
    try:
        target.hardlink_to(source)
    except OSError:
        target.write_bytes(source.read_bytes())


def _libraries(folder: Path, ground: Base) -> None:
    """Compile what is preloaded (Orthanc's guard, the clock) here; without a compiler only a
    build with a network can."""
    # Imported late: it brings DICOM along, and an image that is there need not wait for that.
    from stacks.hospital.imaging import orthanc

    try:
        orthanc.guard({}, folder)
        carry_out(
            [orthanc.compiler() or "cc", "-shared", "-fPIC", "-O2", "-o",
             str(folder / "wall-clock.so"), str(folder / "wall_clock.c"), "-ldl"],
            COMPILE_S,
        )  # fmt: skip
        for library in folder.glob("*.so"):
            library.chmod(0o755)  # whatever our own umask is
    except SettingsError as error:
        if ground.origin != "public":
            raise ImageFailure(f"{error}; apt-get install gcc libc6-dev") from None


def _docker_build(inputs: Inputs, ground: Base, context: Path, fresh: bool, hear: Hear) -> None:
    command = [
        "docker", "build", "--force-rm",  # a step that fails leaves no container behind
        "--tag", inputs.tag, "--tag", f"{REPOSITORY}:latest",
        "--build-arg", f"BASE={ground.image}",
        "--label", f"{LABEL}={inputs.digest}", "--label", f"hospital-chaos.base={ground.image}",
        *(("--no-cache",) if fresh else ()),
        # Our own base has every package in it: its build neither needs nor gets a network.
        *(("--network", "none") if ground.origin != "public" else ()), str(context),
    ]  # fmt: skip

    def listen(line: str) -> None:
        if line.startswith(("Step ", "#")) and " [internal]" not in line:
            hear(line[:LINE])

    carry_out(command, BUILD_S, listen, BUILDER)


def _forget_old(tag: str) -> None:
    """Untag all but the newest earlier images (one in use stays: Docker refuses, nothing is
    forced), and let go of the stages of builds that nobody repeated for a week."""
    told = ask(
        "docker", "image", "ls", "--filter", f"label={LABEL}", "--format", "{{.Tag}}", REPOSITORY
    )
    earlier = [one for one in (told or "").split() if one not in ("latest", tag.partition(":")[2])]
    for one in earlier[KEPT_IMAGES:]:
        ask("docker", "image", "rm", f"{REPOSITORY}:{one}")
    prune = ("docker", "image", "prune", "--force", "--filter")
    ask(*prune, f"label={LABEL}")  # whose name a fresh image of the same inputs has taken
    ask(*prune, f"label={STAGE}", "--filter", f"until={STAGES_KEPT}")


@contextmanager
def _timed(made: Made, step: str) -> Iterator[None]:
    start = time.monotonic()
    try:
        yield
    finally:
        made.seconds[step] = round(time.monotonic() - start, 2)


@contextmanager
def _alone(folder: Path, hear: Hear) -> Iterator[None]:
    """Hold an exclusive lock; the kernel frees it when its holder dies."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = (folder / "image.lock").open("w")
    except OSError as error:
        raise ImageFailure(f"{folder} cannot be written: {error}; set XDG_CACHE_HOME") from None
    with held:
        deadline = time.monotonic() + LOCK_WAIT_S
        waiting = False
        while True:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not waiting:
                    hear("another one builds the image; waiting for it")
                waiting = True
                if time.monotonic() > deadline:
                    raise ImageFailure(
                        f"another one builds the image since {LOCK_WAIT_S:.0f} s; see what it does"
                    ) from None
                time.sleep(LOCK_POLL_S)
        yield
