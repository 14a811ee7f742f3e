"""The talk with the kernel: takes its requests, lets the faults have their say, answers.

It knows no fault and no file: it asks `Faults` what shall happen and `Files` to do it. A request
that must wait is set aside without a thread of its own, however many wait.
"""

from __future__ import annotations

import errno
import os
import queue
import sys
import threading
import time
from contextlib import suppress

from chaos.storage import wire
from chaos.storage.armed import Ruling
from chaos.storage.faults import Faults
from chaos.storage.files import Caller, Files, NotDone
from chaos.storage.waiting import Request, Waiting

WORKERS = 8  # threads that take requests: as many may be busy in the folder behind at a time
LATE_WORKERS = 8  # the same for requests that had to wait
SILENT = frozenset({wire.Op.FORGET, wire.Op.BATCH_FORGET, wire.Op.INTERRUPT, wire.Op.DESTROY})


class Session:
    """One mounted array, served until it is unmounted."""

    def __init__(self, device: int, root: str) -> None:
        self.device = device
        self.files = Files(root, direct=True)
        self.faults = Faults(self.files)
        self._late: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        self.waiting = Waiting(
            self._late.put, self._let_go, self.faults.next_end, self.faults.end_due
        )
        self.faults.on_change = self.waiting.look_again

    def run(self) -> None:
        """Serve; returns when the array was unmounted."""
        self._greet()
        helpers = [
            threading.Thread(target=self._work_late, daemon=True) for _ in range(LATE_WORKERS)
        ]
        helpers.append(threading.Thread(target=self.waiting.run, daemon=True))
        workers = [threading.Thread(target=self._work, daemon=True) for _ in range(WORKERS)]
        for thread in (*helpers, *workers):
            thread.start()
        for thread in workers:
            thread.join()
        self.waiting.close()
        for _ in range(LATE_WORKERS):
            self._late.put(None)

    # ------------------------------------------------------------ requests

    def _greet(self) -> None:
        """The first request: what we speak and what we can."""
        request = os.read(self.device, wire.REQUEST_BYTES)
        _, op, unique, *_ = wire.HEADER.unpack_from(request)
        if op != wire.Op.INIT:
            raise OSError(errno.EPROTO, f"the kernel began with operation {op}")
        major, minor, readahead, flags = wire.INIT_IN.unpack_from(request, wire.HEADER.size)
        if (major, minor) < (wire.VERSION, wire.OLDEST_MINOR):
            self._answer(unique, errno.EPROTO)
            raise OSError(errno.EPROTO, f"the kernel speaks FUSE {major}.{minor}: older than 7.31")
        more = 0
        if flags & wire.INIT_EXT and len(request) >= wire.HEADER.size + 20:
            more = int.from_bytes(request[wire.HEADER.size + 16 :][:4], "little")
        wanted = wire.ASYNC_READ | wire.BIG_WRITES | wire.PARALLEL_DIROPS
        wanted |= wire.HAS_MAX_PAGES | wire.INIT_EXT
        if not more & wire.DIRECT_IO_MMAP:  # Linux before 6.6 cannot map a file past its cache
            self.files.open_flags &= ~wire.OPEN_DIRECT_IO
        self._answer(
            unique, 0,
            wire.INIT_OUT.pack(
                wire.VERSION, wire.MINOR, readahead, flags & wanted, 64, 48, wire.MAX_WRITE, 1,
                wire.MAX_PAGES, 0, more & wire.DIRECT_IO_MMAP,
            ),
        )  # fmt: skip

    def _work(self) -> None:
        """Take requests until the mount is gone."""
        buffer = bytearray(wire.REQUEST_BYTES)
        whole = memoryview(buffer)
        room = [buffer]
        device, unpack, head = self.device, wire.HEADER.unpack_from, wire.HEADER.size
        while True:
            try:
                count = os.readv(device, room)
            except OSError as error:
                if error.errno in (errno.EINTR, errno.EAGAIN, errno.ENOENT):
                    continue  # ENOENT: the caller took its request back
                return
            _, op, unique, number, uid, gid, thread, _, _ = unpack(buffer)
            body = whole[head:count]
            if op in SILENT:
                self._told(op, number, body)
                continue
            caller = Caller(uid, gid, thread)
            if self.faults.armed:
                self._under_faults(Request(op, unique, number, caller, bytes(body)))
            else:
                self._do(op, unique, number, caller, body)

    def _told(self, op: int, number: int, body: memoryview) -> None:
        """What the kernel only tells."""
        if op == wire.Op.FORGET:
            self.files.tree.forgotten(number, wire.FORGET_IN.unpack_from(body)[0])
        elif op == wire.Op.BATCH_FORGET:
            count, _ = wire.FORGET_MANY_IN.unpack_from(body)
            places = range(wire.FORGET_MANY_IN.size, len(body), wire.FORGET_ONE.size)
            for place in list(places)[:count]:
                self.files.tree.forgotten(*wire.FORGET_ONE.unpack_from(body, place))
        elif op == wire.Op.INTERRUPT:
            self.waiting.interrupted(wire.INTERRUPT_IN.unpack_from(body)[0])

    def _do(self, op: int, unique: int, number: int, caller: Caller, body: memoryview) -> None:
        """Do it as if there were no fault."""
        try:
            self._answer(unique, 0, self.files.serve(op, number, caller, body))
        except OSError as error:
            self._answer(unique, error.errno or errno.EIO)
        except NotDone:
            self._answer(unique, errno.ENOSYS)
        except Exception as error:
            self._mistaken(unique, op, error)

    # ------------------------------------------------------------ with faults

    def _under_faults(self, request: Request) -> None:
        try:
            request.ruling = self.faults.rule(request)
            if request.ruling.delay_s > 0:
                request.due = request.came + request.ruling.delay_s
                self.waiting.keep(request)
            else:
                self._go_on(request)
        except Exception as error:
            self._mistaken(request.unique, request.op, error)

    def _work_late(self) -> None:
        """Go on with requests that have waited."""
        while (request := self._late.get()) is not None:
            try:
                self._go_on(request)
            except Exception as error:
                self._mistaken(request.unique, request.op, error)

    def _go_on(self, request: Request) -> None:
        """Do what the faults have left of it, unless one holds it up."""
        if (hung := self.faults.hanging(request)) is not None:
            request.hung_by = hung
            self.waiting.keep(request)
            return
        request.hung_by = None
        ruling = request.ruling
        assert ruling is not None
        for slow in ruling.hit:
            slow.took_ms.append((ruling.delay_s * 1e3, (time.monotonic() - request.came) * 1e3))
        if ruling.torn > 0:
            self._tear(request, ruling)
        if ruling.error:
            self._answer(request.unique, ruling.error)
        elif ruling.free >= 0:
            seen = os.statvfs(self.files.root)
            blocks = ruling.free // (seen.f_frsize or 1)
            self._answer(request.unique, 0, self.files.packed_statfs(seen, blocks))
        else:
            self._do_logged(request, memoryview(request.body), ruling)

    def _do_logged(self, request: Request, body: memoryview, ruling: Ruling) -> None:
        r, log = request, ruling.log
        if log is None:
            self._do(r.op, r.unique, r.number, r.caller, body)
            return
        try:
            self._answer(r.unique, 0, log.do(r.op, r.number, r.caller, body, ruling.skipped))
        except OSError as error:
            self._answer(r.unique, error.errno or errno.EIO)
        except NotDone:
            self._answer(r.unique, errno.ENOSYS)
        except Exception as error:
            self._mistaken(r.unique, r.op, error)

    def _tear(self, request: Request, ruling: Ruling) -> None:
        """Only the first part of a write reaches the file."""
        handle, offset, _, flags = wire.IO_IN.unpack_from(request.body)
        part = bytearray(request.body[: wire.IO_IN_BYTES + ruling.torn])
        wire.IO_IN.pack_into(part, 0, handle, offset, ruling.torn, flags)
        with suppress(OSError):
            serve = ruling.log.do if ruling.log else self.files.serve
            more = (False,) if ruling.log else ()
            serve(request.op, request.number, request.caller, memoryview(part), *more)

    def _let_go(self, request: Request) -> None:
        """Its caller is being killed: the request ends without having been done."""
        self._answer(request.unique, errno.EINTR)

    def _mistaken(self, unique: int, op: int, error: Exception) -> None:
        """A mistake of ours: it must not leave the caller waiting for ever."""
        print(f"storage: operation {op}: {error!r}", file=sys.stderr, flush=True)
        self._answer(unique, errno.EIO)

    def _answer(self, unique: int, error: int, answer: bytes = b"") -> None:
        with suppress(OSError):  # the caller was killed meanwhile, or the mount is gone
            head = wire.ANSWER.pack(wire.ANSWER.size + len(answer), -error, unique)
            os.writev(self.device, (head, answer))
