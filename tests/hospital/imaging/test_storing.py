"""Answers reach who asked, whoever else takes messages from the association."""

from __future__ import annotations

import queue
import threading
from types import SimpleNamespace
from typing import Any, cast

import pytest
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import (
    C_ECHO,
    C_FIND,
    C_STORE,
    N_ACTION,
    N_CREATE,
    N_EVENT_REPORT,
    N_SET,
)
from pynetdicom.presentation import build_context

from stacks.hospital.imaging.instances import Encoded
from stacks.hospital.imaging.replies import keep_replies
from stacks.hospital.imaging.storing import AssociationLost, store

SOP_CLASS, SYNTAX, CONTEXT = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1", 1
IMAGE = Encoded(SOP_CLASS, "1.2.3", SYNTAX, b"")


class Peer:
    """An association whose other end is the test: `replies` are put in when a request is sent."""

    def __init__(self, *replies: Any) -> None:
        self.replies, self.aborted, self.is_established = replies, False, True
        self.acceptor = SimpleNamespace(ae_title="PEER")
        context = build_context(SOP_CLASS, SYNTAX)
        context.context_id = CONTEXT
        self.accepted_contexts = [context]
        self.dimse = SimpleNamespace(
            msg_queue=queue.Queue(), dimse_timeout=0.2, send_msg=lambda *_: self._reply()
        )

    def _reply(self) -> None:
        for one in self.replies:
            self.dimse.msg_queue.put((None if one is None else CONTEXT, one))

    def abort(self) -> None:
        self.aborted, self.is_established = True, False


def answer(status: int = 0, to: int = 1) -> C_STORE:
    said = C_STORE()
    said.MessageIDBeingRespondedTo, said.Status = to, status
    return said


def stored(peer: Peer) -> int:
    open_ = cast(Association, peer)
    keep_replies(open_)
    return store(open_, IMAGE, 1)


def test_a_reactor_that_takes_all_it_finds_takes_no_answer() -> None:
    """pynetdicom's takes a message whenever it finds one, also just before it was paused."""
    peer = Peer(answer(0xA700))
    open_, stop, taken = cast(Association, peer), threading.Event(), list[Any]()
    keep_replies(open_)

    def reactor() -> None:
        while not stop.is_set():
            try:
                taken.append(peer.dimse.msg_queue.get(block=False))
            except queue.Empty:
                pass

    thread = threading.Thread(target=reactor)
    thread.start()
    try:
        assert [store(open_, IMAGE, 1) for _ in range(200)] == [0xA700] * 200
    finally:
        stop.set()
        thread.join()
    assert taken == []


@pytest.mark.parametrize("kind", [C_ECHO, C_FIND, N_ACTION, N_CREATE, N_EVENT_REPORT, N_SET])
def test_every_answer_is_for_those_who_wait(kind: type[Any]) -> None:
    """And no request is: those are the reactor's, which never waits."""
    peer = Peer()
    keep_replies(cast(Association, peer))
    said, asked = kind(), kind()
    said.MessageIDBeingRespondedTo, asked.MessageID = 1, 2
    for one in (said, asked):
        peer.dimse.msg_queue.put((CONTEXT, one))
    assert peer.dimse.msg_queue.get(timeout=1) == (CONTEXT, said)
    assert peer.dimse.msg_queue.get(block=False) == (CONTEXT, asked)
    for block in (True, False):
        with pytest.raises(queue.Empty):
            peer.dimse.msg_queue.get(block=block, timeout=0.01)


def test_what_the_peer_asks_meanwhile_is_no_answer() -> None:
    """A report of commitment may come between request and answer: it is left to the reactor."""
    asked = C_ECHO()
    peer = Peer(asked, answer())
    assert stored(peer) == 0
    assert peer.dimse.msg_queue.get(block=False) == (CONTEXT, asked)


@pytest.mark.parametrize(
    "replies", [(), (None,), (answer(to=7),)], ids=["silence", "the end", "another's answer"]
)
def test_without_its_own_answer_the_outcome_is_unknown(replies: tuple[Any, ...]) -> None:
    peer = Peer(*replies)
    with pytest.raises(AssociationLost):
        stored(peer)
    assert peer.aborted


def test_the_end_is_heard_by_everybody() -> None:
    """Also by the reactor, and by whoever waits for something else."""
    peer = Peer(None)
    with pytest.raises(AssociationLost):
        stored(peer)
    assert peer.dimse.msg_queue.get(block=False) == (None, None)
