"""The image's program: what names an image, what is built, and how it fails. No engine needed:
`docker` and `mmdebstrap` are small programs of the test, first on PATH.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from stacks.hospital.image import base, build, programs
from stacks.hospital.image.failure import EngineAbsent, ImageFailure, said
from stacks.hospital.image.inputs import ROOT, Inputs, inputs, listed
from stacks.hospital.image.wheelhouse import place, platforms, source_only
from stacks.hospital.imaging import orthanc
from stacks.hospital.stack import hospital

IMAGE = ROOT / "stacks" / "hospital" / "image"
BESIDE = {"{python}", "-m"}
RUN_BY_OTHERS = ("chaos.toxiproxy.__main__", "stacks.hospital.template_clone")
"""Started in containers, but by no service's command: the gateways' proxy, and Patroni's clone."""
PROVIDED = {"docker": "docker", "mmdebstrap": "mmdebstrap"}

# A Docker engine that keeps its images as files below $FAKE and builds by noting the label.
DOCKER = r"""#!/bin/sh
echo "docker $*" >> "$FAKE/calls"
label() { for word; do case $word in hospital-chaos.inputs=*) echo "${word#*=}";; esac; done; }
case "$1 $2" in
    "image inspect")
        case "$*" in
            *Labels*) [ -e "$FAKE/built" ] && cat "$FAKE/built" || exit 1 ;;
            *Size*) echo 1000 ;;
            *debian:*) [ -e "$FAKE/public" ] || exit 1 ;;
            *) [ -e "$FAKE/base" ] || exit 1 ;;
        esac ;;
    "manifest inspect") [ -n "$REGISTRY" ] || { echo "no such host" >&2; exit 1; } ;;
    "pull "*) [ -n "$REGISTRY" ] || { echo "no such host" >&2; exit 1; }; touch "$FAKE/public" ;;
    "import "*) cat > /dev/null; echo sha256:0123 ;;
    "tag "*) touch "$FAKE/base" ;;
    "build "*)
        sleep "${BUILD_S:-0}"
        echo "Step 1/1 : FROM x"
        [ -z "$BROKEN_BUILD" ] || { echo "$BROKEN_BUILD" >&2; exit 1; }
        label "$@" > "$FAKE/built" ;;
esac
"""
MMDEBSTRAP = r"""#!/bin/sh
echo "mmdebstrap $*" >> "$FAKE/calls"
echo "I: extracting archives..." >&2
echo tar
[ -z "$BROKEN_BASE" ] || { echo "E: $BROKEN_BASE" >&2; exit 1; }
"""


