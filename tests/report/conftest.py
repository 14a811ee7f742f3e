"""The synthetic Saint-Luc day for every test of the report."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from chaos.journal.history import History


def _load() -> ModuleType:
    # Tests are imported by path (importmode=importlib), so a sibling is, too.
    spec = importlib.util.spec_from_file_location(
        "tests_report_saint_luc", Path(__file__).with_name("saint_luc.py")
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def saint_luc() -> ModuleType:
    """The generator of the day."""
    return _load()


@pytest.fixture(scope="session")
def history(saint_luc: ModuleType) -> History:
    """The whole day, read back."""
    return History.of(saint_luc.journal())
