"""The words that reports use for a stack's priority classes and operations; the stack brings them.

They are names only: an unknown class or kind keeps the name that the journal gave it.
"""

from __future__ import annotations

import msgspec


class Terms(msgspec.Struct, frozen=True, omit_defaults=True):
    """The vocabulary of one stack, as its run folders keep it (`run.json`).

    `human_kinds`: kinds whose duration is people's time, compressed by the run's speed.
    `lock_probes`: kinds that must be refused, so that a refusal is no failed care. `acts`: kinds
    of which every single one is a moment of the timeline, in words.
    """

    classes: dict[str, str] = {}
    kinds: dict[str, str] = {}
    human_kinds: frozenset[str] = frozenset()
    lock_probes: frozenset[str] = frozenset()
    acts: dict[str, str] = {}

    def klass(self, name: str) -> str:
        """What the priority class stands for; empty when the journal's name is all there is."""
        return self.classes.get(name, "")

    def kind(self, name: str) -> str:
        """What the operation is, in words; empty when the journal's name is all there is."""
        return self.kinds.get(name, "")


NO_WORDS = Terms()
"""Names as the journal gives them."""
