"""The HTTP API: answers that stock clients rely on, and what this server refuses."""

from __future__ import annotations

import json
import re
import socket
import time
from typing import Any

import pytest

UPSTREAM = "127.0.0.1:9"
NEW = {"name": "p", "listen": "127.0.0.1:0", "upstream": UPSTREAM}
PLAIN = "text/plain; charset=utf-8"


def error(text: str, status: int) -> dict[str, Any]:
    return {"error": text, "status": status}


def test_version_has_its_exact_bytes(api) -> None:
    """Clients compare these bytes."""
    status, headers, body = api.raw("GET", "/version")
    assert (status, body) == (200, b'{"version": "2.12.0"}\n')
    assert headers["Content-Type"] == "application/json;charset=utf-8"
    assert len(headers["X-Toxiproxy-Request-Id"]) == 20


ROUTES = [
    ("GET", "/", 404),
    ("GET", "/proxies/", 404),
    ("GET", "/version/", 404),
    ("GET", "/metrics/x", 404),
    ("POST", "/version", 405),
    ("HEAD", "/proxies", 405),
    ("OPTIONS", "/proxies", 405),
    ("PUT", "/proxies/p", 405),
    ("DELETE", "/proxies/p/toxics", 405),
    ("GET", "/reset", 405),
    ("GET", "/proxies?x=1", 200),
    ("GET", "/proxies/a%2Fb", 404),
]


@pytest.mark.parametrize(("method", "path", "status"), ROUTES)
def test_routes(api, method: str, path: str, status: int) -> None:
    """Unknown paths are 404 as text, known ones with another method 405 with nothing."""
    got, headers, body = api.raw(method, path)
    assert got == status
    if status == 404:
        assert (headers["Content-Type"], body) == (PLAIN, b"404 page not found\n")
    if status == 405:
        assert ("Content-Type" in headers, body) == (False, b"")


def test_double_slash_is_redirected_and_cannot_inject_headers(api) -> None:
    """301 to the clean path, whatever it decodes to."""
    status, headers, _ = api.raw("GET", "//proxies/%0d%0aX-Evil:1?q=1")
    assert status == 301
    assert headers["Location"] == "/proxies/%0D%0AX-Evil:1?q=1"
    assert "X-Evil" not in headers


def test_browsers_are_refused(api) -> None:
    """A web page cannot drive the proxy."""
    status, headers, body = api.raw("POST", "/reset", **{"User-Agent": "Mozilla/5.0"})
    assert (status, headers["Content-Type"], body) == (403, PLAIN, b"User agent not allowed\n")


BAD_PROXIES: list[tuple[str, int, str]] = [
    ("", 400, "bad request body: EOF"),
    ("{", 400, "bad request body: unexpected EOF"),
    ("xyz", 400, "bad request body: invalid character 'x' looking for beginning of value"),
    ("[]", 400, "bad request body: json: cannot unmarshal array into Go value of type "),
    ('{"name":5}', 400, "bad request body: json: cannot unmarshal number into Go struct field "),
    ('{"name":"p","upstream":"u:1","enabled":"yes"}', 400, "bad request body: json: cannot unm"),
    ("{}", 400, "missing required field: name"),
    ("null", 400, "missing required field: name"),
    ('{"name":"p"}', 400, "missing required field: upstream"),
    ('{"name":"p","upstream":"u:1","listen":"nonsense"}', 500, "listen tcp: address nonsense: "),
    ('{"name":"p","upstream":"u:1","listen":"127.0.0.1:99999"}', 500, "listen tcp: address 99999"),
    ('{"name":"p","upstream":"u:1","listen":"127.0.0.1:abc"}', 500, "listen tcp: lookup tcp/abc"),
    ('{"name":"p","upstream":"u:1","listen":"::1:1"}', 500, "listen tcp: address ::1:1: too many"),
    ('{"name":"p","upstream":"u:1","listen":"192.0.2.1:1"}', 500, "listen tcp 192.0.2.1:1: bind: "),
    ('{"name":"p","upstream":"u:1","expires_in_ms":5}', 400, "expires_in_ms of a proxy goes with"),
    ('{"name":"p","upstream":"u:1","enabled":false,"expires_in_ms":0}', 400, "expires_in_ms must"),
]


