"""The real image in a real engine: its services start as they will in an experiment, that is as
user 1000, without capabilities, on a read-only root, and without any network to the outside.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from stacks.hospital.image.base import MIRROR
from stacks.hospital.image.build import Made, Order, ensure, measure
from stacks.hospital.image.inputs import REPOSITORY, Inputs, inputs

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]

READY_S = 40.0
POLL_S = 0.2
LOOK_S = 2.0
LABEL = "hospital-chaos.test"
CODE_LAYERS = 2
"""The code itself, and its compiled form."""
ASK = (
    "import sys, urllib.request as r; "
    "print(r.urlopen('http://127.0.0.1:' + sys.argv[1], timeout=2).read().decode())"
)


def docker(*words: str, within_s: float = 60.0) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["docker", *words], capture_output=True, text=True, timeout=within_s, check=False
    )


@pytest.fixture(scope="module")
def wanted() -> Inputs:
    return inputs()


@pytest.fixture(scope="module")
def image(wanted: Inputs) -> Made:
    if shutil.which("docker") is None or docker("version").returncode != 0:
        pytest.skip("no Docker engine answers")
    made = ensure(wanted, Order("auto", MIRROR), print)
    measure(made)
    return made


@dataclass(frozen=True)
class Running:
    """One container of the image."""

    name: str

    def asks(self, where: str) -> str | None:
        """The body of an HTTP answer on the container's loopback; None while there is none."""
        done = docker("exec", self.name, "python", "-c", ASK, where)
        return done.stdout.strip() if done.returncode == 0 else None

    def ready(self, where: str) -> str:
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline:
            answer = self.asks(where)
            if answer is not None:
                return answer
            time.sleep(POLL_S)
        raise AssertionError(f"not ready: {docker('logs', self.name)}")

    def shell(self, command: str) -> str:
        done = docker("exec", self.name, "sh", "-c", command)
        return done.stdout.strip() + done.stderr.strip()


@dataclass
class Engine:
    """Starts containers of the image on a volume of their own."""

    tag: str
    started: list[str]

    def start(self, *command: str, **variables: str) -> Running:
        name = f"hc-test-image-{uuid.uuid4().hex[:8]}"
        self.started.append(name)
        words = [
            "run", "--detach", "--name", name, "--label", LABEL, "--init", "--read-only",
            "--tmpfs", "/tmp", "--user", "1000:1000", "--cap-drop", "ALL", "--network", "none",
            "--security-opt", "no-new-privileges", "--volume", f"{name}:/arrays",
        ]  # fmt: skip
        for variable, text in variables.items():
            words += ["--env", f"{variable}={text}"]
        done = docker(*words, self.tag, *command)
        assert done.returncode == 0, done.stderr
        return Running(name)

    def service(self, service: str, module: str, **binds: str) -> Running:
        folder = f"/arrays/{service}"
        command = f"mkdir {folder} && exec python -m {module}"
        return self.start(
            "sh", "-c", command, SERVICE_NAME=service, SERVICE_ROOM="A", DATA_DIR=folder, **binds
        )

    def remove_all(self) -> None:
        for name in self.started:
            docker("rm", "--force", name)
            docker("volume", "rm", "--force", name)


@pytest.fixture
def engine(image: Made) -> Iterator[Engine]:
    made = Engine(image.tag, [])
    yield made
    made.remove_all()


@pytest.mark.parametrize(
    ("service", "module"),
    [
        ("gam", "stacks.hospital.gam"),
        ("engine", "stacks.hospital.engine"),
        ("ris", "stacks.hospital.imaging.ris"),
        ("scheduling", "stacks.hospital.appointments.scheduling"),
    ],
)
def test_a_service_starts(engine: Engine, service: str, module: str) -> None:
    """A service of ours becomes ready and says who it is; its store lies on the array."""
    running = engine.service(
        service, module, BIND_HTTP="127.0.0.1:8000", BIND_MLLP="127.0.0.1:2575",
        BIND_DICOM="127.0.0.1:11112", LINK_ENGINE_MLLP="127.0.0.1:9", LINK_GAM_HTTP="127.0.0.1:9",
    )  # fmt: skip
    assert json.loads(running.ready("8000/health"))["service"] == service
    assert running.shell(f"ls /arrays/{service}")


def test_orthanc_starts_with_its_guard(engine: Engine) -> None:
    """The PACS is the real Orthanc; its guard, compiled beforehand, holds it to its address."""
    running = engine.service(
        "pacs-a", "stacks.hospital.imaging.pacs", PACS_KIND="orthanc",
        BIND_HTTP="127.0.0.1:8042", BIND_DICOM="127.0.0.1:4242",
    )  # fmt: skip
    assert json.loads(running.ready("8042/statistics"))["CountStudies"] == 0
    script = "cat /proc/[0-9]*/comm; grep -l orthanc-guard /proc/[0-9]*/maps"
    assert "Orthanc" in (told := running.shell(script))
    assert "/maps" in told
    # Addresses are little-endian hex: 0100007F is 127.0.0.1; 1092 is port 4242 of DICOM.
    listening = running.shell("cat /proc/net/tcp")
    assert "0100007F:1092" in listening
    assert "00000000:1092" not in listening


