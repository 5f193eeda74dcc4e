"""Every regular expression of the packages, and texts on which a careless one takes quadratic time."""

import ast
import importlib
import re
import re._constants as kinds  # type: ignore[import-not-found]
import re._parser as parser  # type: ignore[import-not-found]
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import bitnet_core
import bitnet_tui

_USES = ("search", "match", "fullmatch", "finditer", "findall", "sub", "split")
_REPEATS = (kinds.MAX_REPEAT, kinds.MIN_REPEAT, kinds.POSSESSIVE_REPEAT)
_NAMING = (kinds.LITERAL, kinds.RANGE)
_BOUNDED = 40
"""A repeat with at most this bound can't make the time grow with the square of the text."""
_ANYTHING = (
    *"aA \n\t7-_.=([{\"'`*/\\:,é",
    *("a ", "a.", "a=", "a-", "A_", "A=a\n", "7,", "7.", "(a", "a(", "a\n", "\r\n", " \n", "; ", "a/", "=a "),
)
_LETTERS = "a 7.-:\n(/é"


class Found(NamedTuple):
    """A pattern, how it is used, and where."""

    pattern: re.Pattern[Any]
    uses: frozenset[str]
    where: str


def patterns() -> tuple[list[Found], list[str]]:
    """Every pattern of the modules, and the places whose pattern is built of what only a call knows."""
    found: dict[tuple[Any, int], tuple[re.Pattern[Any], set[str], str]] = {}
    built = []
    for name, text in _modules():
        module, tree = importlib.import_module(name), ast.parse(text)
        uses = defaultdict(set)
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and node.attr in _USES and isinstance(node.value, ast.Name):
                uses[node.value.id].add(node.attr)
        here = [(one, uses[label], label) for label, value in vars(module).items() for one in _in(value)]
        for call in ast.walk(tree):
            if isinstance(call, ast.Call) and (use := _use(call)):
                try:
                    here.append((_given(call, vars(module)), {use} - {"compile"}, f"line {call.lineno}"))
                except NameError:
                    built.append(f"{name}: {ast.unparse(call.args[0])}")
        for one, used, label in here:
            found.setdefault((one.pattern, one.flags), (one, set(), f"{name} {label}"))[1].update(used)
    return [Found(one, frozenset(used), where) for one, used, where in found.values()], built


def _modules() -> Iterator[tuple[str, str]]:
    for package in (bitnet_core, bitnet_tui):
        folder = Path(package.__path__[0])
        for path in sorted(folder.rglob("*.py")):
            text = path.read_text()
            if re.search(r"^ *import re$", text, re.MULTILINE):
                yield ".".join(path.relative_to(folder.parent).with_suffix("").parts), text


def _in(value: object) -> Iterator[re.Pattern[Any]]:
    if isinstance(value, re.Pattern):
        yield value
    elif isinstance(value, (tuple, list, dict)):
        for one in (*value, *value.values()) if isinstance(value, dict) else value:
            yield from _in(one)


def _use(call: ast.Call) -> str:
    """`search` of `re.search(…)`; empty for anything else."""
    match call:
        case ast.Call(func=ast.Attribute(value=ast.Name(id="re"), attr=use), args=[_, *_]):
            return use if use in (*_USES, "compile") else ""
    return ""


def _given(call: ast.Call, names: dict[str, Any]) -> re.Pattern[Any]:
    """The pattern of a call. NameError if it is made of local names."""

    def value(node: ast.expr) -> Any:
        return eval(compile(ast.Expression(node), "pattern", "eval"), dict(names))  # noqa: S307 - our own code

    last = {"sub": 4, "split": 3, "compile": 1}.get(ast.unparse(call.func).removeprefix("re."), 2)
    flags = [one.value for one in call.keywords if one.arg == "flags"] + call.args[last : last + 1]
    return re.compile(value(call.args[0]), *map(value, flags))


def hostile(pattern: re.Pattern[Any]) -> set[tuple[str, str, str]]:
    """Beginnings, what to repeat behind them, and ends that don't fit: of the pattern's own parts, and of any."""
    is_bytes = isinstance(pattern.pattern, bytes)
    written = pattern.pattern.decode("latin-1") if is_bytes else pattern.pattern
    tree = parser.parse(written, pattern.flags & ~re.UNICODE if is_bytes else pattern.flags)
    pumps = {("", one) for one in (*_ANYTHING, *_literals(tree))}
    for choice in range(2):
        whole = _sample(tree, choice)
        pumps |= {("", part) for part in (whole, whole[:-1], whole[: len(whole) // 2]) if part}
        for before, pump in _repeated(tree, choice):
            pumps |= {("", before + pump), (before, pump)}
    return {(before, pump, end) for before, pump in pumps for end in ("", "\x00!")}


def _sample(tree: Any, choice: int) -> str:
    """A text that nearly always matches; `choice` decides between alternatives."""
    text, groups = "", {}
    for kind, value in tree:
        if kind is kinds.LITERAL:
            text += chr(value)
        elif kind is kinds.IN:
            letters = _letters(value)
            text += letters[choice % len(letters)]
        elif kind in (kinds.NOT_LITERAL, kinds.ANY):
            text += next(one for one in _LETTERS if kind is kinds.ANY or one != chr(value))
        elif kind in _REPEATS:
            text += _sample(value[2], choice) * min(max(value[0], 1), _BOUNDED)
        elif kind is kinds.SUBPATTERN:
            groups[value[0]] = _sample(value[3], choice)
            text += groups[value[0]]
        elif kind is kinds.ATOMIC_GROUP:
            text += _sample(value, choice)
        elif kind is kinds.BRANCH:
            text += _sample(value[1][choice % len(value[1])], choice)
        elif kind is kinds.GROUPREF:
            text += groups.get(value, "")
    return text


def _letters(items: Any) -> list[str]:
    """Some letters of a class."""
    tree = parser.SubPattern(parser.State(), [(kinds.IN, items)])
    one = re._compiler.compile(tree)  # type: ignore[attr-defined]
    named = [chr(value[0] if kind is kinds.RANGE else value) for kind, value in items if kind in _NAMING]
    return [letter for letter in (*named, *_LETTERS) if one.match(letter)] or ["a"]


def _parts(kind: Any, value: Any) -> list[Any]:
    """The trees inside a node."""
    if kind in _REPEATS:
        return [value[2]]
    if kind is kinds.SUBPATTERN:
        return [value[3]]
    if kind is kinds.BRANCH:
        return list(value[1])
    if kind is kinds.ATOMIC_GROUP:
        return [value]
    return [value[1]] if kind in (kinds.ASSERT, kinds.ASSERT_NOT) else []


def _literals(tree: Any) -> Iterator[str]:
    run = ""
    for kind, value in tree:
        if kind is kinds.LITERAL:
            run += chr(value)
            continue
        if run:
            yield run
        run = ""
        for part in _parts(kind, value):
            yield from _literals(part)
        if kind is kinds.IN:
            yield from _letters(value)[:3]
    if run:
        yield run


def _repeated(tree: Any, choice: int, before: str = "") -> Iterator[tuple[str, str]]:
    """What may stand before each repeat without an end, and what it repeats."""
    for kind, value in tree:
        if kind in _REPEATS and value[1] > _BOUNDED:
            yield from ((before, pump) for some in range(2) if (pump := _sample(value[2], some)))
        for part in _parts(kind, value):
            yield from _repeated(part, choice, before)
        before += _sample([(kind, value)], choice)
