"""Prompt templates, read from a TOML file and checked. `drawing.py` draws prompts from them.

A template is a text with `${slots}`, or the turns of a conversation. A slot is filled from a list of texts or a range
of numbers. The fillings of a template are numbered, so that they need not be listed.
"""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Struct

from bitnet_core.errors import BitnetError, explained
from bitnet_core.files import asset, require_regular
from bitnet_core.files.toml_file import read_toml

_SLOT = re.compile(r"\$\{([^}]*)\}")
_LIST_NAME = re.compile(r"[a-z][a-z0-9_]*")
_MOST_BYTES = 1 << 22
_LARGEST_RANGE = 10**9
_TOML_WORDS = {"object": "table", "array": "list", "str": "text", "int": "integer", "float": "number"}
_T = TypeVar("_T")

Values = Sequence[str] | range
"""What may fill a slot."""


@dataclass(frozen=True)
class Template:
    """`turns` alternate between user and assistant and end with the user. `slots` are in order of appearance."""

    system: str
    turns: tuple[str, ...]
    slots: tuple[tuple[str, Values], ...]

    @cached_property
    def size(self) -> int:
        """The number of fillings."""
        return math.prod(len(values) for _, values in self.slots)

    def fill(self, number: int) -> dict[str, Any]:
        """Filling `number`, from 0 to `size` - 1, as an object of a prompts file."""
        chosen: dict[str, str] = {}
        for name, values in self.slots:
            number, place = divmod(number, len(values))
            chosen[name] = str(values[place])

        def filled(text: str) -> str:
            end = _end_of_slots(text)
            return _SLOT.sub(lambda slot: chosen[slot[1]], text[:end]) + text[end:]

        if not self.system and len(self.turns) == 1:
            return {"prompt": filled(self.turns[0])}
        messages = [{"role": "system", "content": filled(self.system)}] if self.system else []
        for index, turn in enumerate(self.turns):
            messages.append({"role": "assistant" if index % 2 else "user", "content": filled(turn)})
        return {"messages": messages}


@dataclass(frozen=True)
class Topic:
    """Templates about one subject. A topic is drawn in proportion to its weight."""

    name: str
    about: str
    weight: float
    templates: tuple[Template, ...]

    @property
    def size(self) -> int:
        """The number of fillings of all templates."""
        return sum(template.size for template in self.templates)


# -- the file --------------------------------------------------------------------------------------------
class _Range(Struct, forbid_unknown_fields=True):
    first: int = msgspec.field(name="from")
    last: int = msgspec.field(name="to")
    step: Annotated[int, Meta(ge=1)] = 1


class _TemplateTable(Struct, forbid_unknown_fields=True):
    turns: list[str]
    system: str = ""


class _TopicTable(Struct, forbid_unknown_fields=True):
    templates: Annotated[list[str | _TemplateTable], Meta(min_length=1)]
    about: str = ""
    weight: float = 1.0
    lists: dict[str, Any] = {}


class _File(Struct, forbid_unknown_fields=True):
    topics: Annotated[dict[str, Any], Meta(min_length=1)]
    lists: dict[str, Any] = {}


class _Refused(Exception):
    """The message is the place and what is wrong there."""


def load_topics(path: Path | None, names: Sequence[str] = ()) -> list[Topic]:
    """The topics of a template file (of the packaged one for None); only those in `names`, if there are any.

    BitnetError names the file, and the topic or list that is wrong.
    """
    source = path or asset("prompts", "templates.toml")
    try:
        require_regular(source)
        topics = _topics(read_toml(source, _MOST_BYTES))
    except FileNotFoundError as error:
        raise BitnetError(f"The template file {source} does not exist; correct its path.") from error
    except ValueError as error:
        raise BitnetError(f"The template file {source} is not valid TOML ({error}); correct it.") from error
    except OSError as error:
        raise BitnetError(
            f"The template file {source} can't be read {explained(error, 'check its path')}."
        ) from error
    except _Refused as error:
        raise BitnetError(f"{source}: {error}.") from error
    known = [topic.name for topic in topics]
    for name in names:
        if name not in known:
            raise BitnetError(f"{source} has no topic {name}; choose from {', '.join(known)}.")
    return [topic for topic in topics if topic.name in names or not names]


