"""Orthanc as the PACS: writes its configuration and becomes it (exec), so that signals reach it.

It refuses to run without its guard, a small library loaded into Orthanc: alone Orthanc listens on
every address of the machine, and a deliberate stop waits for ever for open associations.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address
from pathlib import Path
from typing import NoReturn

from stacks.hospital.imaging.association import UNCOMPRESSED, known_peers, title_of
from stacks.hospital.imaging.orthanc_places import (
    COMPILERS,
    GUARD,
    PLUGIN,
    PLUGIN_FOLDERS,
    PROGRAM,
    PROGRAM_FOLDERS,
)
from stacks.hospital.settings import Address, Settings, SettingsError

COMPILE_S = 30.0
_SOURCE = Path(__file__).with_name("orthanc_guard.c")
READ_ONLY_WEB = """\
function IncomingHttpRequestFilter(method, uri, ip, username, headers)
  return method == 'GET' and (string.find(uri, '^/dicom%-web/') ~= nil or uri == '/statistics')
end
"""
"""Over HTTP images are read, nothing else: no upload, no deletion, no Lua, no jobs."""


@dataclass(frozen=True, slots=True)
class Installed:
    """Where Orthanc and its DICOMweb plugin lie."""

    program: str
    plugin: str


def installed(path: str | None = None) -> Installed | None:
    """Orthanc of this machine with its DICOMweb plugin, or None; `path` replaces PATH."""
    search = os.environ.get("PATH", "") if path is None else path
    program = shutil.which(PROGRAM, path=os.pathsep.join((search, *PROGRAM_FOLDERS)))
    plugin = next((one for f in PLUGIN_FOLDERS if (one := Path(f, PLUGIN)).is_file()), None)
    return Installed(program, str(plugin)) if program and plugin else None


def compiler() -> str | None:
    """The C compiler that can make the library, if there is one."""
    return next((path for name in COMPILERS if (path := shutil.which(name))), None)


def can_be_guarded(environment: Mapping[str, str]) -> bool:
    """Whether this machine has the guard, or can compile it."""
    return Path(environment.get(GUARD) or "/nowhere").is_file() or compiler() is not None


def configuration(settings: Settings, where: Installed) -> dict[str, object]:
    """Orthanc's configuration: everything that the hospital does not need is off."""
    http, dicom = settings.bind("http"), settings.bind("dicom")
    loopback = [_is_loopback(one) for one in (http, dicom)]
    folder = str(settings.data_dir / "orthanc")
    return {
        "Name": settings.name,
        "StorageDirectory": folder,
        "IndexDirectory": folder,
        "SyncStorageArea": True,
        "OverwriteInstances": False,
        "MaximumStorageCacheSize": 16,
        "Plugins": [where.plugin],
        "LuaScripts": [str(settings.data_dir / "read-only.lua")],
        "HttpServerEnabled": True,
        "HttpPort": http.port,
        "HttpThreadsCount": 12,
        "HttpCompressionEnabled": False,
        "KeepAlive": True,
        "TcpNoDelay": True,
        "RemoteAccessAllowed": not loopback[0],
        "AuthenticationEnabled": False,
        "OrthancExplorerEnabled": False,
        "WebDavEnabled": False,
        "ExecuteLuaEnabled": False,
        "MetricsEnabled": False,
        "DicomServerEnabled": True,
        "DicomAet": title_of(settings.name),
        "DicomPort": dicom.port,
        "DicomThreadsCount": 24,
        "DicomCheckCalledAet": True,
        "StrictAetComparison": True,
        "DicomAlwaysAllowEcho": True,
        "DicomAlwaysAllowStore": True,
        "DicomAlwaysAllowFind": True,
        "DicomAlwaysAllowFindWorklist": False,
        "DicomAlwaysAllowGet": False,
        "DicomAlwaysAllowMove": True,
        "DicomCheckModalityHost": False,
        "DicomModalities": _modalities(known_peers(settings.environment)),
        "DicomScpTimeout": 30,
        "DicomScuTimeout": 10,
        "DicomAssociationCloseDelay": 1,
        "AcceptedTransferSyntaxes": list(UNCOMPRESSED),
        "UnknownSopClassAccepted": False,
        "TranscodeDicomProtocol": False,
        "StorageCommitmentReportsSize": 1000,
        "ConcurrentJobs": 4,
        "JobsHistorySize": 100,
        "SaveJobs": True,
        "LimitFindResults": 0,
        "DefaultEncoding": "Utf8",
        "DicomWeb": {
            "Enable": True,
            "Root": "/dicom-web/",
            "EnableWado": False,
            "StudiesMetadata": "MainDicomTags",
            "SeriesMetadata": "MainDicomTags",
        },
    }


def _is_loopback(where: Address) -> bool:
    try:
        return IPv4Address(where.host).is_loopback
    except AddressValueError:
        raise SettingsError(
            f"Orthanc needs an IPv4 address to listen on, not {where.host!r}; set PACS_KIND=archive"
        ) from None


def _modalities(peers: Mapping[str, Address]) -> dict[str, dict[str, object]]:
    return {
        title: {
            "AET": title,
            "Host": where.host,
            "Port": where.port,
            "AllowEcho": True,
            "AllowFind": True,
            "AllowMove": True,
            "AllowStore": True,
            "AllowStorageCommitment": True,
            "AllowGet": False,
        }
        for title, where in peers.items()
    }


def guard(environment: Mapping[str, str], folder: Path) -> Path:
    """The guard: the one that ORTHANC_GUARD names, else compiled once per folder.

    Raises: SettingsError when there is neither, or the compiler fails.
    """
    named = environment.get(GUARD)
    if named:
        if not Path(named).is_file():
            raise SettingsError(f"{GUARD}={named!r} is no file; compile {_SOURCE.name} to it")
        return Path(named)
    library = folder / "orthanc-guard.so"
    if library.is_file() and library.stat().st_mtime >= _SOURCE.stat().st_mtime:
        return library
    found = compiler()
    if found is None:
        raise SettingsError(
            f"Orthanc needs its guard ({_SOURCE.name}): install a C compiler, name a compiled one"
            f" in {GUARD}, or set PACS_KIND=archive"
        )
    making = library.with_suffix(f".{os.getpid()}")
    command = [
        found,
        "-shared",
        "-fPIC",
        "-O1",
        "-o",
        str(making),
        str(_SOURCE),
        "-ldl",
        "-pthread",
    ]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=COMPILE_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SettingsError(f"{found} cannot be run: {error}; set PACS_KIND=archive") from None
    if done.returncode != 0:
        line = (done.stderr.strip().splitlines() or ["no message"])[0]
        raise SettingsError(f"{found} cannot compile {_SOURCE.name}: {line}")
    making.replace(library)
    return library


def become(settings: Settings, where: Installed) -> NoReturn:
    """Replace this process by Orthanc. Raises: SettingsError, OSError."""
    chosen = configuration(settings, where)
    (settings.data_dir / "orthanc").mkdir(exist_ok=True)
    (settings.data_dir / "read-only.lua").write_text(READ_ONLY_WEB)
    file = settings.data_dir / "orthanc.json"
    file.write_text(json.dumps(chosen, indent=1))
    binds = [settings.bind(port) for port in ("http", "dicom")]
    environment = {
        **os.environ,
        "TCP_NODELAY": "1",
        "LD_PRELOAD": str(guard(settings.environment, settings.data_dir)),
        "HOSPITAL_BIND": ",".join(map(str, binds)),
    }
    sys.stderr.flush()
    os.execve(where.program, [where.program, str(file)], environment)
