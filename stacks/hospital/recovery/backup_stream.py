"""Pulls the log from whichever node is primary, without a pause; notices when something is missing.

    stream = LogStream(place, log); Face(background=[stream.run])

PostgreSQL's own pg_receivewal writes what the primary sends; a new primary is followed. It keeps
no slot on the database (Patroni removes strangers' slots, and a vault that is away must not fill
a database's disk): log that is gone before it was fetched is a gap, said aloud, and begins a new
chain that needs a new base backup.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path

import msgspec
import psycopg

from stacks.hospital.bugs import planted
from stacks.hospital.log import Log, describe
from stacks.hospital.recovery import backup_log
from stacks.hospital.recovery.backup_places import (
    NodeState,
    Place,
    die_with_parent,
    position,
    program_dsn,
    program_environment,
    state,
)

LOOK_EVERY_S = 1.0
END_S = 3.0
SILENT_S = 8.0
"""So long the primary may have log that does not arrive before the stream is begun anew."""
GAPS = ("has already been removed", "is not in this server's history", "is ahead of", "diverged")
"""What a primary says when it cannot go on from where the vault is."""
WORDS_BYTES = 4_096


class Gap(msgspec.Struct, frozen=True):
    """Log that the vault will never have; Unix seconds."""

    at: float
    chain: str
    node: str
    reason: str


class Failover(msgspec.Struct, frozen=True):
    """A new primary's timeline; positions in bytes of log, `seen_at` in Unix seconds."""

    seen_at: float
    node: str
    timeline: int
    left_at: int
    """Where the new timeline leaves the old one."""
    lost_bytes: int
    """Log of the old timeline that the vault has, and the new primary never had."""
    since: float = 0.0
    """When the old primary had written no more than the new one has; 0 when nobody looked."""


@dataclass(slots=True)
class _Running:
    process: asyncio.subprocess.Process
    node: str
    words: Path


