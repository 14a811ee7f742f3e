"""The run folder: where one run keeps its journal, logs, verdicts and report.

This module names and creates paths; it judges nothing and changes nothing outside the folder.
"""

from __future__ import annotations

import datetime as dt
import errno
import os
import platform
import shlex
from pathlib import Path
from typing import Any

import msgspec

from chaos.terms import Terms

FOLDER_TRIES = 100  # several runs of the same name and seed may begin in the same second


class RunFolderError(RuntimeError):
    """A run folder that cannot be made, found or read: says which and what to do."""


class Run(msgspec.Struct, frozen=True):
    """One run: what `run.json` holds. Paths inside the folder are properties."""

    name: str
    seed: int
    runtime: str
    preset: str
    utc: str  # RFC 3339, when the run folder was made
    folder: str
    defect: str = ""
    experiment: str = ""  # pytest node id
    story: str = ""
    machine: str = ""
    terms: Terms | None = None  # the stack's words for reports; None in folders of old

    @property
    def path(self) -> Path:
        return Path(self.folder)

    @property
    def journal(self) -> Path:
        """Folder of the journal files, one per writer."""
        return self.path / "journal"

    @property
    def logs(self) -> Path:
        """Folder of the services' own logs."""
        return self.path / "logs"

    @property
    def command(self) -> str:
        """The one line that reproduces this run."""
        defect = f"HOSPITAL_BUG={shlex.quote(self.defect)} " if self.defect else ""
        return (
            f"{defect}hospital-chaos run {shlex.quote(self.name)} --runtime {self.runtime}"
            f" --preset {self.preset} --seed {self.seed}"
        )


def create(
    out: Path, name: str, *, seed: int, runtime: str, preset: str, now: dt.datetime, **more: Any
) -> Run:
    """Make `out/<utc>-<name>-<seed>/` with its sub-folders and write run.json into it."""
    stamp = now.astimezone(dt.UTC).strftime("%Y%m%dT%H%M%SZ")
    try:
        folder = _fresh(out.resolve(), f"{stamp}-{name}-{seed}")
        for sub in ("journal", "logs", "workloads"):
            (folder / sub).mkdir()
        run = Run(
            name=name,
            seed=seed,
            runtime=runtime,
            preset=preset,
            utc=now.astimezone(dt.UTC).isoformat(timespec="milliseconds"),
            folder=str(folder),
            machine=f"{platform.system()} {platform.release()}, {os.cpu_count()} CPUs",
            **more,
        )
        told = msgspec.structs.replace(run, folder=folder.name)  # evidence may be moved and shared
        write_atomically(folder / "run.json", msgspec.json.format(msgspec.json.encode(told)))
    except OSError as error:
        raise RunFolderError(f"cannot make a run folder under {out}: {why(error)}") from error
    return run


def load(folder: Path) -> Run:
    """The Run of an existing folder (its `folder` is where it lies now, not where it was made)."""
    file = folder / "run.json"
    try:
        run = msgspec.json.decode(file.read_bytes(), type=Run)
    except OSError as error:
        raise RunFolderError(
            f"{folder} is no run folder: {file.name}: {why(error)}; "
            "name one that `hospital-chaos run` made, for example under reports/"
        ) from error
    except msgspec.DecodeError as error:
        raise RunFolderError(f"{file} is damaged: {error}") from error
    return msgspec.structs.replace(run, folder=str(folder.resolve()))


def write_atomically(file: Path, data: bytes) -> None:
    """Write a whole file or none of it (a reader never sees half a verdict)."""
    part = file.with_name(file.name + ".part")
    with part.open("wb") as out:
        out.write(data)
        out.flush()
        os.fsync(out.fileno())
    part.replace(file)


def why(error: OSError) -> str:
    """The cause of an OSError in words, with what to do when the disk is full."""
    if error.errno == errno.ENOSPC:
        return "the disk is full; free some space or choose another place with --out"
    return error.strerror or str(error)


def _fresh(out: Path, name: str) -> Path:
    out.mkdir(parents=True, exist_ok=True)
    for number in range(1, FOLDER_TRIES):
        folder = out / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise RunFolderError(f"{FOLDER_TRIES} runs named {name} already lie under {out}")
