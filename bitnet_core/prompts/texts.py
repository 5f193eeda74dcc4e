"""Texts for a teacher to score instead of writing: answers with their prompts, or plain text. Knows no teacher."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from bitnet_core.prompts.files import Source
from bitnet_core.prompts.prompt import Given, Prompt, distinct, group_of, messages_of, refuse_system

PLAIN_PROMPT = "Write a text."
"""What plain text is the answer to, because a chat model answers something."""
_SHAPE = (
    '{"prompt": "…", "answer": "…"}, or {"messages": […]} whose last message is the assistant\'s; '
    "plain text goes into a .txt file, one text a line"
)


def iter_texts(path: Path) -> Iterator[Prompt]:
    """The prompts of a file, each with its `given` answer, in order and without repeats.

    A line of a plain file is a text without an end. BitnetError names the file, and the line or row that is wrong.
    """
    source = Source(path, "file of texts", "text", _SHAPE, has_plain_texts=True)
    yield from distinct(source, _prompt, "holds none")


def _prompt(source: Source, place: str, record: Any) -> Prompt:
    refused = partial(source.refusal, place)
    if isinstance(record, str):
        messages: Any = [{"role": "user", "content": PLAIN_PROMPT}, {"role": "assistant", "content": record}]
    elif not isinstance(record, dict):
        raise refused("this is not a JSON object")
    elif isinstance(record.get("prompt"), str):
        answer = {"role": "assistant", "content": record.get("answer")}
        messages = [{"role": "user", "content": record["prompt"]}, answer]
    else:
        messages = record.get("messages")
    found = messages_of(messages, refused)
    group = ""
    if isinstance(record, dict):
        refuse_system(record, found, refused)
        group = group_of(record, refused)
    *asked, last = found
    if last["role"] != "assistant" or not asked or asked[-1]["role"] != "user":
        raise refused("the last message is not an answer to the user's")
    plain = isinstance(record, str)
    return Prompt(tuple(asked), Given(last["content"], ends=not plain), group)
