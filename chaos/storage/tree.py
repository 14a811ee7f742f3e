"""Which file behind the mount each of the kernel's node numbers stands for.

It touches no file: it only remembers names, as lookups, renames and removals tell them.
"""

from __future__ import annotations

import threading

from chaos.storage import wire

Key = tuple[int, int]  # device and inode of the file behind


class Node:
    """One file that the kernel knows; `paths` are its names inside the array, the latest last."""

    __slots__ = ("handles", "key", "lookups", "number", "paths")

    def __init__(self, number: int, key: Key) -> None:
        self.number = number
        self.key = key
        self.paths: list[bytes] = []
        self.lookups = 0
        self.handles: list[int] = []  # what is open: so a file without a name can be reached


class Tree:
    """Nodes by number, by file and by name. A number is never given twice."""

    def __init__(self, key: Key) -> None:
        self._lock = threading.Lock()
        root = Node(wire.ROOT, key)
        root.paths.append(b"")
        self.nodes: dict[int, Node] = {wire.ROOT: root}
        self._by_key: dict[Key, Node] = {key: root}
        self._by_path: dict[bytes, Node] = {b"": root}
        self._next = wire.ROOT + 1

    def found(self, path: bytes, key: Key) -> Node:
        """Somebody looked at the file at `path`: its node, one more time known to the kernel."""
        with self._lock:
            node = self._by_key.get(key)
            if node is None:
                node = Node(self._next, key)
                self._next += 1
                self.nodes[node.number] = self._by_key[key] = node
            if node.paths[-1:] != [path]:
                self._drop(path)
                self._name(node, path)
            node.lookups += 1
            return node

    def forgotten(self, number: int, times: int) -> None:
        """The kernel forgets that it looked so many times."""
        with self._lock:
            node = self.nodes.get(number)
            if node is None or number == wire.ROOT:
                return
            node.lookups -= times
            if node.lookups <= 0:
                del self.nodes[number]
                for path in node.paths:
                    self._by_path.pop(path, None)
                if self._by_key.get(node.key) is node:
                    del self._by_key[node.key]

    def removed(self, path: bytes) -> None:
        """The name is gone. A file without any name gives up its inode number, which the file
        system may use again for another."""
        with self._lock:
            self._drop(path)

    def renamed(self, old: bytes, new: bytes) -> None:
        """The name is another one, and that of everything below it."""
        with self._lock:
            self._drop(new)
            self._move(old, new)

    def swapped(self, one: bytes, other: bytes) -> None:
        """Two names were exchanged."""
        between = one + b"\0swap"  # no file is called so
        with self._lock:
            self._move(one, between)
            self._move(other, one)
            self._move(between, other)

    def _name(self, node: Node, path: bytes) -> None:
        node.paths.append(path)
        self._by_path[path] = node

    def _drop(self, path: bytes) -> None:
        node = self._by_path.pop(path, None)
        if node is None:
            return
        node.paths.remove(path)
        if not node.paths and self._by_key.get(node.key) is node:
            del self._by_key[node.key]

    def _move(self, old: bytes, new: bytes) -> None:
        node = self._by_path.get(old)
        if node is None:
            return  # nobody looked there, nor below
        below = old + b"/"
        for path in [old, *(p for p in self._by_path if p.startswith(below))]:
            moved = self._by_path.pop(path)
            moved.paths.remove(path)
            self._name(moved, new + path[len(old) :])
