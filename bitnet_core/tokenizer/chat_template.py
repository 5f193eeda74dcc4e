"""Chat templates, rendered as transformers renders them (`render_jinja_template`), in a sandbox."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from bitnet_core.errors import BitnetError

Message = Mapping[str, str]


class ChatTemplate:
    """A template that has been compiled; BitnetError if it isn't valid Jinja. `owner` names it in messages."""

    def __init__(self, source: str, owner: str) -> None:
        self._owner = owner
        try:
            self._template = _environment().from_string(source)
        except jinja2.TemplateError as error:
            raise BitnetError(f"The chat template of {owner} is not valid Jinja ({error}); correct it.") from error

    def render(self, messages: Sequence[Message], special_tokens: Mapping[str, str]) -> str:
        """The prompt text, up to where the assistant's answer begins."""
        try:
            return self._template.render(
                messages=[dict(message) for message in messages], add_generation_prompt=True, **special_tokens
            )
        except jinja2.TemplateError as error:
            raise BitnetError(
                f"The chat template of {self._owner} can't render a prompt ({error}); "
                "correct TEMPLATE or leave it empty."
            ) from error


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationTag, loopcontrols]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    return environment


class _GenerationTag(Extension):
    """`{% generation %} … {% endgeneration %}` marks the assistant's part; it doesn't change what is rendered."""

    tags = {"generation"}  # noqa: RUF012 - jinja declares it so

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _tojson(value: Any, ensure_ascii: bool = False, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent)


def _strftime_now(pattern: str) -> str:
    return datetime.now().astimezone().strftime(pattern)


def _raise_exception(message: str) -> None:
    raise jinja2.TemplateError(message)
