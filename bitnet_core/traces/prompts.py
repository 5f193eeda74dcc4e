"""Read prompts: one a line, or JSON lines with "prompt" or "messages". Knows no teacher."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bitnet_core.errors import BitnetError
from bitnet_core.resources import asset

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


def load_prompts(path: Path | None, packaged: str) -> list[Prompt]:
    """The prompts of a file, or of the packaged one of that name; in order, repeated ones once.

    `.jsonl` and `.json` files hold an object a line; any other holds a prompt a line. BitnetError names the
    file, and the line where one is at fault.
    """
    source = path or asset("prompts", packaged)
    try:
        text = source.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise BitnetError(f"The prompts file {source} does not exist; correct its path.") from error
    except UnicodeDecodeError as error:
        raise BitnetError(f"The prompts file {source} is not UTF-8 text; save it as UTF-8.") from error
    except OSError as error:
        raise BitnetError(f"The prompts file {source} can't be read ({error.strerror}); check its path.") from error
    as_json = source.suffix.lower() in (".jsonl", ".json")
    prompts: dict[str, Prompt] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        prompt = _from_json(source, number, line) if as_json else _from_user(line.strip())
        prompts.setdefault(prompt.hash, prompt)
    if not prompts:
        raise BitnetError(f"The prompts file {source} holds no prompt; put at least one line into it.")
    return list(prompts.values())


def prompts_hash(prompts: Sequence[Prompt]) -> str:
    """One hash for a list of prompts, in order."""
    return hashlib.sha256("\n".join(prompt.hash for prompt in prompts).encode()).hexdigest()


def canonical_json(value: Any) -> str:
    """The one spelling of a value that hashes are made from."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _from_user(text: str) -> Prompt:
    return Prompt(({"role": "user", "content": text},))


def _from_json(source: Path, number: int, line: str) -> Prompt:
    def refuse(reason: str) -> BitnetError:
        return BitnetError(
            f'{source}, line {number}: {reason}; write {{"prompt": "…"}} or '
            '{"messages": [{"role": "user", "content": "…"}]}.'
        )

    try:
        value = json.loads(line)
    except ValueError as error:
        raise refuse("this is not JSON") from error
    if not isinstance(value, dict):
        raise refuse("this is not a JSON object")
    if isinstance(value.get("prompt"), str) and value["prompt"].strip():
        return _from_user(value["prompt"])
    messages = value.get("messages")
    if not isinstance(messages, list) or not messages:
        raise refuse('it has neither "prompt" nor "messages"')
    for message in messages:
        if not isinstance(message, dict) or message.get("role") not in _ROLES:
            raise refuse(f"a message has no role of {', '.join(_ROLES)}")
        if not isinstance(message.get("content"), str):
            raise refuse("a message has no text content")
    if messages[-1]["role"] != "user":
        raise refuse("the last message is not the user's")
    return Prompt(tuple({"role": message["role"], "content": message["content"]} for message in messages))
