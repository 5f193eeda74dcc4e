"""What the files beside a tokenizer say: its special tokens, its name and its chat template.

They come from strangers: each is read within a limit of size, and a BitnetError names the one that is wrong. Which
file counts is decided as transformers decides it. It must not import tokenizers.
"""

import json
import os
from pathlib import Path
from typing import Any

from bitnet_core.errors import BitnetError, explained
from bitnet_core.text import crop, is_utf8

CONFIG_FILE = "tokenizer_config.json"
TEMPLATE_FILE = "chat_template.jinja"
SPECIAL_TOKENS_FILE = "special_tokens_map.json"
JSON_TEMPLATE_FILE = "chat_template.json"
NAMED_TEMPLATES = "additional_chat_templates/*.jinja"
_DEFAULT = "default"
_LONGEST_NAME, _NAMES_CELLS = 200, 200
_LARGEST_FILE = 1 << 25
"""Bytes of a file beside the tokenizer. Configurations that list each added token have a few million."""


def is_there(path: Path) -> bool:
    """Whether there is a file or folder at `path`. BitnetError where that is unknown, and for a link to nothing.

    The hub's cache consists of links: a file that is lost must not count as one that never was.
    """
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        if not os.path.lexists(path):
            return False
        raise BitnetError(
            f"{path} is a link to {path.readlink()}, which does not exist; restore that file or remove the link."
        ) from None
    except OSError as error:
        raise BitnetError(f"{path} can't be read {explained(error, 'check the path')}.") from error
    except ValueError:  # a NUL character
        return False
    return True


def read_text(path: Path, most_bytes: int = _LARGEST_FILE, encoding: str = "utf-8-sig") -> str:
    """The text of a regular file. BitnetError if it can't be read, is too large or is not UTF-8."""
    require_own(path, most_bytes)
    try:
        return path.read_text(encoding=encoding)
    except OSError as error:
        raise BitnetError(f"{path} can't be read {explained(error, 'check its permissions')}.") from error
    except UnicodeDecodeError as error:
        raise BitnetError(f"{path} is not UTF-8 text; replace it with the tokenizer's own file.") from error


def require_own(path: Path, most_bytes: int) -> None:
    """BitnetError for what a tokenizer's file can't be: a folder, a pipe or a device, or one that is too large."""
    if is_there(path) and not path.is_file():
        raise BitnetError(f"{path} is not a file; put the tokenizer's own file there.")
    try:
        size = path.stat().st_size
    except OSError as error:
        raise BitnetError(f"{path} can't be read {explained(error, 'check its permissions')}.") from error
    if size > most_bytes:
        raise BitnetError(f"{path} is larger than {most_bytes >> 20} MiB, so it is not a tokenizer's; replace it.")


def read_config(folder: Path) -> dict[str, Any]:
    """`tokenizer_config.json`; empty if there is none."""
    return _read_object(folder / CONFIG_FILE)


def special_tokens(folder: Path, config: dict[str, Any]) -> dict[str, str]:
    """The named special tokens, such as "eos_token". BitnetError for one that is not text."""
    named = dict(config)
    if "added_tokens_decoder" not in config:  # the older form has them in a file of their own
        named |= _read_object(folder / SPECIAL_TOKENS_FILE)
    own = {name: value for name, value in named.items() if name.endswith("_token")}
    for group in (named.get("extra_special_tokens"), named.get("model_specific_special_tokens")):
        own |= group if isinstance(group, dict) else {}
    found = {name: text for name, value in own.items() if (text := _token_text(value)) is not None}
    for name, text in found.items():
        if not is_utf8(text):
            raise BitnetError(f"{folder} names {text!r:.60} as {name:.60}, which is half a character; correct it.")
    return found


def own_name(folder: Path, config: dict[str, Any]) -> str:
    """The name that the configuration gives, else the folder's."""
    name = config.get("name")
    return name if isinstance(name, str) and 0 < len(name) <= _LONGEST_NAME and is_utf8(name) else folder.name


def own_template(folder: Path, config: dict[str, Any]) -> tuple[str, Path] | None:
    """The chat template for plain conversations, and the file in which it stands; None if there is none.

    Files with templates come before the configuration's; `chat_template.json`, which transformers reads for
    processors alone, comes last. Of several the one named "default" counts: BitnetError if there is none, or if it
    is blank.
    """
    found = _template_files(folder)
    named = folder / NAMED_TEMPLATES.replace("*", _DEFAULT)
    path = named if is_there(named) else folder / TEMPLATE_FILE
    if not found:
        path = folder / CONFIG_FILE
        found = _named_templates(config.get("chat_template"), path)
    if not found:
        path = folder / JSON_TEMPLATE_FILE
        found = _named_templates(_read_object(path).get("chat_template"), path)
    if not found:
        return None
    if _DEFAULT not in found:
        names = crop(", ".join(sorted(found)), _NAMES_CELLS)
        raise BitnetError(
            f"The tokenizer in {folder} has several chat templates ({names}) and none is named {_DEFAULT}; give one "
            "in TEMPLATE."
        )
    if not found[_DEFAULT].strip():
        raise BitnetError(f"The chat template in {path} is empty; restore it, remove it, or give one in TEMPLATE.")
    return found[_DEFAULT], path


def _template_files(folder: Path) -> dict[str, str]:
    # Read as transformers reads them: a byte order mark would be part of each prompt.
    path = folder / TEMPLATE_FILE
    found = {_DEFAULT: read_text(path, encoding="utf-8")} if is_there(path) else {}
    named = sorted(folder.glob(NAMED_TEMPLATES)) if is_there(folder / Path(NAMED_TEMPLATES).parent) else []
    return found | {one.name.removesuffix(".jinja"): read_text(one, encoding="utf-8") for one in named}


def _named_templates(value: Any, path: Path) -> dict[str, str]:
    """The templates of a configuration by name: one text, or a list of {name, template}."""
    if not value:
        return {}
    named: dict[Any, Any] = value if isinstance(value, dict) else {_DEFAULT: value}
    if isinstance(value, list):
        named = {str(one.get("name")): one.get("template") for one in value if isinstance(one, dict)}
    if not named or not all(isinstance(text, str) and is_utf8(name + text) for name, text in named.items()):
        raise BitnetError(
            f"The chat_template of {path} is neither a text nor a list of templates with a name; correct it, or give "
            "one in TEMPLATE."
        )
    return named


def _token_text(value: Any) -> str | None:
    """A token in a config is a string, or an object with its content."""
    content = value.get("content") if isinstance(value, dict) else value
    return content if isinstance(content, str) else None


def _read_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty if there is no such file."""
    if not is_there(path):
        return {}
    try:
        value = json.loads(read_text(path))
    except ValueError as error:
        raise BitnetError(f"{path} is not valid JSON; replace it with the tokenizer's own file.") from error
    except RecursionError as error:
        raise BitnetError(f"{path} is nested too deeply; replace it with the tokenizer's own file.") from error
    if not isinstance(value, dict):
        raise BitnetError(f"{path} holds no JSON object; replace it with the tokenizer's own file.")
    return value
