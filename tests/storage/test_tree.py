"""What the array remembers of names, without any file system."""

from __future__ import annotations

from chaos.storage import wire
from chaos.storage.tree import Tree


def test_a_forgotten_file_gets_another_number() -> None:
    """Only when the kernel has forgotten every look; the root is never forgotten."""
    tree = Tree((1, 2))
    first = tree.found(b"f", (1, 10))
    assert tree.found(b"f", (1, 10)) is first
    tree.forgotten(first.number, 1)
    assert tree.nodes[first.number] is first
    tree.forgotten(first.number, 1)
    assert first.number not in tree.nodes
    again = tree.found(b"f", (1, 10))
    assert again.number not in (first.number, wire.ROOT)
    assert tree.nodes[again.number] is again
    tree.forgotten(wire.ROOT, 10)
    assert tree.nodes[wire.ROOT].paths == [b""]


def test_an_inode_that_is_used_again_is_another_file() -> None:
    """The number of a file that has lost its last name is not given to its successor."""
    tree = Tree((1, 2))
    old = tree.found(b"f", (1, 10))
    tree.removed(b"f")
    new = tree.found(b"g", (1, 10))
    assert new is not old
    assert (old.paths, new.paths) == ([], [b"g"])
    tree.forgotten(old.number, 1)
    assert tree.found(b"g", (1, 10)) is new


def test_names_follow_renames() -> None:
    """Of a folder with all below it, over another file, in exchange, and with several names."""
    tree = Tree((1, 2))
    folder, deep = tree.found(b"a", (1, 10)), tree.found(b"a/b/c", (1, 11))
    beside = tree.found(b"ab", (1, 12))
    tree.renamed(b"a", b"z")
    assert (folder.paths, deep.paths, beside.paths) == ([b"z"], [b"z/b/c"], [b"ab"])
    tree.renamed(b"z/b/c", b"ab")
    assert (deep.paths, beside.paths) == ([b"ab"], [])
    assert tree.found(b"other", deep.key) is deep
    assert deep.paths == [b"ab", b"other"]
    tree.removed(b"ab")
    assert tree.found(b"other", deep.key) is deep
    tree.swapped(b"other", b"z")
    assert (deep.paths, folder.paths) == ([b"z"], [b"other"])
