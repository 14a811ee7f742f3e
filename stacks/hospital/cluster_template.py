"""An initialised PostgreSQL cluster, kept so that the second start of a hospital is quick.

It refuses to show half a template: one is built aside and appears by a single rename.
It is not fsynced (initdb --no-sync): a power cut during a first start may need a new template.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stacks.hospital import postgres

BUILD_WAIT_S = 60.0
LOCK_WAIT_S = 60.0
LOCK_POLL_S = 0.05
INITDB = (
    "--no-sync",
    "--no-instructions",
    "--data-checksums",
    "--encoding=UTF8",
    "--locale=C",
    "--wal-segsize=4",  # small segments: less to write at every start and promotion
    "--auth=scram-sha-256",
    f"--username={postgres.SUPERUSER.name}",
)


class TemplateFailure(RuntimeError):
    """The cluster could not be initialised; the text holds the program's own last words."""


def ready_template(folder: Path | None, scratch: Path) -> Path:
    """The folder of an initialised, cleanly shut down cluster: roles, database `ehr`, checksums.

    It lies under `folder` (shared by all stacks; built once, whoever comes first) or, where that
    is absent, unreadable or read-only, under `scratch`, which must be the caller's own.
    Raises TemplateFailure.
    """
    binaries = postgres.binaries()
    name = _name(binaries)
    if folder is not None:
        try:
            return _shared(folder, name, binaries, scratch)
        except OSError:
            pass  # a cache that cannot be used is no reason to stay down: build our own
    own = scratch / name
    if not _complete(own):
        _build(binaries, scratch, own)
    return own


def existing_template(folder: Path | None) -> Path | None:
    """The shared template if it is there and may be read; never builds or waits."""
    if folder is None:
        return None
    found = folder / _name(postgres.binaries())
    try:
        return found if _complete(found) else None
    except OSError:
        return None


def _name(binaries: Path) -> str:
    return f"postgres-{postgres.version(binaries)}-{_recipe()}"


def _shared(folder: Path, name: str, binaries: Path, scratch: Path) -> Path:
    found = folder / name
    if _complete(found):
        return found
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder / f".{name}.lock"):
        if not _complete(found):
            _build(binaries, scratch, found)
    return found


def _complete(template: Path) -> bool:
    """Whether the template is there; raises PermissionError when another user owns it."""
    try:
        with (template / "global" / "pg_control").open("rb"):
            return True
    except FileNotFoundError:
        return False


def _recipe() -> str:
    text = "\n".join((*INITDB, _roles(), _database()))
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def _roles() -> str:
    # Single-user mode takes one statement per line.
    return (
        f"CREATE ROLE {postgres.REPLICATION.name} WITH LOGIN REPLICATION"
        f" PASSWORD '{postgres.REPLICATION.password}';\n"
        # The backup vault asks how far the log has reached it.
        f"GRANT pg_read_all_stats TO {postgres.REPLICATION.name};\n"
        f"CREATE ROLE {postgres.APPLICATION.name} WITH LOGIN"
        f" PASSWORD '{postgres.APPLICATION.password}';\n"
        f"CREATE DATABASE {postgres.DATABASE} OWNER {postgres.APPLICATION.name};\n"
    )


def _database() -> str:
    # The application owns its schema: it creates its tables by itself at its first start.
    # The integrity check verifies tables and indexes from inside; a standby cannot install it.
    return (
        f"ALTER SCHEMA public OWNER TO {postgres.APPLICATION.name};\n"
        "CREATE EXTENSION amcheck;\n"
        "GRANT EXECUTE ON FUNCTION bt_index_check(regclass, boolean)"
        f" TO {postgres.APPLICATION.name};\n"
    )


def _build(binaries: Path, scratch: Path, target: Path) -> None:
    """Initialise beside, then rename: `target` appears whole or not at all.

    The work is done under `scratch`, where a harness looks for this service's processes.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="building-", dir=scratch) as building:
        data = Path(building) / "data"
        password = Path(building) / "password"
        password.write_text(postgres.SUPERUSER.password)
        _run([binaries / "initdb", f"--pgdata={data}", f"--pwfile={password}", *INITDB])
        for database, statements in (("postgres", _roles()), (postgres.DATABASE, _database())):
            _run(
                [binaries / "postgres", "--single", "-j", "-F", "-D", data, database],
                statements.replace("\n", "\n\n"),
            )
        incoming = Path(tempfile.mkdtemp(prefix=".incoming-", dir=target.parent))
        try:
            whole = incoming / "data"
            shutil.copytree(data, whole, symlinks=True)
            whole.chmod(0o700)
            whole.rename(target)
        finally:
            shutil.rmtree(incoming, ignore_errors=True)


def _run(command: list[str | Path], statements: str | None = None) -> None:
    try:
        subprocess.run(
            command,
            input=statements,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=BUILD_WAIT_S,
            check=True,
        )
    except subprocess.CalledProcessError as error:
        last = " / ".join(str(error.output).strip().splitlines()[-3:])
        raise TemplateFailure(f"{Path(command[0]).name} failed: {last}") from error
    except (OSError, subprocess.SubprocessError) as error:
        raise TemplateFailure(f"{Path(command[0]).name} failed: {error}") from error


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Hold an exclusive lock; the kernel frees it when its holder dies."""
    with lock.open("w") as held:
        deadline = time.monotonic() + LOCK_WAIT_S
        while True:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{lock} is held for {LOCK_WAIT_S:.0f} s") from None
                time.sleep(LOCK_POLL_S)
        yield


def write_initdb(program: Path, template: Path, data_dir: Path) -> None:
    """Write `program`: an initdb that makes `data_dir` an own copy of the template.

    Patroni runs it in place of the real initdb (`postgresql.bin_name`), with options that it
    ignores because the template was made with the same ones. Blocks are shared where possible.
    """
    copying = shlex.join(
        [
            "cp",
            "--archive",
            "--reflink=auto",
            "--no-target-directory",
            os.fspath(template),
            os.fspath(data_dir),
        ]
    )
    program.write_text(f"#!/bin/sh\nexec {copying}\n")
    program.chmod(0o700)
