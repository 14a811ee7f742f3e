"""The PACS: Orthanc where it is installed, else our own small archive; PACS_KIND decides.

It refuses an unknown kind, and Orthanc on a machine that lacks it or its DICOMweb plugin.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

from stacks.hospital import bugs, settings
from stacks.hospital.imaging import orthanc
from stacks.hospital.imaging.archive import archive
from stacks.hospital.imaging.orthanc_places import PLUGIN
from stacks.hospital.log import Log, describe
from stacks.hospital.settings import SettingsError
from stacks.hospital.web import run

VARIABLE = "PACS_KIND"
KINDS = ("auto", "orthanc", "archive")
WHERE = "pacs"
"""How planted defects of the archive name their place."""


def kind(environment: Mapping[str, str], where: orthanc.Installed | None) -> str:
    """`orthanc` or `archive`. Raises: SettingsError with one line for a person."""
    asked = environment.get(VARIABLE) or "auto"
    if asked not in KINDS:
        raise SettingsError(f"{VARIABLE}={asked!r} is unknown; one of: {', '.join(KINDS)}")
    bug = bugs.active()
    if asked == "orthanc":
        if where is None:
            raise SettingsError(
                f"{VARIABLE}=orthanc, but Orthanc or its {PLUGIN} is not installed;"
                " install orthanc and orthanc-dicomweb, or set PACS_KIND=archive"
            )
        return asked
    ours = bug is not None and bugs.BUGS[bug].where == WHERE
    if asked == "archive" or ours or where is None or not orthanc.can_be_guarded(environment):
        return "archive"
    return "orthanc"


def main() -> None:
    """Become the chosen kind of archive."""
    chosen, where = settings.read_or_exit(), orthanc.installed()
    log = Log(chosen.name)
    try:
        found = kind(chosen.environment, where)
        log.info("pacs_chosen", kind=found)
        if found == "orthanc" and where is not None:
            orthanc.become(chosen, where)
    except (SettingsError, ValueError) as error:
        settings.usage_exit(str(error))
    except OSError as error:
        print(f"{chosen.name}: Orthanc cannot start: {describe(error)}", file=sys.stderr)
        raise SystemExit(1) from None
    run(archive)


if __name__ == "__main__":
    main()
