"""Speaking toxics in the running server: real sockets, a real DICOM archive, the API's answers."""

from __future__ import annotations

import http.client
import socket
import time
from collections.abc import Callable, Iterator

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE, evt

from tests.conditions import until
from tests.toxiproxy.talk_bench import acknowledgement, message

FOREVER_MS = 60_000


def record(api, name: str = "t") -> dict[str, object]:
    status, records = api("GET", "/proxies/p/records")
    assert status == 200
    return records[name]


def instance(uid: str, rows: int = 64) -> Dataset:
    """A small CT image."""
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.SOPClassUID, image.SOPInstanceUID = CTImageStorage, uid
    image.PatientID = "4711"
    image.PixelData = bytes(rows * rows * 2)
    image["PixelData"].VR = "OW"
    return image


class Archive:
    """A storage SCP that lists what it was asked to store."""

    def __init__(self) -> None:
        self.got: list[str] = []
        self.told: list[str] = []  # who was told that the association is aborted
        ae = AE("ARCHIVE")
        ae.add_supported_context(CTImageStorage, ExplicitVRLittleEndian)
        handlers = [(evt.EVT_C_STORE, self._store), (evt.EVT_ABORTED, self._abort)]
        self.server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
        self.address = f"127.0.0.1:{self.server.server_address[1]}"

    def _store(self, event: evt.Event) -> int:
        self.got.append(str(event.dataset.SOPInstanceUID))
        return 0

    def _abort(self, event: evt.Event) -> None:
        del event
        self.told.append("archive")


@pytest.fixture
def archive() -> Iterator[Archive]:
    archive = Archive()
    yield archive
    archive.server.shutdown()


@pytest.fixture
def send(api, archive: Archive) -> Iterator[Callable[..., list[int | None]]]:
    """Stores instances over one association through proxy `p`: their statuses (None: no answer)."""
    port = api.proxy(archive.address)
    ae = AE("MODALITY")
    ae.dimse_timeout = 1
    ae.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)

    def stored(*uids: str) -> list[int | None]:
        handlers = [(evt.EVT_ABORTED, lambda _event: archive.told.append("sender"))]
        association = ae.associate("127.0.0.1", port, ae_title="ARCHIVE", evt_handlers=handlers)
        assert association.is_established
        statuses: list[int | None] = []
        try:
            for uid in uids:
                answer = association.send_c_store(instance(uid))
                statuses.append(answer.Status if "Status" in answer else None)
                if statuses[-1] is None:
                    break
        finally:
            if association.is_established:
                association.release()
        return statuses

    yield stored
    ae.shutdown()


def test_an_archive_out_of_resources_never_got_the_instance(api, archive, send) -> None:
    """The second of three: A700 to the sender, nothing to the archive; sent again it is stored."""
    api.toxic("dicom", action="refuse", nth=2, count=1, expires_in_ms=FOREVER_MS)
    assert send("1.2.1", "1.2.2", "1.2.3") == [0, 0xA700, 0]
    assert archive.got == ["1.2.1", "1.2.3"]
    assert send("1.2.2") == [0]
    seen = record(api)
    assert (seen["seen"], seen["acted"], seen["answered"], seen["again"]) == (4, 1, 0, 1)


def test_an_association_is_aborted_in_mid_instance_at_both_ends(api, archive, send) -> None:
    """Sender and archive both see A-ABORT; the archive does not store the instance."""
    api.toxic("dicom", action="abort", nth=2, after=0)
    assert send("1.2.1", "1.2.2", "1.2.3") == [0, None]
    assert until(lambda: sorted(archive.told) == ["archive", "sender"])
    assert archive.got == ["1.2.1"]
    assert send("1.2.2") == [0]
    assert record(api)["again"] == 1


def test_a_dropped_store_response_leaves_the_sender_in_the_dark(api, archive, send) -> None:
    """The archive has stored it; the sender hears nothing, gives up and closes."""
    api.toxic("dicom", action="drop", nth=1)
    assert send("1.2.1") == [None]
    assert archive.got == ["1.2.1"]
    assert until(lambda: record(api)["closed"] == 1)
    assert record(api)["acts"] == [{"of": "1.2.1", "answer": "0000", "then": ["closed"]}]


def test_an_acknowledgement_is_dropped_on_a_connection_that_was_open_before(
    api, peers, exactly
) -> None:
    """The toxic reads an open connection from its next frame on."""
    client, peer = peers.pair()
    api.toxic("mllp", action="drop", nth=1)
    for one in ("1", "2"):
        client.sendall(message(one))
        assert exactly(peer, len(message(one))) == message(one)
        peer.sendall(acknowledgement(one))
    assert exactly(client, len(acknowledgement("2"))) == acknowledgement("2")
    seen = record(api)
    assert (seen["seen"], seen["acted"], seen["answered"], seen["moved_on"]) == (2, 1, 1, 1)


def test_a_late_acknowledgement_comes_after_the_senders_patience(api, peers, exactly) -> None:
    """Nothing for the delay, then the acknowledgement, measured at the client."""
    client, peer = peers.pair()
    api.toxic("mllp", action="delay", delay=300)
    client.sendall(message("1"))
    exactly(peer, len(message("1")))
    began = time.monotonic()
    peer.sendall(acknowledgement("1"))
    assert exactly(client, len(acknowledgement("1"))) == acknowledgement("1")
    assert time.monotonic() - began >= 0.3


