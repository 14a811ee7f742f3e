"""The cached cluster: whole or absent, made once, usable by everybody who may read it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
BUILD = (
    "import os, sys; from pathlib import Path;"
    "from stacks.hospital.step_down import step_down;"
    "os.geteuid() == 0 and step_down();"
    "from stacks.hospital.cluster_template import ready_template;"
    "print(ready_template(Path(sys.argv[1]), Path(sys.argv[2])))"
)


def build(shared: Path, scratch: Path) -> subprocess.Popen[str]:
    """Ask for the template as a database node does (PostgreSQL refuses root)."""
    return subprocess.Popen(
        [sys.executable, "-c", BUILD, str(shared), str(scratch)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        text=True,
        stdout=subprocess.PIPE,
    )


@pytest.mark.slow
def test_stacks_that_start_together_share_one_whole_template(tmp_path: Path) -> None:
    """Three builders at once: all get the same folder, it is complete, nothing is left over."""
    shared = tmp_path / "shared"
    builders = [build(shared, tmp_path / f"scratch-{n}") for n in range(3)]
    answers = {b.communicate(timeout=60)[0].strip() for b in builders}
    assert [b.returncode for b in builders] == [0, 0, 0]
    assert len(answers) == 1
    made = Path(answers.pop())
    assert made.parent == shared
    assert (made / "global" / "pg_control").is_file()
    assert not (made / "postmaster.pid").exists()
    assert sorted(p.name for p in shared.iterdir()) == sorted([made.name, f".{made.name}.lock"])
    again = build(shared, tmp_path / "scratch-0").communicate(timeout=60)[0].strip()
    assert Path(again) == made


@pytest.mark.slow
def test_an_unusable_cache_does_not_keep_the_database_down(tmp_path: Path) -> None:
    """Where the shared folder cannot be made, the node makes a template of its own."""
    (tmp_path / "file").write_text("not a folder")
    builder = build(tmp_path / "file" / "shared", tmp_path / "scratch")
    answer = builder.communicate(timeout=60)[0].strip()
    assert builder.returncode == 0
    assert Path(answer).parent == tmp_path / "scratch"
