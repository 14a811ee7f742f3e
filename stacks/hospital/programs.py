"""Programs of the machine that the mock hospital uses where they are, and what is lost without.

It installs and starts nothing; `hospital-chaos doctor` looks for them.
"""

from __future__ import annotations

from chaos.stack import Program
from stacks.hospital.imaging import orthanc_places as places

PROGRAMS = (
    Program(
        "Orthanc (image archive)",
        (
            (places.PROGRAM, *(f"{one}/{places.PROGRAM}" for one in places.PROGRAM_FOLDERS)),
            tuple(f"{one}/{places.PLUGIN}" for one in places.PLUGIN_FOLDERS),
            (*places.COMPILERS, f"${places.GUARD}"),
        ),
        without="pacs-a and pacs-b are our own small archive instead of Orthanc",
        get="apt-get install orthanc orthanc-dicomweb gcc libc6-dev, and keep the system's own "
        "service stopped (systemctl disable --now orthanc)",
    ),
    Program(
        "dcmtk (DICOM tools)",
        (("echoscu",), ("storescu",), ("storescp",), ("findscu",), ("movescu",), ("dcmdump",)),
        without="tests that speak to us with dcmtk's own programs are skipped",
        get="apt-get install dcmtk",
    ),
)
