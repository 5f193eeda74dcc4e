"""Prompts from templates: topics × tasks × formats, written in TOML and drawn with a seed. Standard library alone.

A template is a text with `${slots}`, or the turns of a conversation; a slot is filled from a list of texts or a
range of numbers. Every filling of a template has a number, so that prompts are drawn without being listed: the
numbers are shuffled by a small cipher. Knows no teacher and no command line.
"""

import hashlib
import itertools
import json
import math
import random
import re
import shutil
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from bitnet_core import files
from bitnet_core.errors import BitnetError
from bitnet_core.files import asset
from bitnet_core.prompts.seen import DIGEST_BYTES, Seen

_SLOT = re.compile(r"\$\{([^}]*)\}")
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_ROUNDS = 4
_WIDEST = 10**9
_NAMES = (".jsonl", ".ndjson")
_MOST = 5_000_000
"""Prompts in one go: what tells repeats takes 200 MB for so many."""
_SAMPLE = 200
_RANGE: dict[str, Any] = {"from": None, "to": None, "step": 1}

Values = Sequence[str] | range
"""What a slot may hold; numbers are written out when they are drawn."""


@dataclass(frozen=True)
class Template:
    """`turns` alternate between user and assistant, and the user's is last. `slots` are in order of appearance."""

    system: str
    turns: tuple[str, ...]
    slots: tuple[tuple[str, Values], ...]

    @cached_property
    def size(self) -> int:
        """How many fillings there are."""
        return math.prod(len(values) for _, values in self.slots)

    def fill(self, number: int) -> dict[str, Any]:
        """Filling `number` of `size`, as a line of a prompts file."""
        chosen: dict[str, str] = {}
        for name, values in self.slots:
            number, place = divmod(number, len(values))
            chosen[name] = str(values[place])

        def filled(text: str) -> str:
            return _SLOT.sub(lambda slot: chosen[slot[1]], text)

        if not self.system and len(self.turns) == 1:
            return {"prompt": filled(self.turns[0])}
        messages = [{"role": "system", "content": filled(self.system)}] if self.system else []
        for index, turn in enumerate(self.turns):
            messages.append({"role": "assistant" if index % 2 else "user", "content": filled(turn)})
        return {"messages": messages}


@dataclass(frozen=True)
class Topic:
    name: str
    about: str
    weight: float
    templates: tuple[Template, ...]

    @property
    def size(self) -> int:
        return sum(template.size for template in self.templates)


def generate(topics: Sequence[Topic], count: int, seed: int) -> Iterator[dict[str, Any]]:
    """`count` different prompts, the same ones for the same seed; fewer are a beginning of more.

    A topic comes as often as its weight says, its templates equally often, until they are used up. BitnetError
    when there are not so many.
    """
    possible = sum(topic.size for topic in topics)
    if count > possible:
        raise _too_many(count, possible)
    draw = random.Random(f"prompts:{seed}")  # only random() of it: that is the same in every Python
    left = {topic.name: [_Walk(template, draw.random()) for template in topic.templates] for topic in topics}
    weights = {topic.name: topic.weight for topic in topics}
    seen = Seen()
    while len(seen) < count:
        if not left:
            raise _too_many(count, len(seen))
        name = _weighted(draw, {name: weights[name] for name in left})
        walks = left[name]
        walk = walks[int(draw.random() * len(walks))]
        prompt = walk.step()
        if walk.done:
            walks.remove(walk)
            if not walks:
                del left[name]
        # Two fillings may read the same ("a" + "bc", "ab" + "c").
        if seen.add(hashlib.sha256(json.dumps(prompt).encode()).digest()[:DIGEST_BYTES]):
            yield prompt


def lines(topics: Sequence[Topic], count: int, seed: int) -> Iterator[str]:
    """As `generate`, each as a line of JSON."""
    if count > _MOST:
        raise BitnetError(f"{count} prompts are too many for one go; ask for {_MOST} or fewer, with several seeds.")
    return (json.dumps(prompt, ensure_ascii=False) + "\n" for prompt in generate(topics, count, seed))