@pytest.mark.parametrize(("body", "status", "text"), BAD_PROXIES)
def test_bad_proxies_are_refused_and_leave_nothing(api, body: str, status: int, text: str) -> None:
    """One line says what was wrong; no proxy is left behind."""
    got, headers, data = api.raw("POST", "/proxies", body)
    assert got == status
    assert headers["Content-Type"] == PLAIN
    assert json.loads(data)["error"].startswith(text)
    assert data.endswith(b"}\n")
    assert api("GET", "/proxies") == (200, {})


WILDCARDS = ["", ":0", "0.0.0.0:0", "[::]:0", "0:0", "[::ffff:0.0.0.0]:0", "[0:0::0]:0"]


@pytest.mark.parametrize("listen", WILDCARDS)
def test_all_interfaces_need_the_flag(api, listen: str) -> None:
    """However it is spelled, also when created disabled, changed to or populated."""
    for more in ({}, {"enabled": False}):
        status, answer = api("POST", "/proxies", {**NEW, "listen": listen, **more})
        assert (status, "--allow-all-interfaces" in answer["error"]) == (400, True)
    status, answer = api("POST", "/populate", [{**NEW, "listen": listen}])
    assert (status, answer["proxies"]) == (400, None)
    before = api("POST", "/proxies", NEW)[1]
    if listen:
        assert api("PATCH", "/proxies/p", {"listen": listen})[0] == 400
    assert api("GET", "/proxies/p") == (200, before)


def test_proxy_keys_are_the_stock_ones_in_order(api) -> None:
    """name, listen, upstream, enabled, toxics; `<`, `>` and `&` are escaped."""
    _, _, data = api.raw("POST", "/proxies", json.dumps({**NEW, "name": "<a&b>", "extra": 1}))
    assert b'"name":"\\u003ca\\u0026b\\u003e"' in data
    assert list(json.loads(data)) == ["name", "listen", "upstream", "enabled", "toxics"]


def test_json_is_read_as_the_reference_reads_it(api) -> None:
    """Keys in any case, the last one wins, null changes nothing, trailing bytes are ignored."""
    body = '{"NAME":"x","name":"p","Listen":"127.0.0.1:0","UPSTREAM":"u:1","enabled":null} tail'
    status, _, data = api.raw("POST", "/proxies", body)
    assert (status, json.loads(data)["name"]) == (201, "p")
    assert api("PATCH", "/proxies/p", "null")[0] == 200
    assert api("PATCH", "/proxies/p", '{"toxics":[1],"bogus":{}}')[0] == 200


def test_a_failed_change_changes_nothing(api) -> None:
    """A listen that is taken, or unreadable, leaves the proxy listening where it was."""
    before = api("POST", "/proxies", NEW)[1]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        for listen in (f"127.0.0.1:{taken.getsockname()[1]}", "nonsense", "no.such.host.invalid:1"):
            assert api("PATCH", "/proxies/p", {"listen": listen, "upstream": "u:2"})[0] == 500
            assert api("GET", "/proxies/p")[1] == before
            status, answer = api("POST", "/populate", [{**NEW, "listen": listen}])
            assert (status, answer["proxies"]) == (500, None)
            assert api("GET", "/proxies/p")[1] == before


def test_populate_keeps_what_came_before_a_failure(api) -> None:
    """Earlier entries stay and are returned beside the error."""
    status, answer = api("POST", "/populate", [NEW, {**NEW, "name": "q", "listen": "bad"}, NEW])
    assert status == 500
    assert [proxy["name"] for proxy in answer["proxies"]] == ["p"]
    assert list(api("GET", "/proxies")[1]) == ["p"]
    assert api("POST", "/populate", "[]") == (201, {"proxies": None})


def test_populate_replaces_only_what_differs(api) -> None:
    """Same addresses: toxics stay. Another upstream: a new proxy, on the same port."""
    listen = api("POST", "/proxies", NEW)[1]["listen"]
    api.toxic("latency")
    same = {**NEW, "listen": listen}
    assert len(api("POST", "/populate", [{**same, "enabled": False}])[1]["proxies"][0]["toxics"])
    other = api("POST", "/populate", [{**same, "upstream": "127.0.0.1:10"}])[1]["proxies"][0]
    assert (other["listen"], other["toxics"]) == (listen, [])


