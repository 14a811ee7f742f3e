"""What must be true of rooms, links and storage for the hospital's claims to make sense."""

from __future__ import annotations

import pytest

from chaos.stack import TopologyError
from stacks.hospital.stack import hospital


def test_no_room_holds_both_of_a_pair() -> None:
    """Redundant services never share a room or a storage array."""
    stack = hospital(defect="")
    for pair in (("ehr-a", "ehr-b"), ("ehr-db-a", "ehr-db-b"), ("ehr-db-a", "ro-copy")):
        one, other = (stack.service(name) for name in pair)
        assert one.room != other.room
        assert one.volume is not None
        assert other.volume is not None
        assert one.volume.array != other.volume.array


def test_every_caller_of_the_contract_has_its_own_link() -> None:
    """Each call of the contract can be cut on its own; database peers call each other both ways."""
    stack = hospital(defect="")
    wanted = {
        "ehr-a>ehr-db-b.postgres", "ehr-b>engine.mllp", "engine>ehr-a.mllp", "engine>lis.mllp",
        "lis>engine.mllp", "gam>engine.mllp", "analysers>lis.mllp", "ro-copy>ehr-db-a.postgres",
        "ehr-db-a>ehr-db-b.rest", "ehr-db-b>ehr-db-a.raft", "ehr-db-witness>ehr-db-a.raft",
        "wards>ehr-a.http", "wards>ro-copy.http", "admissions>gam.http", "laboratory>lis.http",
    }  # fmt: skip
    assert wanted <= {link.name for link in stack.links}
    assert stack.room_of("wards") is None


def test_speed_and_defect_reach_every_service() -> None:
    """Speed and defect are one environment for all services and are told to the run."""
    stack = hospital(speed=30, defect="ack-before-fsync")
    assert dict(stack.env) == {"HOSPITAL_SPEED": "30", "HOSPITAL_BUG": "ack-before-fsync"}
    assert (stack.speed, stack.defect) == (30, "ack-before-fsync")


def test_the_defects_of_the_plan_change_the_plan() -> None:
    """`copy-in-room-a` puts copy and storage beside the primary; `standby-gone` leaves no pair."""
    copy = hospital(defect="copy-in-room-a").service("ro-copy")
    assert copy.room == "A"
    assert copy.volume is not None
    assert copy.volume.array == "array-a"
    for defect, name, room in (("copy-on-array-a", "ro-copy", "B"),
                               ("analysers-on-array-a", "analysers", "lab")):  # fmt: skip
        misplaced = hospital(defect=defect).service(name)
        assert misplaced.volume is not None
        assert (misplaced.room, misplaced.volume.array) == (room, "array-a")
    gone = hospital(defect="standby-gone")
    assert "ehr-db-b" not in {s.name for s in gone.services}
    assert not [k for k in gone.links if "ehr-db-b" in k.name]


def test_the_defect_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """HOSPITAL_BUG plants a defect; an unknown name is one clear error."""
    monkeypatch.setenv("HOSPITAL_BUG", "standby-gone")
    assert hospital().defect == "standby-gone"
    monkeypatch.setenv("HOSPITAL_BUG", "no-such")
    with pytest.raises(TopologyError, match="no planted defect"):
        hospital()


def test_a_department_stands_alone() -> None:
    """Without the record no service and no link of it stands; calls to it are left out."""
    stack = hospital(defect="", departments=("appointments",))
    names = {service.name for service in stack.services}
    assert {"gam", "engine", "scheduling", "website", "callcentre", "sms", "clinic-lists"} == names
    assert "engine>callcentre.mllp" in {link.name for link in stack.links}
    assert "lab" not in {room.name for room in stack.rooms}


def test_the_archive_has_a_mirror_in_the_other_room() -> None:
    """Archive and mirror share neither room nor array, and each can be cut off on its own."""
    stack = hospital(defect="", departments=("imaging",))
    one, other = stack.service("pacs-a"), stack.service("pacs-b")
    assert one.room != other.room
    assert one.volume is not None
    assert other.volume is not None
    assert one.volume.array != other.volume.array
    assert {"dicom-router>pacs-a.dicom", "pacs-b>dicom-router.dicom"} <= {
        link.name for link in stack.links
    }  # fmt: skip


def test_an_unknown_department_is_one_clear_error() -> None:
    """The error names the departments that there are."""
    with pytest.raises(TopologyError, match="care, imaging, appointments"):
        hospital(defect="", departments=("surgery",))