def write(path: Path, topics: Sequence[Topic], count: int, seed: int) -> None:
    """Write a prompts file, whole or not at all. BitnetError names what is wrong with the path, or what it lacks."""
    if not path.name.lower().endswith(_NAMES):
        raise BitnetError(
            f"{path} would hold JSON lines, but its name says otherwise to whoever reads it; "
            f"name it {path.with_suffix(_NAMES[0]).name}."
        )
    made = lines(topics, count, seed)
    sample = list(itertools.islice(made, _SAMPLE))
    wanted = sum(len(line.encode()) for line in sample) * count // max(1, len(sample))
    there = next(folder for folder in path.absolute().parents if folder.exists())
    free = shutil.disk_usage(there).free
    if wanted > free:
        raise BitnetError(
            f"{count} prompts take about {wanted / 1e9:.1f} GB, and {there} has {free / 1e9:.1f} GB free; ask for "
            "fewer, or name another place."
        )
    try:
        with files.atomic_path(path) as temp, temp.open("w", encoding="utf-8") as out:
            out.writelines(itertools.chain(sample, made))
    except OSError as error:
        raise BitnetError(f"{path} can't be written ({error.strerror or error}); name another place.") from error


def _too_many(count: int, possible: int) -> BitnetError:
    return BitnetError(
        f"These templates make {possible} different prompts, and {count} are asked for; ask for fewer, take more "
        "topics or write more templates."
    )


def _weighted(draw: random.Random, weights: Mapping[str, float]) -> str:
    place = draw.random() * sum(weights.values())
    for name, weight in weights.items():
        place -= weight
        if place < 0:
            return name
    return name


