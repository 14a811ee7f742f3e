"""Where Orthanc, its DICOMweb plugin and a C compiler lie on a machine.

It looks for nothing itself.
"""

from __future__ import annotations

PROGRAM = "Orthanc"
PROGRAM_FOLDERS = ("/usr/sbin", "/usr/local/sbin", "/usr/local/bin")
PLUGIN = "libOrthancDicomWeb.so"
PLUGIN_FOLDERS = (
    "/usr/share/orthanc/plugins",
    "/usr/local/share/orthanc/plugins",
    "/usr/lib/orthanc",
)
COMPILERS = ("cc", "gcc", "clang")
GUARD = "ORTHANC_GUARD"
"""Names a guard compiled beforehand, for a machine without a C compiler."""
