"""No input stops the server: whatever is sent, it answers, and then still relays bytes."""

from __future__ import annotations

import json
import socket
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chaos.toxiproxy.toxics import KINDS

QUICK = settings(
    max_examples=120,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
INTEGERS = st.one_of(st.integers(-10, 10), st.integers(), st.just(2**63 - 1), st.just(-(2**63)))
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), INTEGERS, st.floats(), st.text(max_size=20)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
TEXTS = {name for kind in KINDS.values() for name in getattr(kind, "TEXTS", {})}
ATTRIBUTES = [*sorted({name for kind in KINDS.values() for name in kind.LIMITS} | TEXTS), "LATENCY"]


def toxic_bodies() -> st.SearchStrategy[dict[str, Any]]:
    """Toxics that are mostly well-formed, with values from sane to absurd."""
    return st.fixed_dictionaries(
        {"type": st.sampled_from(list(KINDS)) | VALUES},
        optional={
            "name": st.sampled_from(["a", "b", ""]) | VALUES,
            "stream": st.sampled_from(["upstream", "downstream", "UpStream"]) | VALUES,
            "toxicity": st.floats() | st.just(1) | VALUES,
            "attributes": st.dictionaries(st.sampled_from(ATTRIBUTES), INTEGERS | VALUES) | VALUES,
            "expires_in_ms": INTEGERS | VALUES,
        },
    )


def proxy_bodies() -> st.SearchStrategy[dict[str, Any]]:
    """Proxies likewise; hosts are literal so that no name server is asked."""
    ports = st.sampled_from(["0", "1", "99999", "-1", "", "x", "127.0.0.1"])
    listens = st.builds("{}:{}".format, st.sampled_from(["127.0.0.1", "[::1]", "", "::"]), ports)
    return st.fixed_dictionaries(
        {},
        optional={
            "name": st.sampled_from(["p", "q", "a/b", "ü", "\x00", "\ud800"]) | VALUES,
            "listen": listens | st.none() | INTEGERS,
            "upstream": st.sampled_from(["127.0.0.1:9", "nonsense", "", ":", "[::1]:99999"]),
            "enabled": st.booleans() | VALUES,
            "expires_in_ms": INTEGERS,
        },
    )


@QUICK
@given(body=toxic_bodies(), change=toxic_bodies(), payload=st.binary(min_size=1, max_size=3000))
def test_toxic_bodies(api, peers, body: Any, change: Any, payload: bytes) -> None:
    """Any toxic, changed to any other, with data flowing, is survived and can be reset."""
    api.clean()
    client, peer = peers.pair()
    for sock in (client, peer):
        sock.setblocking(False)
    for method, path, value in (
        ("POST", "/proxies/p/toxics", body),
        ("PATCH", "/proxies/p/toxics/a", change),
    ):
        status, answer = api(method, path, value)
        assert status in (200, 400, 404), answer
        for sock in (client, peer):
            try:
                sock.send(payload)
            except OSError:
                pass  # the toxic closed it
    assert api("POST", "/reset")[0] == 204
    assert api("GET", "/proxies/p")[1]["toxics"] == []


def _shown(api, body: dict[str, Any]) -> tuple[int, Any]:
    """The proxy; one that was made with an expiry may open by itself between two looks."""
    status, shown = api("GET", "/proxies/p")
    if "expires_in_ms" in body and isinstance(shown, dict):
        shown = {name: value for name, value in shown.items() if name != "enabled"}
    return status, shown


@QUICK
@given(body=proxy_bodies(), change=proxy_bodies(), many=st.lists(proxy_bodies(), max_size=3))
def test_proxy_bodies(api, body: Any, change: Any, many: Any) -> None:
    """Any proxy, change and list is answered, and never half done."""
    assert api("POST", "/proxies", body)[0] in (201, 400, 409, 500)
    before = _shown(api, body)
    status, _ = api("PATCH", "/proxies/p", change)
    assert status in (200, 400, 404, 500)
    if status != 200:
        assert _shown(api, body) == before
    assert api("POST", "/populate", many)[0] in (201, 400, 500)
    assert api("POST", "/reset")[0] in (204, 500)
    api.clean()


@QUICK
@given(
    body=st.binary(max_size=300) | VALUES.map(lambda v: json.dumps(v).encode()),
    call=st.sampled_from(
        [
            ("POST", "/proxies"),
            ("POST", "/populate"),
            ("PATCH", "/proxies/p"),
            ("POST", "/proxies/p/toxics"),
            ("PATCH", "/proxies/p/toxics/t"),
        ]
    ),
)
def test_any_bytes_as_a_body(api, body: bytes, call: tuple[str, str]) -> None:
    """Bytes that are no JSON, or JSON of any shape, get an answer below 600 at once."""
    if api("GET", "/proxies/p/toxics/t")[0] == 404:
        api.clean()
        api.proxy("127.0.0.1:9")
        api.toxic("noop")
    status, _, _ = api.raw(*call, body)
    assert status in (200, 201, 400, 409, 500)


@QUICK
@given(data=st.binary(max_size=400))
def test_any_bytes_as_a_request(api, data: bytes) -> None:
    """Raw bytes on the API port never stop it."""
    with socket.create_connection((api.host, api.port), timeout=5) as raw:
        raw.sendall(data)
    assert api("GET", "/version")[0] == 200


def test_deep_and_long_json(api) -> None:
    """Nesting, digits and length beyond reason are refused quickly."""
    api.proxy("127.0.0.1:9")
    digits = "9" * 200_000
    for body in (
        "[" * 500_000,
        '{"a":' * 100_000,
        f'{{"type":"latency","attributes":{{"latency":{digits}}}}}',
        f'{{"type":"latency","toxicity":{digits}}}',
        f'{{"type":"latency","toxicity":0.{digits}}}',
        f'{{"type":"latency","toxicity":1e{digits}}}',
    ):
        assert api("POST", "/proxies/p/toxics", body)[0] == 400
    assert api.raw("POST", "/proxies", b"x" * 2_000_000)[0] == 413


def test_default_slicer_survives_traffic(api, peers, exactly) -> None:
    """average_size 0, which exhausts the reference's stack, slices nothing."""
    client, peer = peers.pair()
    api.toxic("slicer")
    peer.sendall(b"x" * 1000)
    assert exactly(client, 1000) == b"x" * 1000