class _Walk:
    """The fillings of one template, each once, in an order that looks random and takes no memory."""

    def __init__(self, template: Template, key: float) -> None:
        self._template = template
        self._key = repr(key)
        self._next = 0
        self._half = max(1, -(-(template.size - 1).bit_length() // 2))
        """Bits of each half of a number: 4 to the power of it is at least the size."""

    @property
    def done(self) -> bool:
        return self._next == self._template.size

    def step(self) -> dict[str, Any]:
        number = self._mixed(self._next)
        while number >= self._template.size:  # walking the cycle keeps it a permutation of the smaller range
            number = self._mixed(number)
        self._next += 1
        return self._template.fill(number)

    def _mixed(self, number: int) -> int:
        """A Feistel network: a permutation of all numbers of 2 · half bits, whatever is mixed in."""
        mask = (1 << self._half) - 1
        left, right = number >> self._half, number & mask
        for turn in range(_ROUNDS):
            mixed = hashlib.blake2b(f"{self._key}:{turn}:{right}".encode(), digest_size=-(-self._half // 8)).digest()
            left, right = right, left ^ (int.from_bytes(mixed) & mask)
        return left << self._half | right


# -- the file --------------------------------------------------------------------------------------------


def load_topics(path: Path | None, names: Sequence[str] = ()) -> list[Topic]:
    """The topics of a template file (the packaged one for None); those of `names` alone, if there are any.

    BitnetError names the file, and the topic or list where one is at fault.
    """
    source = path or asset("prompts", "templates.toml")
    try:
        whole = tomllib.loads(source.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise BitnetError(f"The template file {source} does not exist; correct its path.") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BitnetError(f"The template file {source} is not valid TOML ({error}); correct it.") from error
    except OSError as error:
        raise BitnetError(f"The template file {source} can't be read ({error.strerror}); check its path.") from error
    topics = _Reader(source).topics(whole)
    known = [topic.name for topic in topics]
    for name in names:
        if name not in known:
            raise BitnetError(f"{source} has no topic {name}; choose of {', '.join(known)}.")
    return [topic for topic in topics if topic.name in names or not names]


class _Reader:
    """Checks everything before anything is drawn."""

    def __init__(self, source: Path) -> None:
        self._source = source

    def topics(self, whole: Mapping[str, Any]) -> list[Topic]:
        self._only(whole, ("lists", "topics"), "the top of it")
        lists = self._lists(whole.get("lists", {}), "lists")
        found = whole.get("topics")
        if not isinstance(found, dict) or not found:
            raise self._wrong("it", "has no [topics.NAME]; write one with templates")
        topics = [self._topic(name, table, lists) for name, table in found.items()]
        seen = set()
        for topic in topics:
            for template in topic.templates:
                if (template.system, template.turns) in seen:
                    raise self._wrong(
                        f"topics.{topic.name}", f"repeats {template.turns[0][:60]!r}; remove one of both"
                    )
                seen.add((template.system, template.turns))
        return topics

    def _topic(self, name: str, table: Any, shared: Mapping[str, Values]) -> Topic:
        where = f"topics.{name}"
        if not isinstance(table, dict):
            raise self._wrong(where, "is no table; write [topics.NAME]")
        self._only(table, ("about", "weight", "templates", "lists"), where)
        about, weight, templates = table.get("about", ""), table.get("weight", 1), table.get("templates")
        if not isinstance(about, str):
            raise self._wrong(f"{where}.about", "is no text")
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < math.inf:
            raise self._wrong(f"{where}.weight", "is not a number above 0")
        if not isinstance(templates, list) or not templates:
            raise self._wrong(where, "has no templates; write a list of texts")
        lists = {**shared, **self._lists(table.get("lists", {}), f"{where}.lists")}
        read = tuple(self._template(f"{where}, template {n}", one, lists) for n, one in enumerate(templates, start=1))
        return Topic(name, about, float(weight), read)

    def _template(self, where: str, written: Any, lists: Mapping[str, Values]) -> Template:
        if isinstance(written, str):
            written = {"turns": [written]}
        if not isinstance(written, dict):
            raise self._wrong(where, 'is neither a text nor { turns = ["…"] }')
        self._only(written, ("system", "turns"), where)
        system, turns = written.get("system", ""), written.get("turns")
        if not isinstance(turns, list) or not all(isinstance(turn, str) and turn.strip() for turn in turns):
            raise self._wrong(where, "has turns that are not texts")
        if len(turns) % 2 == 0:
            raise self._wrong(where, "does not end with the user's turn; give an odd number of turns")
        if not isinstance(system, str):
            raise self._wrong(where, "has a system message that is no text")
        names = dict.fromkeys(slot for text in (system, *turns) for slot in _SLOT.findall(text))
        for name in names:
            if name not in lists:
                raise self._wrong(where, f"has a slot ${{{name}}} without a list of that name; add one to [lists]")
        return Template(system, tuple(turns), tuple((name, lists[name]) for name in names))

    def _lists(self, tables: Any, where: str) -> dict[str, Values]:
        if not isinstance(tables, dict):
            raise self._wrong(where, "is no table; write [lists]")
        return {name: self._list(f"{where}.{name}", name, values) for name, values in tables.items()}

    def _list(self, where: str, name: str, values: Any) -> Values:
        if not _NAME.fullmatch(name):
            raise self._wrong(where, "has a name that is not of a-z, 0-9 and _")
        if isinstance(values, dict):
            self._only(values, tuple(_RANGE), where)
            first, last, step = (values.get(name, default) for name, default in _RANGE.items())
            numbers = all(isinstance(one, int) and not isinstance(one, bool) for one in (first, last, step))
            if not numbers or step < 1 or not 0 <= last - first <= _WIDEST:
                raise self._wrong(where, "is no range; write { from = 1, to = 9 }, with a step of 1 or more")
            return range(first, last + 1, step)
        if not isinstance(values, list) or not values or not all(isinstance(one, str) for one in values):
            raise self._wrong(where, "is neither a list of texts nor a range { from = 1, to = 9 }")
        again = next((one for place, one in enumerate(values) if one in values[:place]), None)
        if again is not None:
            raise self._wrong(where, f"holds {again!r} twice; remove one of both")
        return tuple(values)

    def _only(self, table: Mapping[str, Any], allowed: Sequence[str], where: str) -> None:
        unknown = next((name for name in table if name not in allowed), None)
        if unknown is not None:
            raise self._wrong(where, f"has {unknown!r}, which means nothing; allowed are {', '.join(allowed)}")

    def _wrong(self, where: str, what: str) -> BitnetError:
        return BitnetError(f"{self._source}: {where} {what}.")