class Machine:
    """A machine with a Docker engine, mmdebstrap and fetched wheels, none of them real."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "bin").mkdir()
        for name, text in (("docker", DOCKER), ("mmdebstrap", MMDEBSTRAP)):
            program = folder / "bin" / name
            program.write_text(text)
            program.chmod(0o755)
        text = (IMAGE / "requirements.txt").read_text()
        place(text, folder / "cache" / "hospital-chaos" / "wheelhouse").mkdir(parents=True)
        (folder / "calls").touch()

    def start(self, *words: str, **variables: str) -> subprocess.Popen[str]:
        environment = {
            **os.environ,
            "PATH": f"{self.folder / 'bin'}:/usr/bin:/bin",
            "FAKE": str(self.folder),
            "XDG_CACHE_HOME": str(self.folder / "cache"),
            **variables,
        }
        return subprocess.Popen(
            [sys.executable, "-m", "stacks.hospital.image", *words], cwd=ROOT, env=environment,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def run(self, *words: str, **variables: str) -> tuple[int, str, str]:
        """Exit status, stdout, stderr."""
        process = self.start(*words, **variables)
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err

    def called(self, words: str) -> int:
        calls = (self.folder / "calls").read_text().splitlines()
        return sum(call.startswith(words) for call in calls)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    if shutil.which("cc") is None:
        pytest.skip("no C compiler for Orthanc's guard")
    return Machine(tmp_path)


@pytest.fixture(scope="module")
def wanted() -> Inputs:
    return inputs()


def small_tree(root: Path) -> Path:
    """A tree with a file for each kind of input."""
    for name in (
        "chaos/__init__.py", "chaos/toxiproxy/api.py", "chaos/faults/kill.py",
        "stacks/__init__.py", "stacks/hospital/__init__.py", "stacks/hospital/gam.py",
        "stacks/hospital/cluster_template.py", "stacks/hospital/postgres.py",
        "stacks/hospital/claims/record.py", "stacks/hospital/traffic/day.py",
        "stacks/hospital/ehr/schema.sql", "stacks/hospital/imaging/orthanc_guard.c",
        "chaos/runtime/wall_clock.c",
        "stacks/hospital/image/packages.txt", "stacks/hospital/image/requirements.txt",
        "stacks/hospital/image/build.py", "stacks/hospital/Dockerfile",
    ):  # fmt: skip
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    return root


@pytest.mark.parametrize(
    ("changed", "counts"),
    [
        ("stacks/hospital/gam.py", True),
        ("stacks/hospital/ehr/schema.sql", True),
        ("stacks/hospital/imaging/orthanc_guard.c", True),
        ("chaos/runtime/wall_clock.c", True),
        ("stacks/hospital/Dockerfile", True),
        ("stacks/hospital/image/packages.txt", True),
        ("stacks/hospital/image/requirements.txt", True),
        ("chaos/toxiproxy/api.py", True),
        ("stacks/hospital/new_service.py", True),
        ("chaos/faults/kill.py", False),
        ("stacks/hospital/claims/record.py", False),
        ("stacks/hospital/traffic/day.py", False),
        ("stacks/hospital/image/build.py", False),
        ("stacks/hospital/__pycache__/gam.cpython-311.pyc", False),
        ("stacks/hospital/.gam.py.swp", False),
    ],
)
def test_the_tag_tells_what_is_inside(tmp_path: Path, changed: str, counts: bool) -> None:
    """The tag changes with every input, and with nothing that does not run in a container."""
    before = inputs(small_tree(tmp_path)).tag
    assert before == inputs(small_tree(tmp_path)).tag
    (tmp_path / changed).parent.mkdir(exist_ok=True)
    (tmp_path / changed).write_text("something else")
    assert (inputs(tmp_path).tag != before) is counts


def test_an_edit_during_a_build_is_not_in_it(tmp_path: Path) -> None:
    """What is built is what was read for the tag, whatever is written into the tree meanwhile."""
    read = inputs(small_tree(tmp_path / "tree"))
    tag = read.tag
    (tmp_path / "tree" / "stacks/hospital/gam.py").write_text("edited")
    read.write(tmp_path / "context")
    laid_out = tmp_path / "context/code/stacks/hospital/gam.py"
    assert laid_out.read_text() == "stacks/hospital/gam.py"
    assert read.tag == tag


def _module(name: str) -> Path | None:
    path = ROOT.joinpath(*name.split("."))
    found = (path.with_suffix(".py"), path / "__init__.py")
    return next((one for one in found if one.is_file()), None)


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from (one.name for one in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{one.name}" for one in node.names)


def _closure() -> tuple[set[Path], set[str]]:
    """All modules of ours that run in containers, and the foreign packages that they import."""
    todo = [w for s in hospital(defect="").services for w in s.command if w not in BESIDE]
    todo += [f"{word}.__main__" for word in todo] + list(RUN_BY_OTHERS)
    seen: set[Path] = set()
    foreign: set[str] = set()
    lazily = ROOT / "chaos" / "__init__.py"  # loads the harness when its names are first used
    while todo:
        name = todo.pop()
        top = name.partition(".")[0]
        if top not in ("chaos", "stacks"):
            if top not in sys.stdlib_module_names:
                foreign.add(top)
            continue
        path = _module(name)
        if path is None or path in seen:
            continue
        seen.add(path)
        parts = name.split(".")
        todo += [".".join(parts[:length]) for length in range(1, len(parts))]
        todo += [] if path == lazily else list(_imports(path))
    return seen, foreign


def test_everything_that_a_service_imports_is_in_the_image(wanted: Inputs) -> None:
    """No service, clone or proxy fails in a container for a module that was left out."""
    modules, _ = _closure()
    names = {f"code/{path.relative_to(ROOT).as_posix()}" for path in modules}
    assert len(names) > 100
    assert names <= set(wanted.files)


def _pinned() -> dict[str, str]:
    entries = listed((IMAGE / "requirements.txt").read_text())
    pairs = [entry.split("==") for entry in entries]
    assert all(len(pair) == 2 for pair in pairs), "every package has one exact version"
    return {canonicalize_name(name): version for name, version in pairs}


def test_every_foreign_package_that_a_service_imports_is_pinned() -> None:
    """What runs in containers needs nothing that is not installed there."""
    _, foreign = _closure()
    distributions = {"yaml": "pyyaml"}
    assert {"starlette", "psycopg", "patroni", "pydicom"} <= foreign
    missing = {distributions.get(one, one) for one in foreign} - set(_pinned())
    assert not missing


def test_pins_are_what_the_project_asks_for() -> None:
    """A version in the image lies in the range that the project states for the process runtime."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pinned = _pinned()
    asked = [Requirement(text) for text in project["dependencies"]]
    both = [one for one in asked if canonicalize_name(one.name) in pinned]
    assert len(both) >= 10
    for one in both:
        assert one.specifier.contains(pinned[canonicalize_name(one.name)]), str(one)