def _topics(content: dict[str, Any]) -> list[Topic]:
    file = _converted(content, _File, "")
    shared = _lists(file.lists, "lists")
    topics = [_topic(name, table, shared) for name, table in file.topics.items()]
    seen = set()
    for topic in topics:
        for template in topic.templates:
            if (template.system, template.turns) in seen:
                raise _Refused(f"topics.{topic.name} repeats {template.turns[0][:60]!r}; remove one of the two")
            seen.add((template.system, template.turns))
    return topics


def _topic(name: str, written: Any, shared: Mapping[str, Values]) -> Topic:
    where = f"topics.{name}"
    table = _converted(written, _TopicTable, where)
    if not 0 < table.weight < math.inf:
        raise _Refused(f"{where}.weight is not a finite number above 0; correct it")
    lists = {**shared, **_lists(table.lists, f"{where}.lists")}
    templates = [
        _template(one if isinstance(one, _TemplateTable) else _TemplateTable([one]), lists, f"{where}.templates[{n}]")
        for n, one in enumerate(table.templates)
    ]
    return Topic(name, table.about, table.weight, tuple(templates))


def _template(written: _TemplateTable, lists: Mapping[str, Values], where: str) -> Template:
    if not all(turn.strip() for turn in written.turns):
        raise _Refused(f"{where} has a blank turn; write a text or remove it")
    if len(written.turns) % 2 == 0:
        raise _Refused(f"{where} does not end with the user's turn; write an odd number of turns")
    texts = (written.system, *written.turns)
    names = dict.fromkeys(slot for text in texts for slot in _SLOT.findall(text[: _end_of_slots(text)]))
    for name in names:
        if name not in lists:
            raise _Refused(f"{where} has a slot ${{{name}}} but there is no list of that name; add one to [lists]")
    return Template(written.system, tuple(written.turns), tuple((name, lists[name]) for name in names))


def _end_of_slots(text: str) -> int:
    """Where the part ends that may have slots. Beyond it, each of many `${` would be searched for its end."""
    return text.rfind("}") + 1


def _lists(tables: Mapping[str, Any], where: str) -> dict[str, Values]:
    return {name: _list(name, written, f"{where}.{name}") for name, written in tables.items()}


def _list(name: str, written: Any, where: str) -> Values:
    if not _LIST_NAME.fullmatch(name):
        raise _Refused(f"{where} has a name with other characters than a-z, 0-9 and _; rename it")
    values = _converted(written, Annotated[list[str], Meta(min_length=1)] | _Range, where)
    if isinstance(values, _Range):
        if not 0 <= values.last - values.first <= _LARGEST_RANGE:
            raise _Refused(
                f"{where} goes from {values.first} to {values.last}; write up to {_LARGEST_RANGE:,} numbers"
            )
        return range(values.first, values.last + 1, values.step)
    commonest, times = Counter(values).most_common(1)[0]
    if times > 1:
        raise _Refused(f"{where} holds {commonest!r:.60} twice; remove one of the two")
    return tuple(values)


def _converted(written: Any, kind: Any, where: str) -> Any:
    """`written` as a `kind`. The error gives the place, then msgspec's message in TOML's words."""
    try:
        return msgspec.convert(written, kind)
    except msgspec.ValidationError as error:
        reason, _, path = str(error).partition(" - at `$")
        reason = re.sub(r"\b[a-z]+\b", lambda word: _TOML_WORDS.get(word[0], word[0]), reason[0].lower() + reason[1:])
        place = (where + path.rstrip("`")).lstrip(".") or "the file"
        raise _Refused(f"{place}: {reason}; correct it") from error
