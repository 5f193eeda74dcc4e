"""What a prompt is, and the prompts of a file as a stream without repeats. Knows no teacher and no file format."""

import hashlib
import json
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bitnet_core.errors import BitnetError
from bitnet_core.files import asset
from bitnet_core.prompts.files import GROUP, SYSTEM, Source, records

PACKAGED_PROMPTS = "collect.txt"
"""What is collected on without KD_PROMPTS_FILE."""
DIGEST_BYTES = 16
"""Bytes of a hash that are kept to recognise a repeated prompt. A set of 10 million takes 0.9 GB."""
_MOST_REPEATS, _MOST_COPIES = 1 << 18, 100
"""The most repeats in a row: this many, or this many times the different prompts before them."""
FOLDED, GROUPED = "folded:", "grouped:"
"""What a `folded_hash` begins with, and the `side_hash` of a prompt with a group."""
_ROLES = ("system", "user", "assistant")


@dataclass(frozen=True)
class Given:
    """An answer that is there already, for the teacher to score."""

    text: str
    ends: bool
    """Whether it is a whole answer; plain text just breaks off."""


@dataclass(frozen=True)
class Prompt:
    """A conversation for the teacher to answer, or to score the `given` answer of.

    Its `side_hash` decides whether it is held out. A `group` is held out as a whole, such as what one template made.
    """

    messages: tuple[dict[str, str], ...]
    given: Given | None = None
    group: str = ""

    @property
    def hash(self) -> str:
        whole = self.messages if self.given is None else [self.messages, self.given.text]
        return hashlib.sha256(canonical_json(whole).encode()).hexdigest()

    @property
    def folded_hash(self) -> str:
        """One for all prompts that differ in case, blanks, punctuation and the values of numbers alone.

        Plain texts all answer the same prompt, so they differ by their own words.
        """
        folded = [[message["role"], _folded(message["content"])] for message in self.messages]
        if self.given is not None and not self.given.ends:
            folded.append(["assistant", _folded(self.given.text)])
        return FOLDED + hashlib.sha256(canonical_json(folded).encode()).hexdigest()

    @property
    def side_hash(self) -> str:
        """`folded_hash`; with a group, that of the group before it."""
        if not self.group:
            return self.folded_hash
        group = hashlib.sha256(self.group.encode()).hexdigest()
        return f"{GROUPED}{group}:{self.folded_hash.removeprefix(FOLDED)}"

    @property
    def text(self) -> str:
        """The user's last message, to show to people."""
        return self.messages[-1]["content"]


def iter_prompts(path: Path | None, packaged: str) -> Iterator[Prompt]:
    """The prompts of a file, or of the packaged file of that name, in order and without repeats.

    Reads while it yields: memory holds one record and a digest of each prompt (98 MB after a million, 0.9 GB after
    10 million). BitnetError names the file, and the line or row that is wrong.
    """
    yield from distinct(Source(path or asset("prompts", packaged)), _prompt, "holds no prompts")


def distinct(source: Source, prompt_of: Callable[[Source, str, Any], Prompt], holds_none: str) -> Iterator[Prompt]:
    """What `prompt_of` makes of each record of a file, its place given, without repeats.

    BitnetError for repeats almost without end: a small packed file, or a column of one text, may have billions.
    """
    seen: set[bytes] = set()
    repeats = 0
    for place, record in records(source):
        prompt = prompt_of(source, place, record)
        digest = bytes.fromhex(prompt.hash)[:DIGEST_BYTES]
        if digest not in seen:
            seen.add(digest)
            repeats = 0
            yield prompt
            continue
        repeats += 1
        if repeats > max(_MOST_REPEATS, _MOST_COPIES * len(seen)):
            raise BitnetError(f"{source}, {place}: the last {repeats:,} {source.record}s repeat others; remove them.")
    if not seen:
        raise source.unreadable(f"{holds_none}; put at least one line into it")


def load_prompts(path: Path | None, packaged: str) -> list[Prompt]:
    """All that `iter_prompts` gives, for short files."""
    return list(iter_prompts(path, packaged))


def prompts_hash(prompts: Sequence[Prompt]) -> str:
    """One hash of a list of prompts and their order."""
    return hashlib.sha256("\n".join(prompt.hash for prompt in prompts).encode()).hexdigest()


def canonical_json(value: Any) -> str:
    """The canonical spelling of a value, to be hashed."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _folded(text: str) -> str:
    """The letters alone, in one case, with a 0 for each number."""
    letters = (
        "0" if char.isnumeric() else char
        for char in unicodedata.normalize("NFKC", text).casefold()
        if char.isnumeric() or unicodedata.category(char)[0] in "LM"
    )
    return re.sub("0+", "0", "".join(letters))


def _prompt(source: Source, place: str, record: Any) -> Prompt:
    """The prompt in a record. BitnetError names its place."""
    refused = partial(source.refusal, place)
    if isinstance(record, str):
        record = {"prompt": record}
    if not isinstance(record, dict):
        raise refused("this is not a JSON object")
    if isinstance(record.get("prompt"), str) and record["prompt"].strip():
        _refuse_no_text(record["prompt"], refused)
        messages: tuple[dict[str, str], ...] = ({"role": "user", "content": record["prompt"]},)
    else:
        messages = messages_of(record.get("messages"), refused)
    if messages[-1]["role"] != "user":
        raise refused("the last message is not the user's")
    refuse_system(record, messages, refused)
    return Prompt(messages, group=group_of(record, refused))


def refuse_system(
    record: dict[str, Any], messages: Sequence[dict[str, str]], refused: Callable[[str], BitnetError]
) -> None:
    """Refuse a system message beside the messages: it would not be asked, and the answers would be to less."""
    for name in SYSTEM:
        if messages[0]["role"] != "system" and record.get(name) not in (None, ""):
            raise refused(f'its "{name}" is not asked; make it a message with the role system')


def group_of(record: dict[str, Any], refused: Callable[[str], BitnetError]) -> str:
    """The group that a record names; "" for none."""
    group = record.get(GROUP)
    if group is None:
        return ""
    if not isinstance(group, str):
        raise refused(f'its "{GROUP}" is not text')
    _refuse_no_text(group, refused)
    return group


def messages_of(messages: Any, refused: Callable[[str], BitnetError]) -> tuple[dict[str, str], ...]:
    """The roles and contents of a record's messages. Raises what `refused` makes of a reason."""
    if not isinstance(messages, list) or not messages:
        raise refused('it has no text in "prompt" and no list of messages in "messages"')
    for message in messages:
        if not isinstance(message, dict) or message.get("role") not in _ROLES:
            raise refused(f"a message has no role of {', '.join(_ROLES)}")
        if not isinstance(message.get("content"), str):
            raise refused("a message has no text content")
        if not message["content"].strip():
            raise refused("a message is blank")
        _refuse_no_text(message["content"], refused)
    return tuple({"role": message["role"], "content": message["content"]} for message in messages)


def _refuse_no_text(text: str, refused: Callable[[str], BitnetError]) -> None:
    """Refuse a lone surrogate, which no server takes, and NUL, which ends a text for some and is in no prompt."""
    if "\0" in text:
        raise refused("it has a NUL character, so this is no text")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise refused(f"{text[error.start]!r} is half a character") from error