def test_a_request_is_refused_in_the_servers_place(api, peers) -> None:
    """503 and Retry-After to an ordinary client; the server's end got no byte of it."""
    client, peer = peers.pair()
    api.toxic("http", "upstream", action="refuse", method="PUT", path="/put", retry_after=2)
    connection = http.client.HTTPConnection("127.0.0.1")
    connection.sock = client
    connection.request("PUT", "/put", b"x" * 100_000)
    answer = connection.getresponse()
    assert (answer.status, answer.getheader("Retry-After")) == (503, "2")
    assert b"OperationOutcome" in answer.read()
    peer.settimeout(0.1)
    with pytest.raises(TimeoutError):
        peer.recv(1)


def test_another_protocol_passes_and_is_said(api, peers, exactly) -> None:
    """Bytes that are no DICOM arrive both ways; the record counts a connection it cannot read."""
    client, peer = peers.pair()
    api.toxic("dicom", action="refuse", every=1)
    client.sendall(b"GET / HTTP/1.1\r\n\r\n")
    assert exactly(peer, 18) == b"GET / HTTP/1.1\r\n\r\n"
    assert record(api)["unread"] == 1


def test_a_speaking_toxic_expires_and_its_record_stays(api, peers, exactly) -> None:
    """Gone by itself from open connections, too; what it did can still be asked."""
    client, peer = peers.pair()
    api.toxic("mllp", action="drop", every=1, expires_in_ms=2000)
    client.sendall(message("1"))
    exactly(peer, len(message("1")))
    peer.sendall(acknowledgement("1"))
    assert until(lambda: api("GET", "/proxies/p")[1]["toxics"] == [])
    peer.sendall(acknowledgement("2"))
    assert exactly(client, len(acknowledgement("2"))) == acknowledgement("2")
    assert record(api)["acted"] == 1


def test_its_toxicity_is_rolled_once_for_both_directions(api, peers, exactly) -> None:
    """A spared connection is spared both ways."""
    upstream = peers.upstream()
    client = peers.dial(api.proxy(upstream.address))
    api.toxic("mllp", action="drop", every=1, toxicity=0)
    client.sendall(message("1"))
    peer = upstream.peer()
    exactly(peer, len(message("1")))
    peer.sendall(acknowledgement("1"))
    assert exactly(client, len(acknowledgement("1"))) == acknowledgement("1")
    assert record(api)["seen"] == 0


def test_the_terms_are_shown_and_checked(api) -> None:
    """Text attributes are shown as text; another action, or a text too long, is a 400."""
    api.proxy("127.0.0.1:9")
    api.toxic("http", action="refuse", path="/fhir", every=2)
    status, shown = api("GET", "/proxies/p/toxics/t")
    assert status == 200
    assert (shown["attributes"]["path"], shown["attributes"]["every"]) == ("/fhir", 2)
    assert shown["record"]["acted"] == 0
    for bad in ({"action": "explode"}, {"action": 7}, {"path": "/" * 999}, {"nth": -1}):
        body = {"type": "http", "name": "u", "attributes": bad}
        assert api("POST", "/proxies/p/toxics", body)[0] == 400
    assert {"mllp", "dicom", "http", "latency"} <= set(api("GET", "/kinds")[1])


def closed(api) -> bool:
    try:
        port = int(api("GET", "/proxies/p")[1]["listen"].rsplit(":", 1)[1])
        socket.create_connection(("127.0.0.1", port), 1).close()
    except ConnectionRefusedError:
        return True
    return False


def test_a_proxy_that_two_closed_opens_when_the_last_lets_go(api) -> None:
    """Each caller closes and lets go under its own name, in any order."""
    api.proxy("127.0.0.1:9")
    for order in (("a", "b"), ("b", "a")):
        for name in ("a", "b"):
            assert api("POST", "/proxies/p", {"enabled": False, "by": name})[0] == 200
        first, last = order
        shown = api("POST", "/proxies/p", {"enabled": True, "by": first})[1]
        assert (shown["enabled"], shown["closed_by"]) == (False, [last])
        assert closed(api)
        shown = api("POST", "/proxies/p", {"enabled": True, "by": last})[1]
        assert shown["enabled"]
        assert "closed_by" not in shown
        assert not closed(api)


def test_each_closing_expires_on_its_own(api) -> None:
    """The first one's time ends nothing while the second one's runs."""
    api.proxy("127.0.0.1:9")
    api("POST", "/proxies/p", {"enabled": False, "by": "a", "expires_in_ms": 500})
    api("POST", "/proxies/p", {"enabled": False, "by": "b", "expires_in_ms": 4000})
    assert until(lambda: api("GET", "/proxies/p")[1].get("closed_by") == ["b"])
    assert closed(api)
    assert until(lambda: api("GET", "/proxies/p")[1]["enabled"], 10)


def test_a_plain_enable_opens_for_all(api) -> None:
    """A stock client knows no names: its word opens, and its disable is one more closing."""
    api.proxy("127.0.0.1:9")
    api("POST", "/proxies/p", {"enabled": False})
    api("POST", "/proxies/p", {"enabled": False, "by": "a"})
    assert not api("POST", "/proxies/p", {"enabled": True, "by": "a"})[1]["enabled"]
    assert api("POST", "/proxies/p", {"enabled": True})[1]["enabled"]
    assert api("POST", "/proxies/p", {"by": "a"})[0] == 400
