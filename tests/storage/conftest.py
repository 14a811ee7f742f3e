from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.storage.arrays import Array, mounted


@pytest.fixture
def array(tmp_path: Path) -> Iterator[Array]:
    with mounted(tmp_path / "stack") as found:
        yield found