def test_the_image_holds_no_tool_of_developers() -> None:
    """Tests, load generator and terminal stay outside."""
    assert not {"pytest", "locust", "rich", "mypy", "typer", "pip"} & set(_pinned())


def test_wheels_of_bookworm_and_older() -> None:
    """Wheels for bookworm's glibc and all older ones are taken, for newer ones none."""
    taken = platforms("aarch64")
    assert {"manylinux_2_36_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64"} <= {*taken}
    assert "manylinux_2_37_aarch64" not in taken


def test_source_only_packages_are_found() -> None:
    """Only marked entries are built from source; comments of other kinds mark nothing."""
    text = "# source of all evil\na==1\nb==2  # source\nc==3 # sourced\n"
    assert source_only(text) == ("b==2",)
    assert listed(text) == ("a==1", "b==2", "c==3")


@pytest.mark.parametrize(
    ("output", "remedy", "kind"),
    [
        ("Cannot connect to the Docker daemon at unix:///x. Is it running?", "start", EngineAbsent),
        ("failed to connect to the docker API at unix:///x", "start", EngineAbsent),
        ("Got permission denied while trying to connect to the Docker daemon", "group",
         EngineAbsent),
        ("write /x: no space left on device", "docker system df", ImageFailure),
        ("E: Temporary failure resolving 'deb.debian.org'", "--mirror", ImageFailure),
        ("/usr/bin/python3: No module named pip", "ensurepip", ImageFailure),
        ("first\nsecond\nthird\nfourth\n", "second / third / fourth", ImageFailure),
        ("", "without a word", ImageFailure),
    ],
)  # fmt: skip
def test_a_failure_is_one_line_with_a_remedy(
    output: str, remedy: str, kind: type[ImageFailure]
) -> None:
    """What a program said becomes one line; known causes come with what to do."""
    failure = said("docker", output)
    assert type(failure) is kind
    assert remedy in str(failure)
    assert "\n" not in str(failure)


def test_a_pipe_carries_and_tells() -> None:
    """What the first program writes reaches the second; the second's words are heard."""
    heard: list[str] = []
    programs.flow([["printf", "b\\na\\n"], ["sort"]], 10, heard.append)
    assert heard == ["a", "b"]


def test_the_first_failure_of_a_pipe_counts() -> None:
    """A pipe whose first program fails has failed, though the last one is content."""
    with pytest.raises(ImageFailure, match="sh failed: broken"):
        programs.flow([["sh", "-c", "echo broken >&2; exit 3"], ["cat"]], 10)


def test_a_program_that_hangs_is_ended() -> None:
    """No step takes longer than its bound, also where a program ignores SIGTERM."""
    begun = time.monotonic()
    with pytest.raises(ImageFailure, match="not done in 0 s"):
        programs.carry_out(["sleep", "60"], 0.3)
    assert time.monotonic() - begun < programs.END_S
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
    with pytest.raises(ImageFailure, match="not done in 1 s"):
        programs.carry_out([sys.executable, "-c", deaf], 1.0)
    assert time.monotonic() - begun < 3 * programs.END_S


def test_the_base_is_named_by_its_packages() -> None:
    """Another list of packages is another base; a comment is none."""
    assert base.own_name("python3\n") == base.own_name("# why\npython3 # because\n")
    assert base.own_name("python3\n") != base.own_name("python3\northanc\n")


def test_an_image_that_is_there_is_not_built(machine: Machine, wanted: Inputs) -> None:
    """The second call builds nothing and prints the same tag, as the last line and the only one."""
    status, out, err = machine.run()
    assert (status, out) == (0, f"{wanted.tag}\n"), err
    assert machine.called("docker build") == 1
    status, out, err = machine.run()
    assert (status, out, err) == (0, f"{wanted.tag}\n", "")
    assert machine.called("docker build") == 1


def test_two_at_a_time_build_once(machine: Machine, wanted: Inputs) -> None:
    """Experiments that begin side by side wait for one build instead of making two."""
    both = [machine.start(BUILD_S="2") for _ in range(2)]
    said_by_both = [one.communicate(timeout=60) for one in both]
    assert [one.returncode for one in both] == [0, 0], said_by_both
    assert [out for out, _ in said_by_both] == [f"{wanted.tag}\n"] * 2
    assert machine.called("docker build") == 1


def test_without_a_registry_the_base_is_made_here(machine: Machine) -> None:
    """Where no registry answers mmdebstrap makes the base, once for all later images."""
    assert machine.run()[0] == 0
    assert machine.called("mmdebstrap") == 1
    (machine.folder / "built").unlink()
    assert machine.run()[0] == 0
    assert machine.called("mmdebstrap") == 1
    assert machine.called("docker build") == 2


