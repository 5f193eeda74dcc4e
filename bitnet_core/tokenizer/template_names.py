"""What chat templates can use beyond Jinja's own: the tag, filter and functions that transformers gives them."""

import json
from datetime import datetime
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.runtime import Macro
from jinja2.utils import Namespace

from bitnet_core.tokenizer.template_sizes import LONGEST_VALUE, TooMuch, too_long

_WIDEST_INDENT = 1000


class GenerationTag(Extension):
    """`{% generation %} … {% endgeneration %}` marks the assistant's part; it doesn't change what is rendered."""

    tags = {"generation"}  # noqa: RUF012 - jinja declares it so

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        # A block of its own, as in transformers: what is set inside is not known outside.
        return nodes.CallBlock(self.call_method("_body"), [], [], body).set_lineno(line)

    def _body(self, caller: Macro) -> str:
        return caller()


def _tojson(
    x: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    if isinstance(indent, int) and indent > _WIDEST_INDENT:  # one piece may be as long as it at every depth
        raise TooMuch(f"it indents by more than {_WIDEST_INDENT}")
    encoder = json.JSONEncoder(ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
    parts, total = [], 0
    for part in encoder.iterencode(x):
        parts.append(part)
        total += len(part)
        if total > LONGEST_VALUE:
            raise too_long()
    return "".join(parts)


def _strftime_now(format: str) -> str:  # noqa: A002 - templates may name it
    return datetime.now().strftime(format)  # noqa: DTZ005 - a template's date is the user's own


def _raise_exception(message: str) -> None:
    raise jinja2.TemplateError(message)


class _TemplateDict:
    """`dict` without the attributes of the type."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)

    def fromkeys(self, *args: Any) -> dict[Any, Any]:
        return dict.fromkeys(*args)


class _TemplateNamespace(Namespace):
    """`namespace` without names that begin with an underscore, which could reach Python's own."""

    def __init__(*args: Any, **kwargs: Any) -> None:  # as in Jinja: a template may set `self`
        made = dict(*args[1:], **kwargs)
        for name in made:
            _refuse_underscore(name)
        Namespace.__init__(args[0], made)

    def __setitem__(self, name: str, value: Any) -> None:
        _refuse_underscore(name)
        super().__setitem__(name, value)


def _refuse_underscore(name: Any) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise jinja2.exceptions.SecurityError(f"{name!r} can't be the name of an attribute")


FILTERS = {"tojson": _tojson}
GLOBALS = {
    "raise_exception": _raise_exception,
    "strftime_now": _strftime_now,
    "dict": _TemplateDict(),
    "namespace": _TemplateNamespace,
}
