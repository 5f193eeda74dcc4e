"""The copy as a tree: folders that are open or closed, files with their sizes, and how each is here and there."""

from collections.abc import Collection, Iterable
from typing import NamedTuple

from bitnet_core.storage.status import CopyStatus, Folder
from bitnet_core.text import crop, files, flat, pad, size
from bitnet_tui.services.copying import StoredFile
from bitnet_tui.view.spans import Line, Span, line, wrapped

_HERE = {
    "same": ("✓", "good", "as here"),
    "unread": ("✓", "label", "same size"),
    "differs": ("≠", "warn", "differs"),
    "missing": ("↓", "warn", "not here"),
}
_DAMAGED = ("✗", "bad", "damaged there")
_SIZE, _STATE, _NARROWEST = 10, 21, 12
_SETTINGS = "settings.env"
"""The one file that is in no folder."""


class Node(NamedTuple):
    """A line of the tree: `path` names it, and a folder's ends with a slash."""

    path: str
    text: Line


class Tree(NamedTuple):
    """What is known. `listed` is None until the target was asked; `verified` says that its bytes were compared."""

    status: CopyStatus
    listed: tuple[StoredFile, ...] | None = None
    verified: bool = False
    damaged: frozenset[str] = frozenset()
    asking: bool = False
    problem: str = ""


def nodes(tree: Tree, opened: Collection[str], cells: int) -> tuple[Node, ...]:
    """The lines: folders first, each with what is below it if it is open."""
    if tree.listed is None:
        folders = sorted(tree.status.folders, key=lambda one: -one.bytes)
        return tuple(_unlisted(one, cells) for one in folders)
    return tuple(_below("", tree.listed, tree, opened, cells))


def _unlisted(one: Folder, cells: int) -> Node:
    if one.name == _SETTINGS:
        return Node(one.name, _row(f"  {one.name}", 0, one.bytes, Span(""), cells))
    return Node(f"{one.name}/", _folder(one.name, 0, one.files, one.bytes, "", is_open=False, cells=cells))


def _below(
    place: str, found: Iterable[StoredFile], tree: Tree, opened: Collection[str], cells: int
) -> Iterable[Node]:
    depth = place.count("/")
    groups: dict[str, list[StoredFile]] = {}
    for one in found:
        first, slash, _ = one.name[len(place) :].partition("/")
        groups.setdefault(first + slash, []).append(one)
    for name, inside in sorted(groups.items(), key=lambda one: (not one[0].endswith("/"), one[0])):
        path = place + name
        if name.endswith("/"):
            is_open = path in opened
            total, worst = sum(one.bytes for one in inside), _worst(inside, tree)
            text = _folder(name[:-1], depth, len(inside), total, worst, is_open=is_open, cells=cells)
            yield Node(path, text)
            if is_open:
                yield from _below(path, inside, tree, opened, cells)
        else:
            yield Node(path, _file(name, depth, inside[0], tree, cells))


def _worst(inside: Iterable[StoredFile], tree: Tree) -> str:
    """How many files of a folder are not as they should be."""
    states = [_DAMAGED[2] if one.name in tree.damaged else _HERE.get(one.here, ("", "", ""))[2] for one in inside]
    wrong = {words: states.count(words) for words in (_DAMAGED[2], _HERE["differs"][2], _HERE["missing"][2])}
    return next((f"{count}/{len(states)} {words}" for words, count in wrong.items() if count), "")


def _folder(name: str, depth: int, many: int, total: float, worst: str, *, is_open: bool, cells: int) -> Line:
    state = Span(f"! {worst}", "warn") if worst else Span(files(many), "label")
    return _row(f"{'▾' if is_open else '▸'} {flat(name)}/", depth, total, state, cells)


def _file(name: str, depth: int, one: StoredFile, tree: Tree, cells: int) -> Line:
    mark, style, words = _DAMAGED if one.name in tree.damaged else _HERE.get(one.here, ("", "", ""))
    sound = "verified" if tree.verified and one.name not in tree.damaged else ""
    said = ", ".join(filter(None, (sound, words)))
    return _row(f"  {flat(name)}", depth, one.bytes, Span(f"{mark} {said}".strip(), style), cells)


def _row(name: str, depth: int, total: float, state: Span, cells: int) -> Line:
    room = max(_NARROWEST, cells - _SIZE - _STATE - 2)
    shown = pad(crop("  " * depth + name, room), room)
    left = max(1, cells - room - _SIZE - 2)
    return line(shown, Span(f"{size(total):>{_SIZE}}  ", "label"), Span(crop(state.text, left), state.style))


def tree_lines(tree: Tree, cells: int) -> tuple[Line, ...]:
    """What stands above the tree: what opening does, or what the marks are about."""
    if not tree.status.folders:
        return ()
    text = "Marks are based on sizes and on what is known; Verify reads every stored byte."
    if tree.problem:
        return ((), *wrapped("✗ ", tree.problem, "bad", cells))
    if tree.listed is None:
        text = "Asking the target for the list…" if tree.asking else "Opening a folder asks the target for its list."
    return ((), *wrapped("", text, "label", cells))