def test_a_database_node_starts_from_the_template(engine: Engine) -> None:
    """PostgreSQL under Patroni becomes primary, on a copy of the cluster made at build time."""
    running = engine.service(
        "ehr-db-a", "stacks.hospital.database", BIND_POSTGRES="127.0.0.1:5432",
        BIND_REST="127.0.0.1:8008", BIND_RAFT="127.0.0.1:2222", BIND_ETCD="127.0.0.1:2379",
        BIND_ETCD_PEER="127.0.0.1:2380", BIND_PEER="127.0.0.1:2380", HOSPITAL_DCS="raft",
    )  # fmt: skip
    assert json.loads(running.ready("8008/primary"))["role"] == "primary"
    assert "/opt/template/postgres-" in running.shell("cat /arrays/ehr-db-a/initdb")
    system = "pg=$(python -c 'from stacks.hospital import postgres; print(postgres.binaries())');"
    system += ' $pg/pg_controldata "$1" | grep "system identifier"'
    of = [
        running.shell(f"set -- {folder}; {system}")
        for folder in ("/opt/template/postgres-*", "/arrays/ehr-db-a/pgdata")
    ]
    assert of[0] == of[1] != ""


def test_the_proxy_starts(engine: Engine) -> None:
    """The embedded proxy of a room's gateway runs from the same image."""
    running = engine.start(
        "python", "-m", "chaos.toxiproxy", "--host", "127.0.0.1", "--port", "8474"
    )
    assert running.ready("8474/version")


def test_etcd_is_there(engine: Engine) -> None:
    """The keeper of Patroni's lock is the real etcd."""
    assert "etcd Version" in engine.start("sleep", "60").shell("etcd --version")


def test_who_and_where(engine: Engine) -> None:
    """Services are an unprivileged user; the array is theirs, the root nobody's; no pip is left."""
    running = engine.start("sleep", "60")
    assert running.shell("id -un; id -u; id -g").split() == ["hospital", "1000", "1000"]
    assert running.shell("stat -c %u:%g:%a /arrays") == "1000:1000:755"
    assert "Read-only" in running.shell("touch /opt/x")
    assert "No module named pip" in running.shell("python -m pip")
    assert running.shell("which python") == "/opt/venv/bin/python"


def test_code_is_compiled(engine: Engine) -> None:
    """Nothing is compiled at a start: every module has its bytecode already."""
    running = engine.start("sleep", "60")
    bare = running.shell(
        "cd /opt/hospital-chaos; for f in $(find . -name '*.py'); do "
        "ls $(dirname $f)/__pycache__/$(basename $f .py).cpython-*.pyc > /dev/null || echo $f; done"
    )
    assert bare == ""


def test_an_image_that_is_there_costs_nothing(image: Made, wanted: Inputs) -> None:
    """Asking for an image that exists is a matter of a look."""
    begun = time.monotonic()
    again = ensure(wanted, Order("offline", "http://nowhere.invalid"), print)
    assert (again.tag, again.built) == (image.tag, False)
    assert time.monotonic() - begun < LOOK_S


def _layers(tag: str) -> list[str]:
    told = docker("image", "inspect", "--format", "{{json .RootFS.Layers}}", tag)
    layers: list[str] = json.loads(told.stdout)
    return layers


def test_a_change_of_code_makes_only_the_last_layers(image: Made, wanted: Inputs) -> None:
    """Two edits of one service: all layers below the code are the same in both images.

    Not compared with `image` itself: another tree may have built that, with a template cluster of
    its own, before the engine forgot.
    """
    del image
    latest = docker("image", "inspect", "--format", "{{.Id}}", f"{REPOSITORY}:latest")
    made = [ensure(_edited(wanted), Order("auto", MIRROR), print) for _ in range(2)]
    try:
        assert all(one.built for one in made)
        before, after = (_layers(one.tag) for one in made)
        assert len(before) == len(after)
        assert before[:-CODE_LAYERS] == after[:-CODE_LAYERS]
        assert before[-CODE_LAYERS:] != after[-CODE_LAYERS:]
    finally:
        for one in made:
            docker("image", "rm", one.tag)
        docker("tag", latest.stdout.strip(), f"{REPOSITORY}:latest")


def _edited(wanted: Inputs) -> Inputs:
    name = "code/stacks/hospital/gam.py"
    line = f"\nEDITED = {uuid.uuid4().hex!r}\n"
    return replace(wanted, files={**wanted.files, name: wanted.files[name] + line.encode()})


def test_size_and_layers_are_told(image: Made) -> None:
    """The report's layers add up to its size, which stays below half a gigabyte."""
    total = sum(int(str(layer["bytes"])) for layer in image.layers)
    assert total == pytest.approx(image.size_bytes, rel=0.01)
    assert 100e6 < image.size_bytes < 600e6
