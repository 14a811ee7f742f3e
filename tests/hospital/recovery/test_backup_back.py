"""An engine that lost its disk for good gets its queues back from the vault, as real processes."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stacks.hospital.wire.hl7 import Adt, Header, build, parse_header
from stacks.hospital.wire.mllp import MllpClient
from tests.hospital.messages.stand import Peer, Process
from tests.hospital.programs import Program, until
from tests.ports import free_port

pytestmark = pytest.mark.slow
DELIVERED_S = 20.0


class Stand:
    """An engine whose laboratory is away, and the vault that copies its file."""

    def __init__(self, folder: Path) -> None:
        self.lis = free_port()
        self.engine = Process("engine", folder, {"LIS": self.lis})
        self.vault = Program("recovery.backup", folder / "vault", {
            "SERVICE_NAME": "backup", "SERVICE_ROOM": "vault", "HOSPITAL_SPEED": "3600",
            "LINK_ENGINE_HTTP": f"127.0.0.1:{self.engine.http}",
        })  # fmt: skip

    def tell(self, *numbers: int) -> None:
        """Movements of patients, each acknowledged by the engine."""

        async def story() -> None:
            client = MllpClient(("127.0.0.1", self.engine.mllp))
            for number in numbers:
                header = Header(f"C{number:03}", sender="GAM", at=1e9)
                payload = build(header, Adt("A01", f"M{number}", visit=f"V{number}"))
                assert (await client.send(payload, header.control_id)).accepted
            await client.close()

        asyncio.run(story())

    def copied(self, after: float) -> dict[str, object]:
        """Wait for a copy that was begun after this instant (Unix seconds)."""
        told = "a copy of the engine"
        return until(told, 40, lambda: self._newer(after))

    def _newer(self, after: float) -> dict[str, object] | None:
        found = self.vault.http.get("/backups").json()["files"]["engine"]
        fresh = found["age_s"] is not None and time.time() - found["age_s"] > after
        return found if fresh else None

    def waiting(self) -> list[str]:
        return [row["key"] for row in self.engine.get("/export") if row["status"] == "waiting"]

    def give_back(self) -> tuple[int, dict[str, object]]:
        answer = self.vault.http.post("/restores", json={"system": "engine"}, timeout=40)
        return answer.status_code, answer.json()


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[Stand]:
    found = Stand(tmp_path)
    found.engine.start()
    found.vault.start()
    yield found
    found.engine.kill()
    found.vault.__exit__(None, None, None)


def test_what_waited_at_the_copy_comes_back_and_what_came_after_it_is_known_by_name(
    stand: Stand, tmp_path: Path
) -> None:
    """Thirty messages wait, the vault copies, ten more come; then the engine's array is gone for
    good. It begins empty, takes new messages, and gets its copy back: missing is exactly what came
    after the copy, and the laboratory gets all in their old order, each once (but for the one
    message that is under way to it already)."""
    stand.tell(*range(30))
    stand.copied(time.time())
    stand.tell(*range(30, 40))
    acknowledged = {f"C{number:03}" for number in range(40)}
    stand.engine.kill()
    shutil.rmtree(tmp_path / "engine")
    (tmp_path / "engine").mkdir()
    stand.engine.start()
    assert stand.waiting() == []
    stand.tell(*range(50, 53))  # work goes on meanwhile
    stand.tell(7)  # its sender had no answer, and sends it again
    status, made = stand.give_back()
    assert status == 200, made
    assert made["answer"]["messages"] == 29  # type: ignore[index]
    assert made["answer"]["known"] == 1  # type: ignore[index]
    there = set(stand.waiting())
    assert acknowledged - there == {f"C{number:03}" for number in range(30, 40)}
    assert there - acknowledged == {"C050", "C051", "C052"}
    again = stand.give_back()[1]
    assert again["answer"]["messages"] == 0, "twice does no harm"  # type: ignore[index]

    async def delivered() -> list[str]:
        lis = await Peer().start(stand.lis)
        deadline = time.monotonic() + DELIVERED_S
        while len(lis.kept) < 33 and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        await lis.stop()
        return [parse_header(payload).control_id for payload in lis.kept]

    back = [f"C{number:03}" for number in range(30) if number != 7]
    found = asyncio.run(delivered())
    assert found[0] in ("C000", "C050"), "what the courier had in hand goes first"
    assert [one for one in found if one in back] == back
    assert sorted(found) == sorted([*back, "C007", "C050", "C051", "C052"])
    assert found[-2:] == ["C052", "C007"]


def test_only_a_sound_copy_goes_back_and_only_to_who_takes_one(
    stand: Stand, tmp_path: Path
) -> None:
    """A copy that rotted is passed over, an unknown system and half a request are refused, and an
    engine takes nothing that is no engine's file."""
    stand.tell(*range(3))
    stand.copied(time.time())
    assert stand.vault.end(signal.SIGTERM) == 0
    for path in (tmp_path / "vault" / "files" / "engine").glob("*.db"):
        path.chmod(0o600)
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    stand.engine.kill()
    stand.vault.start()
    status, told = stand.give_back()
    assert status == 503
    assert "is not as it was received" in json.dumps(told)
    http = stand.vault.http
    for method in ("DELETE", "PUT", "PATCH"):
        for path in ("/backups", "/trials", "/restores", "/export", "/files/engine/1.db"):
            assert http.request(method, path).status_code in (404, 405), (method, path)
    kept = tmp_path / "vault" / "files"
    assert kept.stat().st_mode & 0o077 == 0, "nobody but the vault's own account looks in"
    assert http.post("/trials").status_code == 405, "nor has anybody a copy taken or tried alone"
    for wrong in ({"system": "gam"}, {"system": "engine", "x": 1}, {}):
        assert stand.vault.http.post("/restores", json=wrong).status_code in (400, 422)