BAD_TOXICS: list[tuple[str, int, str]] = [
    ('{"type":"bogus","stream":"sideways"}', 400, "stream was invalid, can be either upstream or "),
    ('{"type":"bogus"}', 400, "invalid toxic type"),
    ('{"type":"latency","stream":""}', 400, "stream was invalid, can be either upstream or "),
    ('{"type":"latency","attributes":[]}', 400, "bad request body: json: cannot unmarshal array"),
    ('{"type":"latency","attributes":{"latency":5.0}}', 400, "bad request body: "),
    ('{"type":"latency","attributes":{"latency":1e3}}', 400, "bad request body: "),
    ('{"type":"latency","attributes":{"latency":100000000000000000000}}', 400, "bad request body"),
    ('{"type":"latency","toxicity":1e40}', 400, "bad request body: "),
    ('{"type":"latency","toxicity":NaN}', 400, "bad request body: invalid character 'N'"),
    ('{"type":"latency","expires_in_ms":-1}', 400, "expires_in_ms must be 1 to "),
    # these stop the reference server as soon as data flows
    ('{"type":"bandwidth","attributes":{"rate":-1}}', 400, "rate must be 0 to "),
    ('{"type":"slicer","attributes":{"average_size":-5}}', 400, "average_size must be 0 to "),
    (
        '{"type":"slicer","attributes":{"average_size":10,"size_variation":50}}',
        400,
        "size_variation must not exceed average_size (10), got 50",
    ),
    ('{"type":"latency","attributes":{"jitter":9223372036854775807}}', 400, "jitter must be 0 to"),
]


@pytest.mark.parametrize(("body", "status", "text"), BAD_TOXICS)
def test_bad_toxics_are_refused_and_leave_nothing(api, body: str, status: int, text: str) -> None:
    """Out-of-range attributes too: they would have no meaning, or stop a server."""
    api("POST", "/proxies", NEW)
    got, answer = api("POST", "/proxies/p/toxics", body)
    assert (got, answer["error"][: len(text)]) == (status, text)
    assert api("GET", "/proxies/p/toxics") == (200, [])


def test_toxics_show_upstream_first_and_names_are_unique(api) -> None:
    """Defaults, order and the case of `stream` as the reference has them."""
    api("POST", "/proxies", NEW)
    for body in ({"type": "latency"}, {"type": "noop", "stream": "UPSTREAM"}, {"type": "latency"}):
        status, _ = api("POST", "/proxies/p/toxics", body)
    assert status == 409
    shown = api("GET", "/proxies/p/toxics")[1]
    assert [toxic["name"] for toxic in shown] == ["noop_UPSTREAM", "latency_downstream"]
    assert shown[1] == {
        "attributes": {"latency": 0, "jitter": 0},
        "name": "latency_downstream",
        "type": "latency",
        "stream": "downstream",
        "toxicity": 1,
    }


FLOATS = [(0.33333333333, "0.33333334"), (1e-9, "1e-9"), (2, "2"), (-1, "-1"), (0.1, "0.1")]


@pytest.mark.parametrize(("said", "shown"), FLOATS)
def test_toxicity_is_a_32_bit_number(api, said: float, shown: str) -> None:
    """Shown in its shortest form, as the reference shows it."""
    api("POST", "/proxies", NEW)
    _, _, data = api.raw("POST", "/proxies/p/toxics", f'{{"type":"noop","toxicity":{said}}}')
    assert data.decode().endswith(f'"toxicity":{shown}}}')


def test_a_failed_toxic_change_changes_nothing(api) -> None:
    """One good and one bad attribute: neither is taken."""
    api("POST", "/proxies", NEW)
    api.toxic("latency", latency=10, jitter=5)
    before = api("GET", "/proxies/p/toxics/t")[1]
    for attributes in ({"latency": 20, "jitter": "bad"}, {"latency": 20, "jitter": -1}):
        body = {"attributes": attributes, "toxicity": 0.5}
        assert api("PATCH", "/proxies/p/toxics/t", body)[0] == 400
        assert api("GET", "/proxies/p/toxics/t")[1] == before
    assert api("PATCH", "/proxies/p/toxics/t", {"attributes": {"JITTER": 1}})[1]["attributes"] == {
        "latency": 10,
        "jitter": 1,
    }