class LogStream:
    """One pg_receivewal at a time, and what is known of how far it has come."""

    def __init__(self, place: Place, log: Log) -> None:
        self._place, self._log = place, log
        chains = sorted(path.name for path in place.log.iterdir() if path.is_dir())
        self.chain = chains[-1] if chains else "chain-0001"
        self._folder.mkdir(exist_ok=True)
        self._sealed = backup_log.sealed(self._folder)
        self._running: _Running | None = None
        self._seen: deque[tuple[float, int]] = deque(maxlen=600)
        self._written: deque[NodeState] = deque(maxlen=600)
        """Primaries as they were seen, across gaps."""
        self.primary: NodeState | None = None
        self.archived_at = 0.0
        """Unix seconds: what was committed by then is in the vault, if it is recoverable at all."""
        self.archived = 0
        self.moved_at = time.monotonic()
        self.gaps: list[Gap] = []
        self.failovers: list[Failover] = []
        self._furthest: dict[int, int] = {}
        self.trouble = "not begun yet"
        self.based = False
        self.needed_from = 0
        """Log before this position is needed by no base that is kept."""
        self._node = ""

    @property
    def nodes(self) -> tuple[str, ...]:
        """Whose log there is to follow in this hospital."""
        return tuple(name for name, _ in self._place.nodes)

    @property
    def _folder(self) -> Path:
        return self._place.log / self.chain

    async def run(self, stop: asyncio.Event) -> None:
        """Background work: until told to stop."""
        try:
            while not stop.is_set():
                try:
                    await self._look()
                except OSError as error:
                    self.trouble = f"the vault's disk: {describe(error)}"
                    self._log.warn_once_per(10.0, "log_not_kept", reason=self.trouble)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_EVERY_S):
                        await stop.wait()
        finally:
            await self._end()

    async def new_chain(self, node: str, reason: str) -> None:
        """What follows does not join what is there: say so, and begin anew."""
        await self._end()
        await asyncio.to_thread(backup_log.seal, self._folder, self._sealed)
        self.gaps.append(Gap(time.time(), self.chain, node, reason))
        self._log.warn("log_has_a_gap", chain=self.chain, node=node, reason=reason)
        self.chain = f"chain-{int(self.chain.rpartition('-')[2]) + 1:04}"
        self._folder.mkdir(exist_ok=True)
        self._sealed, self.needed_from, self.archived = {}, 0, 0
        self._seen.clear()
        self.trouble = "a new chain begins"

    # -- one look ---------------------------------------------------------------------------------

    async def _look(self) -> None:
        if planted("backup-stops-silently") and self.based:
            # The receiver has ended, nobody looks, and the page shows when it was last looked at.
            await self._end()
            self.archived_at = time.time()
            return
        await asyncio.to_thread(self._tidy)
        self.primary = primary = await self._find()
        if primary is None:
            self.trouble = "no node is primary"
            return
        self._note(primary)
        running = self._running
        if running is not None and running.process.returncode is not None:
            await self._ended(running)
        elif running is not None and (running.node != primary.name or self._silent(primary)):
            await self._end()
        if self._running is None:
            await self._begin(primary)
        if all(one.timeline != primary.timeline for one in self.failovers):
            await asyncio.to_thread(self._changed_hands, primary)

    def _tidy(self) -> None:
        backup_log.seal(self._folder, self._sealed)
        if self.needed_from and backup_log.let_go(self._folder, self.needed_from):
            self._sealed = backup_log.sealed(self._folder)

    async def _find(self) -> NodeState | None:
        """The primary; of two that say so, the one on the younger timeline."""
        asked = await asyncio.gather(
            *(asyncio.to_thread(state, *node) for node in self._place.nodes),
            return_exceptions=True,
        )
        for one in asked:
            if isinstance(one, BaseException) and not isinstance(one, psycopg.Error):
                raise one
        primaries = [one for one in asked if isinstance(one, NodeState) and not one.standby]
        return max(primaries, key=lambda one: one.timeline, default=None)

    def _note(self, primary: NodeState) -> None:
        """An instant is archived when the log that was there then has been received."""
        self._seen.append((primary.at, primary.flushed))
        self._written.append(primary)
        if primary.received > self.archived or primary.received >= primary.flushed:
            self.moved_at = time.monotonic()
        self.archived = primary.received
        furthest = max(self._furthest.get(primary.timeline, 0), primary.received)
        self._furthest[primary.timeline] = furthest
        done = [at for at, flushed in self._seen if flushed <= primary.received]
        if done:
            self.archived_at = max(self.archived_at, *done)
            self.trouble = ""

    def _changed_hands(self, primary: NodeState) -> None:
        """What a failover lost is seen by whoever has more of the old log than the new primary."""
        before = max((one for one in self._furthest if one < primary.timeline), default=0)
        history = self._folder / f"{primary.timeline:08X}.history"
        if not before or not history.exists():
            return
        lines = [line.split() for line in history.read_text().splitlines() if line.strip()]
        left = next((position(one[1]) for one in lines if int(one[0]) == before), 0)
        lost = max(0, self._furthest[before] - left)
        since = max(
            (one.at for one in self._written if one.timeline == before and one.flushed <= left),
            default=0.0,
        )
        self.failovers.append(
            Failover(time.time(), primary.name, primary.timeline, left, lost, since)
        )
        self._log.info(
            "failover_followed", node=primary.name, timeline=primary.timeline, lost_bytes=lost
        )  # fmt: skip

    def _silent(self, primary: NodeState) -> bool:
        behind = primary.received < primary.flushed
        return behind and time.monotonic() - self.moved_at > SILENT_S

    # -- the receiver -----------------------------------------------------------------------------

    async def _begin(self, primary: NodeState) -> None:
        await asyncio.to_thread(backup_log.drop_unfinished, self._folder)
        words = self._place.log / "receiver.words"
        with words.open("wb") as out:
            process = await asyncio.create_subprocess_exec(
                str(self._place.binaries / "pg_receivewal"),
                "--directory", str(self._folder), "--no-loop", "--no-password",
                "--status-interval=1", "--dbname", program_dsn(primary.address),
                stdin=asyncio.subprocess.DEVNULL, stdout=out, stderr=out, cwd=self._place.log,
                env=program_environment(), preexec_fn=die_with_parent,
            )  # fmt: skip
        self._running = _Running(process, primary.name, words)
        self.moved_at = time.monotonic()
        if self._node != primary.name:
            self._log.info("log_followed", node=primary.name, timeline=primary.timeline)
        self._node = primary.name

    async def _ended(self, running: _Running) -> None:
        self._running = None
        raw = (await asyncio.to_thread(running.words.read_bytes))[-WORDS_BYTES:]
        said = " ".join(raw.decode("utf-8", "replace").split())
        self.trouble = said[-300:] or f"pg_receivewal ended with {running.process.returncode}"
        if any(words in said for words in GAPS):
            await self.new_chain(running.node, self.trouble)

    async def _end(self) -> None:
        running, self._running = self._running, None
        if running is None or running.process.returncode is not None:
            return
        for number in (signal.SIGINT, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                running.process.send_signal(number)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(END_S):
                    await running.process.wait()
                    return
