"""The hospital's continuity claims, by id; thresholds, evidence and source in each docstring.

It refuses to lower a claim in silence: whoever asks for less evidence must say why (`Need`).

Sources: S = wording of the Saint-Luc (2025) and Saint-Étienne (2014) outage reports, G = guidance
(SAFER contingency guide, HIPAA 164.308(a)(7)), B = published benchmark, K = common knowledge of
the field, A = our assumption.
Human bounds (turnaround, call-back, age of a copy) are in hospital time and shrink with the run's
`speed`; machine bounds (latency, failover) are real seconds and never do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from chaos.claims import Claim
from chaos.verdict import Need
from stacks.hospital.claims.appointments import (
    ChannelsAgree,
    EveryoneCalledBack,
    PatientsTold,
    ProtectedCareKept,
)
from stacks.hospital.claims.backups import BackupRestores, DamageFound
from stacks.hospital.claims.continuity import ElectiveShedFirst, RestUnaffected, SpareTakesOver
from stacks.hospital.claims.copy import CopyMarked, CopyRecent
from stacks.hospital.claims.imaging import (
    EmergencyImagesReadable,
    ImagesKept,
    PatientsFoundAgain,
)
from stacks.hospital.claims.integrity import NobodyMixedUp, NothingLost, NothingTwice, OneTruth
from stacks.hospital.claims.laboratory import AnalysersWork, CriticalReachesCarer, UrgentTimely
from stacks.hospital.claims.record import ChartReadable, OrdersAccepted, OrdersDelivered
from stacks.hospital.claims.recovery import NormalIsNormal, StagedReturn
from stacks.hospital.claims.refusals import BadInputRefused

CATALOGUE: Mapping[str, Callable[[Need], Claim]] = {
    "RA-1": ChartReadable,
    "RA-2": CopyRecent,
    "RA-3": CopyMarked,
    "OR-1": OrdersAccepted,
    "OR-2": OrdersDelivered,
    "RS-1": AnalysersWork,
    "RS-2": CriticalReachesCarer,
    "RS-3": UrgentTimely,
    "IM-1": ImagesKept,
    "IM-2": EmergencyImagesReadable,
    "IM-3": PatientsFoundAgain,
    "SC-1": ChannelsAgree,
    "SC-2": PatientsTold,
    "SC-3": EveryoneCalledBack,
    "IN-1": NothingLost,
    "IN-2": NothingTwice,
    "IN-3": NobodyMixedUp,
    "IN-4": OneTruth,
    "IN-5": DamageFound,
    "BI-1": BadInputRefused,
    "PR-1": ElectiveShedFirst,
    "PR-2": ProtectedCareKept,
    "BK-1": BackupRestores,
    "FO-1": SpareTakesOver,
    "FO-2": RestUnaffected,
    "RE-1": StagedReturn,
    "RE-2": NormalIsNormal,
}
"""Claim id → its class; the first parameter of each is `need`."""


def claims(
    need: Callable[[str], Need], *ids: str, quiet: str = "", independent: tuple[str, ...] = ()
) -> tuple[Claim, ...]:
    """The claims of these ids (all when none is named), each with the evidence `need(id)` asks.

    `quiet`: why PR-1 may hold although nothing had to be shed (a crash that leaves capacity
    enough); its verdict repeats the reason. `independent`: services of which FO-2 wants evidence
    one by one. Raises KeyError that names the known ids.
    """
    unknown = [i for i in ids if i not in CATALOGUE]
    if unknown:
        raise KeyError(f"no claim {', '.join(unknown)} (known: {', '.join(CATALOGUE)})")
    chosen = [CATALOGUE[i](need(i)) for i in ids or tuple(CATALOGUE)]
    if quiet:
        unshed = Need(claim=1, asked=0, why=quiet)
        chosen = [replace(c, shed=unshed) if isinstance(c, ElectiveShedFirst) else c
                  for c in chosen]  # fmt: skip
    if independent:
        chosen = [replace(c, named=independent) if isinstance(c, RestUnaffected) else c
                  for c in chosen]  # fmt: skip
    return tuple(chosen)


__all__ = [
    "CATALOGUE",
    "AnalysersWork",
    "BackupRestores",
    "BadInputRefused",
    "ChannelsAgree",
    "ChartReadable",
    "CopyMarked",
    "CopyRecent",
    "CriticalReachesCarer",
    "DamageFound",
    "ElectiveShedFirst",
    "EmergencyImagesReadable",
    "EveryoneCalledBack",
    "ImagesKept",
    "NobodyMixedUp",
    "NormalIsNormal",
    "NothingLost",
    "NothingTwice",
    "OneTruth",
    "OrdersAccepted",
    "OrdersDelivered",
    "PatientsFoundAgain",
    "PatientsTold",
    "ProtectedCareKept",
    "RestUnaffected",
    "SpareTakesOver",
    "StagedReturn",
    "UrgentTimely",
    "claims",
]
