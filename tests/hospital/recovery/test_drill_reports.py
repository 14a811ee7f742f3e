"""When a drill or a trial is over: its report says `done` last of all, and is on disk by then."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from stacks.hospital.log import FieldValue, Log
from stacks.hospital.recovery import backup_drill, backup_trial
from stacks.hospital.recovery.backup_amcheck import Verified
from stacks.hospital.recovery.backup_base import Bases
from stacks.hospital.recovery.backup_drill import Drills
from stacks.hospital.recovery.backup_files import FileCopies
from stacks.hospital.recovery.backup_images import ImageCopies
from stacks.hospital.recovery.backup_marker import Markers
from stacks.hospital.recovery.backup_places import Place
from stacks.hospital.recovery.backup_trial import Trials
from stacks.hospital.settings import Settings, read

WITHIN_S = 20.0


class SlowLog(Log):
    """A log whose disk takes its time: whatever is done after a line comes late."""

    def _line(self, level: str, event: str, fields: dict[str, FieldValue]) -> None:
        time.sleep(0.05)
        super()._line(level, event, fields)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    for name in ("files", "drills", "scratch"):
        (tmp_path / name).mkdir()
    return Place(tmp_path, Path("/nowhere"), ())


def own_settings(place: Place) -> Settings:
    return read({
        "SERVICE_NAME": "backup", "SERVICE_ROOM": "vault", "DATA_DIR": str(place.folder),
        "LINK_LIS_HTTP": "127.0.0.1:1",
    })  # fmt: skip


def drills(place: Place) -> Drills:
    """Of a vault without bases: every drill ends soon, and badly."""
    bases = cast(Bases, SimpleNamespace(all=[], newest=None))
    return Drills(place, bases, SlowLog("backup"), cast(Markers, None))


def trials(place: Place) -> Trials:
    """Of a vault without copies: every trial ends soon, and badly."""
    own, log = own_settings(place), SlowLog("backup")
    return Trials(place, FileCopies(place, own, log), ImageCopies(place, own, log), log)


def begin(desk: Drills | Trials) -> Any:
    return desk.begin() if isinstance(desk, Drills) else desk.begin(["lis"])[0]


async def over(report: Any) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not report.done:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("make", [drills, trials])
def test_who_sees_that_a_drill_is_done_may_ask_for_the_next(place: Place, make: Any) -> None:
    """No moment in between in which the vault still refuses; the report is kept by then."""

    async def story() -> None:
        desk = make(place)
        report = begin(desk)
        assert desk.running
        async with asyncio.timeout(WITHIN_S):
            while not report.done:
                assert desk.running
                await asyncio.sleep(0)
        assert not desk.running
        assert list(place.drills.glob("*.json"))
        begin(desk)
        assert desk.running
        await desk.stop()

    asyncio.run(story())


@pytest.mark.parametrize(("make", "module"), [(drills, backup_drill), (trials, backup_trial)])
def test_a_report_that_cannot_be_kept_is_still_given(
    place: Place, make: Any, module: Any, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """The vault's disk is full: who waits for the drill gets its end, and the log says why."""

    def full(_path: Path, _value: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "keep_json", full)

    async def story() -> None:
        desk = make(place)
        report = begin(desk)
        await over(report)
        assert report.troubles
        assert not desk.running
        await desk.stop()

    asyncio.run(story())
    assert "_not_kept" in capsys.readouterr().err


def test_what_was_not_verified_is_not_called_good() -> None:
    """amcheck stopped half-way, or is not there: the drill says so and is no success."""
    report = backup_drill.Report("drill-1", 1.0, 0.0)
    backup_drill._add(report, Verified(tables=3, skipped="amcheck is not installed"))
    assert "amcheck is not installed" in report.troubles[0]


@pytest.mark.parametrize("make", [drills, trials])
def test_reports_of_before_are_over(place: Place, make: Any) -> None:
    """A vault that starts again is not busy with what it did before."""

    async def story() -> None:
        desk = make(place)
        await over(begin(desk))
        await desk.stop()
        again = make(place)
        assert [one.done for one in again.reports] == [True]
        assert not again.running

    asyncio.run(story())
