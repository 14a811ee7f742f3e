"""Bad input to running services: a clear answer, no traceback, no hang, and work goes on."""

from __future__ import annotations

import asyncio
import contextlib
import random
import urllib.request
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from urllib.error import HTTPError

import pytest

from stacks.hospital.wire.hl7 import Header, build
from stacks.hospital.wire.mllp import MllpClient, enframe

from .stand import Process, asynchronous
from .test_lis import order

SERVICES = ("engine", "lis", "analysers")


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Process]]:
    folder: Path = tmp_path_factory.mktemp("services")
    raised = {name: Process(name, folder, {}) for name in SERVICES}
    for process in raised.values():
        process.start()
    yield raised
    for process in raised.values():
        process.kill()


async def _pour(port: int, seed: int) -> None:
    chance = random.Random(seed)
    good = enframe(build(Header(f"F{seed}", sender="FUZZ", at=1e9), order(seed)))
    with contextlib.suppress(OSError):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(20):
            noise = bytearray(good)
            for _ in range(chance.randrange(1, 6)):
                noise[chance.randrange(len(noise))] = chance.randrange(256)
            writer.write(bytes(noise[: chance.randrange(1, len(noise))]))
            if chance.random() < 0.5:
                writer.write(chance.randbytes(chance.randrange(200)))
            await writer.drain()
        writer.transport.abort()


@pytest.mark.parametrize("name", ["engine", "lis"])
@asynchronous
async def test_noise_on_mllp_is_survived(services: dict[str, Process], name: str) -> None:
    """200 damaged frames and half messages on 40 connections: the next message is taken."""
    process = services[name]
    await asyncio.gather(*(_pour(process.mllp, seed) for seed in range(40)))
    client = MllpClient(("127.0.0.1", process.mllp))
    payload = build(Header("good", sender="EHR", at=1e9), order(4711))
    assert (await client.send(payload, "good")).accepted
    await client.close()
    assert (await asyncio.to_thread(process.get, "/health"))["status"] == "ready"
    assert '"trace"' not in process.log()
    assert "Traceback" not in process.log()


BAD = [
    ("lis", "GET", "/feed/results?after=-1", b"", 400),
    ("lis", "GET", "/feed/results?limit=99999999", b"", 400),
    ("lis", "GET", "/criticals?open=maybe", b"", 400),
    ("lis", "POST", "/criticals/x/ack", b"\xff", 400),
    ("lis", "POST", "/tasks/9/retry", b"", 404),
    ("engine", "POST", "/tasks/99999999999999999999/retry", b"", 404),
    ("engine", "POST", "/queues", b"", 405),
    ("engine", "GET", "/nowhere", b"", 404),
    ("analysers", "GET", "/console?after=%C2%B2", b"", 400),
    ("analysers", "POST", "/criticals/none/ack", b'{"carer":"x"}', 404),
]


@pytest.mark.parametrize(("name", "method", "path", "content", "status"), BAD)
def test_bad_requests_get_an_outcome(
    services: dict[str, Process], name: str, method: str, path: str, content: bytes, status: int
) -> None:
    """Wrong numbers, paths, methods, bodies: the right status and an OperationOutcome."""
    process = services[name]
    request = urllib.request.Request(
        f"http://127.0.0.1:{process.http}{path}", content or None, method=method
    )
    with pytest.raises(HTTPError) as caught:
        urllib.request.urlopen(request, timeout=5)
    assert caught.value.code == status
    assert b"OperationOutcome" in caught.value.read()
    assert '"trace"' not in process.log()


def test_an_oversized_body_is_refused_before_it_is_read(services: dict[str, Process]) -> None:
    """2 MiB announced: 413 with a reason, without waiting for the bytes."""
    connection = HTTPConnection("127.0.0.1", services["analysers"].http, timeout=5)
    connection.putrequest("POST", "/specimens")
    connection.putheader("Content-Length", str(2 << 20))
    connection.endheaders()
    response = connection.getresponse()
    assert response.status == 413
    assert b"OperationOutcome" in response.read()
    connection.close()