def test_reset_heals_every_proxy_even_if_one_cannot_start(api) -> None:
    """The failure is reported, the healthy proxies are healed all the same."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        api("POST", "/proxies", {**NEW, "name": "a", "listen": listen, "enabled": False})
        api("POST", "/proxies", NEW)
        api("POST", "/proxies", {**NEW, "name": "z", "enabled": False})
        api.toxic("latency")
        assert api("POST", "/reset", "any body")[0] == 500
    shown = api("GET", "/proxies")[1]
    assert [shown[name]["enabled"] for name in "apz"] == [False, True, True]
    assert shown["p"]["toxics"] == []
    assert api("POST", "/reset") == (204, None)


def test_metrics_count_streams_that_ended(api, peers, ending) -> None:
    """Received and sent bytes by direction once the connection is over; none before."""
    client, _ = peers.pair(echo=True)
    assert b"toxiproxy_proxy_" not in api.raw("GET", "/metrics")[2]
    client.sendall(b"x" * 99)
    client.shutdown(socket.SHUT_WR)
    assert ending(client)[0] == "EOF"
    page = api.raw("GET", "/metrics")[2].decode()
    for what in ("received", "sent"):
        for direction in ("upstream", "downstream"):
            line = f'toxiproxy_proxy_{what}_bytes_total{{direction="{direction}",listener="127.0.'
            assert [x for x in page.splitlines() if x.startswith(line) and x.endswith("} 100")]
    assert "process_resident_memory_bytes " in page


def test_metrics_are_off_unless_asked_for(fresh_server) -> None:
    """Without the flags /metrics does not exist."""
    assert fresh_server().raw("GET", "/metrics")[0] == 404


def test_requests_may_be_split_pipelined_and_chunked(api) -> None:
    """The HTTP reader takes bytes as they come and answers in order."""
    body = json.dumps(NEW).encode()
    create = (
        b"POST /proxies HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        + b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    )
    show = b"GET /proxies/p HTTP/1.1\r\nHost: x\r\n\r\n"
    last = b"DELETE /proxies/p HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    with socket.create_connection((api.host, api.port), timeout=5) as raw:
        for start in range(0, len(create), 7):
            raw.sendall(create[start : start + 7])
        raw.sendall(show + last)
        answer = b""
        while data := raw.recv(65536):
            answer += data
    codes = re.findall(rb"HTTP/1\.1 ([0-9]+) ", answer)
    assert codes == [b"201", b"200", b"204"]


MALFORMED = [
    (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", b"400"),
    (b"GET /version HTTP/1.1\r\n\r\n", b"400"),
    (b"GET /version HTTP/2.0\r\nHost: x\r\n\r\n", b"400"),
    (b"GET /version HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", b"400"),
    (b"GET /version HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n", b"413"),
    (b"GET /%zz HTTP/1.1\r\nHost: x\r\n\r\n", b"400"),
    (b"GET /" + b"a" * 70_000, b"431"),
    (b"POST /reset HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", b"400"),
]


@pytest.mark.parametrize(("request_bytes", "code"), MALFORMED)
def test_malformed_requests_get_an_answer(api, request_bytes: bytes, code: bytes) -> None:
    """Bytes that are no request are answered with 4xx; the server goes on."""
    with socket.create_connection((api.host, api.port), timeout=5) as raw:
        raw.sendall(request_bytes)
        assert raw.recv(65536).split(b" ")[1] == code
    assert api("GET", "/version")[0] == 200


def test_silent_api_clients_do_not_keep_others_out(api) -> None:
    """With hundreds of half-sent requests open, a new call is answered within a second."""
    silent = []
    try:
        for _ in range(300):
            silent.append(socket.create_connection((api.host, api.port), timeout=5))
            silent[-1].sendall(b"POST /proxies HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{")
        began = time.monotonic()
        assert api("GET", "/version")[0] == 200
        assert time.monotonic() - began < 1
    finally:
        for sock in silent:
            sock.close()
