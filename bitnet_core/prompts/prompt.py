"""What a prompt is, and the prompts of a file as a stream without repeats. Knows no teacher, and no file format."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bitnet_core.errors import BitnetError
from bitnet_core.files import asset
from bitnet_core.prompts.files import records, refusal
from bitnet_core.prompts.seen import DIGEST_BYTES, Seen

_ROLES = ("system", "user", "assistant")


@dataclass(frozen=True)
class Prompt:
    """One conversation to answer. `hash` is of its messages alone and decides whether it is held out."""

    messages: tuple[dict[str, str], ...]

    @property
    def hash(self) -> str:
        return hashlib.sha256(canonical_json(self.messages).encode()).hexdigest()

    @property
    def text(self) -> str:
        """What the user says last; for people to read."""
        return self.messages[-1]["content"]


def iter_prompts(path: Path | None, packaged: str) -> Iterator[Prompt]:
    """The prompts of a file, or of the packaged one of that name; in order, repeated ones once.

    Reads as it goes: memory is that of one record, and of what tells repeats: 24 to 48 bytes for each prompt met,
    half as much again for a moment when that grows (52 MB after a million). BitnetError names the
    file, and the line or row where one is at fault.
    """
    source = path or asset("prompts", packaged)
    seen = Seen()
    for place, record in records(source):
        prompt = _prompt(source, place, record)
        if seen.add(bytes.fromhex(prompt.hash)[:DIGEST_BYTES]):
            yield prompt
    if not seen:
        raise BitnetError(f"The prompts file {source} holds no prompt; put at least one line into it.")


def load_prompts(path: Path | None, packaged: str) -> list[Prompt]:
    """As `iter_prompts`, all at once: for short lists."""
    return list(iter_prompts(path, packaged))


def prompts_hash(prompts: Sequence[Prompt]) -> str:
    """One hash for a list of prompts, in order."""
    return hashlib.sha256("\n".join(prompt.hash for prompt in prompts).encode()).hexdigest()


def canonical_json(value: Any) -> str:
    """The one spelling of a value that hashes are made from."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _prompt(source: Path, place: str, record: Any) -> Prompt:
    """The prompt in a record. BitnetError names the place."""
    if isinstance(record, str):
        record = {"prompt": record}
    if not isinstance(record, dict):
        raise refusal(source, place, "this is not a JSON object")
    if isinstance(record.get("prompt"), str) and record["prompt"].strip():
        _writable(source, place, record["prompt"])
        return Prompt(({"role": "user", "content": record["prompt"]},))
    messages = record.get("messages")
    if not isinstance(messages, list) or not messages:
        raise refusal(source, place, 'it has neither "prompt" nor "messages"')
    for message in messages:
        if not isinstance(message, dict) or message.get("role") not in _ROLES:
            raise refusal(source, place, f"a message has no role of {', '.join(_ROLES)}")
        if not isinstance(message.get("content"), str):
            raise refusal(source, place, "a message has no text content")
        if not message["content"].strip():
            raise refusal(source, place, "a message is blank")
        _writable(source, place, message["content"])
    if messages[-1]["role"] != "user":
        raise refusal(source, place, "the last message is not the user's")
    return Prompt(tuple({"role": message["role"], "content": message["content"]} for message in messages))


def _writable(source: Path, place: str, text: str) -> None:
    """Half a surrogate pair, which JSON can spell, is no character: no server would take it."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise refusal(source, place, f"{text[error.start]!r} is half a character") from error
