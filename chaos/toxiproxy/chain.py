"""The toxics of one stream, in order: each has a slot with its stage and its inbox.

    Slot ─▶ Slot ─▶ … ─▶ outlet

It refuses to know sockets and clocks: the stream feeds the first slot and empties the outlet.
"""

from __future__ import annotations

from random import Random

from chaos.toxiproxy.toxic import NamedToxic
from chaos.toxiproxy.toxics.noop import NoopStage
from chaos.toxiproxy.toxics.stage import Ending, Inbox, Memory, Stage
from chaos.toxiproxy.toxics.talk import Talk


class Slot:
    """A toxic's place in one stream: the stage at work there and what waits for it."""

    __slots__ = ("inbox", "memory", "random", "stage", "toxic")

    def __init__(self, toxic: NamedToxic, random: Random, memory: Memory) -> None:
        self.toxic = toxic
        self.random = random
        self.memory = memory
        self.stage: Stage = self._roll()
        self.inbox = Inbox(self.stage.room)

    def _roll(self) -> Stage:
        if self.toxic.speaks:  # its toxicity was rolled for when the talk began, for both sides
            spared = self.memory.talk is None
            return NoopStage() if spared else self.toxic.attributes.stage(self.memory, self.random)
        if self.random.random() < self.toxic.toxicity:
            return self.toxic.attributes.stage(self.memory, self.random)
        return NoopStage()

    def renew(self, outlet: Inbox) -> None:
        """Let go of what is held back and roll for toxicity again."""
        self.stage.interrupt(self.inbox, outlet)
        if self.memory.due_ns is None:  # else its data is lost already: no second roll
            self.stage = self._roll()
        self.inbox.room = self.stage.room


class Chain:
    """The slots of one stream. False when empty: then data need not pass through it."""

    __slots__ = ("outlet", "random", "slots", "talks")

    def __init__(self, outlet: Inbox, random: Random) -> None:
        self.slots: list[Slot] = []
        self.outlet = outlet
        self.random = random
        self.talks: tuple[Talk, ...] = ()  # of the toxics here that hear the other stream too

    def __bool__(self) -> bool:
        return bool(self.slots)

    @property
    def first(self) -> Inbox:
        """Where the stream puts what it reads."""
        return self.slots[0].inbox if self.slots else self.outlet

    @property
    def puts(self) -> int:
        """Grows whenever anything moves in the chain."""
        return self.outlet.puts + sum(slot.inbox.puts for slot in self.slots)

    def step(self, now_ns: int) -> int | None:
        """Let every stage work once; the earliest time at which one wants to work again."""
        earliest: int | None = None
        for index, slot in enumerate(self.slots):
            outlet = self._outlet_of(index)
            if outlet.ending is not None and outlet.ending is not Ending.EOF:
                slot.inbox.clear()
                continue
            due_ns = slot.stage.step(now_ns, slot.inbox, outlet)
            if due_ns is not None and (earliest is None or due_ns < earliest):
                earliest = due_ns
        return earliest

    def add(self, toxic: NamedToxic, memory: Memory) -> None:
        """Put a toxic at the end; the one before lets go of what it holds back."""
        slot = Slot(toxic, self.random, memory)
        if self.slots:
            self.slots[-1].renew(self.outlet)
        if self.outlet.ending is Ending.EOF:
            self.outlet.ending = None  # not yet passed on: the new toxic has its say
            slot.inbox.end(Ending.EOF)
        self.slots.append(slot)
        self._list_talks()

    def change(self, toxic: NamedToxic) -> None:
        """The toxic's attributes or toxicity changed."""
        index = self._index(toxic)
        self.slots[index].renew(self._outlet_of(index))

    def remove(self, toxic: NamedToxic) -> None:
        """Take a toxic out; what it holds goes on at once."""
        index = self._index(toxic)
        slot = self.slots[index]
        slot.stage.leave(slot.inbox, self._outlet_of(index))
        slot.inbox.clear()
        del self.slots[index]
        self._list_talks()
        if index:
            self.slots[index - 1].renew(self._outlet_of(index - 1))

    def clear(self) -> None:
        """Drop everything: the stream is over."""
        for slot in self.slots:
            slot.inbox.clear()
        self.slots.clear()
        self.outlet.clear()

    def stirred(self) -> bool:
        """Whether a talk here has something for the other stream to look at; asked once."""
        stirred = False
        for talk in self.talks:
            stirred |= talk.stirred
            talk.stirred = False
        return stirred

    def _list_talks(self) -> None:
        self.talks = tuple(s.memory.talk for s in self.slots if s.memory.talk is not None)

    def _index(self, toxic: NamedToxic) -> int:
        return next(i for i, slot in enumerate(self.slots) if slot.toxic is toxic)

    def _outlet_of(self, index: int) -> Inbox:
        return self.slots[index + 1].inbox if index + 1 < len(self.slots) else self.outlet
