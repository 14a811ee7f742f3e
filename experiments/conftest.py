"""What every experiment of this folder runs on: the mock hospital and the preset's hospital day."""

from __future__ import annotations

import pytest

from chaos.stack import Stack
from stacks.hospital.stack import DEPARTMENTS, hospital
from stacks.hospital.traffic.presets import PRESETS, Preset


def pytest_configure(config: pytest.Config) -> None:
    """Tell pytest the mark with which an experiment says which departments it needs."""
    config.addinivalue_line(
        "markers", "departments(*names): departments that stand; all of them without this mark"
    )


@pytest.fixture
def preset(request: pytest.FixtureRequest) -> Preset:
    """Length and density of the run, by --preset."""
    name = request.config.getoption("--preset")
    if name not in PRESETS:
        raise pytest.UsageError(f"unknown preset {name!r}; there are: {', '.join(PRESETS)}")
    return PRESETS[name]


@pytest.fixture
def stack(request: pytest.FixtureRequest, preset: Preset) -> Stack:
    """The mock hospital, with the one planted defect that HOSPITAL_BUG names, if any."""
    mark = request.node.get_closest_marker("departments")
    return hospital(speed=preset.speed, departments=mark.args if mark else DEPARTMENTS)
