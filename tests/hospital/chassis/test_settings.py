"""Settings and defects: a wrong environment is one clear line and status 64."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from stacks.hospital import bugs, settings

DOMAIN_CLAIM = re.compile(r"[A-Z]{2}-\d")


def environment(tmp_path: Path, **more: str) -> dict[str, str]:
    return {"SERVICE_NAME": "ehr-a", "SERVICE_ROOM": "A", "DATA_DIR": str(tmp_path), **more}


def test_links_and_binds(tmp_path: Path) -> None:
    """Names with dashes become variables; absent optional links are None."""
    found = settings.read(
        environment(
            tmp_path,
            BIND_HTTP="127.0.0.1:80",
            LINK_EHR_DB_A_POSTGRES="[::1]:5432",
            HOSPITAL_SPEED="120",
        )
    )
    assert found.bind("http") == ("127.0.0.1", 80)
    assert found.link("ehr-db-a", "postgres") == ("::1", 5432)
    assert found.optional_link("ehr-db-b", "postgres") is None
    assert found.real_s(60) == 0.5
    with pytest.raises(settings.SettingsError, match="LINK_ENGINE_MLLP is not set"):
        found.link("engine", "mllp")


@pytest.mark.parametrize(
    "wrong",
    [
        {"SERVICE_NAME": ""},
        {"DATA_DIR": "/nowhere/at/all"},
        {"BIND_HTTP": "80"},
        {"BIND_HTTP": "host:99999"},
        {"LINK_X_HTTP": ":80"},
        {"HOSPITAL_SPEED": "fast"},
        {"HOSPITAL_SPEED": "0"},
        {"STOP_S": "nan"},
    ],
)
def test_wrong_values_name_their_variable(tmp_path: Path, wrong: dict[str, str]) -> None:
    """Each error is one line that names the variable."""
    with pytest.raises(settings.SettingsError) as error:
        settings.read(environment(tmp_path) | wrong)
    assert next(iter(wrong)) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_defect_must_be_known(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An unknown name in the environment ends the service; an unknown name in code is a bug."""
    monkeypatch.setenv("HOSPITAL_BUG", "shed-fifo")
    assert bugs.planted("shed-fifo")
    assert not bugs.planted("ack-before-commit")
    with pytest.raises(KeyError):
        bugs.planted("no-such-thing")
    monkeypatch.setenv("HOSPITAL_BUG", "shed-fif")
    with pytest.raises(SystemExit) as ended:
        bugs.planted("shed-fifo")
    assert ended.value.code == 64
    assert "shed-fifo" in capsys.readouterr().err


def test_every_defect_breaks_a_claim_and_is_planted() -> None:
    """No defect without a claim; every defect of a service is asked for somewhere in its code."""
    source = "".join(
        path.read_text(encoding="utf-8")
        for path in Path(settings.__file__).parent.rglob("*.py")
        if path.name != "bugs.py"
    )
    for bug in bugs.BUGS.values():
        assert bug.claims, bug
        assert all(DOMAIN_CLAIM.fullmatch(claim) for claim in bug.claims), bug
        assert f'"{bug.name}"' in source, f"{bug.name} is planted nowhere"