def test_a_registry_is_preferred(machine: Machine) -> None:
    """Where a registry answers the public base is fetched and nothing is made."""
    assert machine.run(REGISTRY="yes")[0] == 0
    assert machine.called("docker pull debian:bookworm-slim") == 1
    assert machine.called("mmdebstrap") == 0


def test_a_public_base_without_a_network_is_no_use(machine: Machine) -> None:
    """A public base left from better days is not built on where its packages cannot be had."""
    (machine.folder / "public").touch()
    assert machine.run()[0] == 0
    assert machine.called("mmdebstrap") == 1


def test_offline_asks_no_registry(machine: Machine) -> None:
    """With --offline no registry is asked, also where one would answer."""
    assert machine.run("--offline", REGISTRY="yes")[0] == 0
    assert machine.called("docker pull") == machine.called("docker manifest") == 0


def test_online_insists(machine: Machine) -> None:
    """With --online a registry that does not answer is a failure that names the way out."""
    status, out, err = machine.run("--online")
    assert (status, out) == (69, "")
    assert "--offline" in err.splitlines()[-1]
    assert machine.called("docker build") == 0


def test_half_a_base_gets_no_name(machine: Machine) -> None:
    """When mmdebstrap fails after it began to write, nothing has the base's name."""
    status, _, err = machine.run(BROKEN_BASE="No space left on device")
    assert status == 69
    assert "disk is full" in err.splitlines()[-1]
    assert machine.called("docker tag") == machine.called("docker build") == 0


@pytest.mark.parametrize("words", ["no space left on device", "unheard of"])
def test_a_failed_build_is_one_line(machine: Machine, words: str) -> None:
    """A build that fails ends with 69 and one last line, never with a traceback."""
    status, out, err = machine.run(BROKEN_BUILD=words)
    assert (status, out) == (69, "")
    assert "Traceback" not in err
    assert err.splitlines()[-1].startswith("image: docker")


@pytest.mark.parametrize(("program", "remedy"), list(PROVIDED.items()))
def test_a_missing_program_is_named(machine: Machine, program: str, remedy: str) -> None:
    """Without docker or mmdebstrap one line says what to install."""
    (machine.folder / "bin" / program).unlink()
    for name in ("cc", "sh", "cat", "touch", "sleep"):
        (machine.folder / "bin" / name).symlink_to(str(shutil.which(name)))
    status, out, err = machine.run(PATH=str(machine.folder / "bin"))
    assert (status, out) == (69, "")
    assert f"apt-get install {remedy}" in err.splitlines()[-1]
    assert "Traceback" not in err


def test_no_engine(machine: Machine) -> None:
    """A docker program without its engine: one line and 69, and nothing is begun."""
    refusing = "#!/bin/sh\necho 'Cannot connect to the Docker daemon at unix:///x.' >&2; exit 1\n"
    (machine.folder / "bin" / "docker").write_text(refusing)
    status, out, err = machine.run()
    assert (status, out) == (69, "")
    assert len(err.splitlines()) == 1
    assert "systemctl start docker" in err


def test_wrong_usage(machine: Machine) -> None:
    """An unknown option ends with 64, one line and nothing done."""
    status, _, err = machine.run("--bogus")
    assert (status, len(err.splitlines())) == (64, 1)
    assert machine.called("docker") == 0


def test_help_teaches(machine: Machine) -> None:
    """--help shows how to build without a registry, and what the exit statuses mean."""
    status, out, _ = machine.run("--help")
    assert status == 0
    for word in ("--offline", "--report", "examples:", "69", "mmdebstrap"):
        assert word in out


def test_the_dockerfile_copies_what_is_laid_out(wanted: Inputs, tmp_path: Path) -> None:
    """Every COPY of the Dockerfile finds its source in the context, wheels apart."""
    wanted.write(tmp_path)
    copied = re.findall(r"^COPY (?!--from)(\S+) ", wanted.text("Dockerfile"), re.MULTILINE)
    assert {"code/", "template/", "wheels/"} <= {*copied}
    assert not [one for one in copied if one != "wheels/" and not (tmp_path / one).exists()]


@pytest.mark.skipif(orthanc.compiler() is None, reason="no C compiler")
def test_what_is_preloaded_is_for_all_to_read(tmp_path: Path) -> None:
    """Whatever our own umask is: a library that a service may not read is silently not loaded."""
    before = os.umask(0o077)
    try:
        inputs().write(tmp_path)
        build._libraries(tmp_path / "guard", base.Base("ours", "mmdebstrap", False))
    finally:
        os.umask(before)
    modes = {one.name: one.stat().st_mode & 0o777 for one in (tmp_path / "guard").glob("*.so")}
    assert modes == {"orthanc-guard.so": 0o755, "wall-clock.so": 0o755}
