"""A radiology system as its own process, and the people and machines that talk to it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset

from stacks.hospital import fhir
from stacks.hospital.imaging import association as dicom
from stacks.hospital.imaging.mpps import PERFORMED_STEP
from stacks.hospital.imaging.ris_dicom import WORKLIST
from stacks.hospital.settings import Address
from stacks.hospital.wire import hl7
from stacks.hospital.wire.mllp import MllpClient
from tests import dcmtk
from tests.ports import free_port

from ..programs import Program

BOUNDS = dicom.Bounds(answer_s=5.0)
SPEED = 3_600.0  # five hospital minutes of waiting are 83 ms


class RisProgram(Program):
    """The program with its three ports, and one step of each of its callers."""

    def __init__(self, folder: Path, environment: Mapping[str, str] | None = None) -> None:
        self.mllp, self.dicom = free_port(), free_port()
        super().__init__(
            "imaging.ris",
            folder,
            {
                "SERVICE_NAME": "ris",
                "HOSPITAL_SPEED": f"{SPEED:g}",
                "BIND_MLLP": f"127.0.0.1:{self.mllp}",
                "BIND_DICOM": f"127.0.0.1:{self.dicom}",
                **(environment or {}),
            },
        )

    @property
    def log(self) -> str:
        return (self.folder.parent / "imaging.ris.log").read_text()

    # -- HL7 ----------------------------------------------------------------------------------

    def tell(self, *bodies: hl7.Adt | hl7.Order | hl7.ImagingOrder | hl7.Report) -> list[hl7.Ack]:
        """Each as a message of its own, in order, over one connection."""

        async def send() -> list[hl7.Ack]:
            client = MllpClient(Address("127.0.0.1", self.mllp))
            acks = []
            for body in bodies:
                name = hl7.new_control_id()
                header = hl7.Header(name, sender="ENGINE", receiver="RIS", at=1e9)
                acks.append(await client.send(hl7.build(header, body), name, 5.0))
            await client.close()
            return acks

        return asyncio.run(send())

    def order(self, placer: str, mrn: str, modality: str = "CT", priority: str = "ROUTINE") -> None:
        (ack,) = self.tell(hl7.ImagingOrder(placer, mrn, modality, (modality,), priority))
        assert ack.accepted, ack

    def admit(self, mrn: str, family: str, given: str = "Ana") -> None:
        adt = hl7.Adt("A01", mrn, family, given, "19600229", "F", f"V{mrn}", "W3", "IMP")
        (ack,) = self.tell(adt)
        assert ack.accepted, ack

    # -- DICOM --------------------------------------------------------------------------------

    def associate(self, calling: str = "CT1", called: str = "RIS") -> Any:
        where = Address("127.0.0.1", self.dicom)
        offered = dicom.contexts([dicom.VERIFICATION, WORKLIST, PERFORMED_STEP])
        return dicom.association(where, called, calling, offered, bounds=BOUNDS)

    def ask(self, identifier: Dataset, calling: str = "CT1") -> tuple[int, list[Dataset]]:
        """A worklist question: the final status and the entries."""
        with self.associate(calling) as open_:
            answers = list(open_.send_c_find(identifier, WORKLIST))
        final = answers[-1][0]
        return int(final.Status), [entry for _, entry in answers[:-1] if entry is not None]

    def create(self, uid: str | None, report: Dataset) -> Dataset:
        """MPPS N-CREATE: its status data set."""
        with self.associate() as open_:
            status, _ = open_.send_n_create(report, PERFORMED_STEP, uid)
        return status

    def set(self, uid: str, state: str) -> Dataset:
        """MPPS N-SET: its status data set."""
        change = Dataset()
        change.PerformedProcedureStepStatus = state
        with self.associate() as open_:
            status, _ = open_.send_n_set(change, PERFORMED_STEP, uid)
        return status

    # -- HTTP ---------------------------------------------------------------------------------

    def matches(self) -> dict[str, dict[str, Any]]:
        """Study → its line."""
        return {one["study"]: one for one in self.http.get("/matches?limit=1000").json()}

    def tasks(self) -> list[str]:
        return [one["study"] for one in self.http.get("/tasks").json()]

    def export(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.http.get("/export").text.splitlines()]


def question(patient: str = "", modality: str = "", **keys: str) -> Dataset:
    """What a scanner asks."""
    step = Dataset()
    step.Modality = modality
    step.ScheduledProcedureStepStartDate = keys.pop("date", "")
    step.ScheduledStationAETitle = ""
    asked = Dataset()
    asked.SpecificCharacterSet = "ISO_IR 192"
    asked.PatientID = patient
    asked.PatientName = keys.pop("name", "")
    asked.AccessionNumber = ""
    asked.StudyInstanceUID = ""
    asked.RequestedProcedurePriority = ""
    asked.PlacerOrderNumberImagingServiceRequest = ""
    asked.ScheduledProcedureStepSequence = [step]
    for key, value in keys.items():
        setattr(asked, key, value)
    return asked


def report(
    study: str, patient: str, accession: str = "", placer: str = "", modality: str = "CT",
    name: str = "Dubois^Ana", state: str = "IN PROGRESS",
) -> Dataset:  # fmt: skip
    """The begin of an examination."""
    scheduled = Dataset()
    scheduled.StudyInstanceUID = study
    scheduled.AccessionNumber = accession
    scheduled.PlacerOrderNumberImagingServiceRequest = placer
    found = Dataset()
    found.SpecificCharacterSet = "ISO_IR 192"
    found.ScheduledStepAttributesSequence = [scheduled]
    found.PatientID = patient
    found.PatientName = name
    found.Modality = modality
    found.PerformedStationAETitle = "CT1"
    found.PerformedProcedureStepID = "1"
    found.PerformedProcedureStepStatus = state
    return found


def request(placer: str, mrn: str, modality: str = "CT", **changes: Any) -> dict[str, Any]:
    """An imaging order as the radiology desk sends it."""
    return {
        "resourceType": "ServiceRequest",
        "status": "active",
        "intent": "order",
        "priority": "routine",
        "identifier": [{"system": fhir.PLACER, "value": placer}],
        "category": [{"coding": [{"system": "http://snomed.info/sct", "code": fhir.IMAGING}]}],
        "code": {"coding": [{"code": modality}]},
        "subject": {"reference": f"Patient/{mrn}"},
        **changes,
    }


def findscu(port: int, *keys: str, called: str = "RIS") -> tuple[int, list[dict[str, str]]]:
    """dcmtk's own worklist client: its exit status, and per entry keyword → value."""
    program, dump = dcmtk.program("findscu"), dcmtk.program("dcmdump")
    assert program is not None
    assert dump is not None
    with tempfile.TemporaryDirectory() as folder:
        asked = [argument for key in keys for argument in ("-k", key)]
        done = subprocess.run(
            [program, "-W", "-aet", "CT1", "-aec", called, "-X", "-od", folder, *asked,
             "127.0.0.1", str(port)],
            capture_output=True, timeout=20, check=False,
        )  # fmt: skip
        found = []
        for file in sorted(Path(folder).iterdir()):
            text = subprocess.run(
                [dump, "-q", "+L", str(file)], capture_output=True, check=True
            ).stdout.decode()
            lines = [line.strip() for line in text.splitlines() if "[" in line]
            found.append({
                line.split()[-1]: line.partition("[")[2].rpartition("]")[0].strip()
                for line in lines
            })  # fmt: skip
    return done.returncode, found
