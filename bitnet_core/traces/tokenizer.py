"""The student's tokenizer: ids, their exact bytes, the chat template, and a hash of the whole of it.

Needs `tokenizers` and `jinja2` alone, so that loading takes a fraction of a second. It must not know
transformers, a model or a provider.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from bitnet_core import files
from bitnet_core.errors import BitnetError

Message = Mapping[str, str]

TOKENIZER_FILE = "tokenizer.json"
CONFIG_FILE = "tokenizer_config.json"
TEMPLATE_FILE = "chat_template.jinja"


class StudentTokenizer:
    """A byte-level BPE tokenizer with its chat template; ids are ints, bytes are exact."""

    def __init__(self, tokenizer: Tokenizer, *, special_tokens: Mapping[str, str], template: str, name: str) -> None:
        """`special_tokens` has at least "eos_token". BitnetError when that is not in the vocabulary."""
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self.name = name
        self.special_tokens = dict(special_tokens)
        self.template = template
        eos_token = self.special_tokens["eos_token"]
        self.vocab_size: int = tokenizer.get_vocab_size(with_added_tokens=True)
        eos_id = tokenizer.token_to_id(eos_token)
        if eos_id is None:
            raise BitnetError(
                f"The tokenizer {name} names {eos_token!r} as its end token but does not contain it; use another one."
            )
        self.eos_id: int = eos_id
        self._tokenizer = tokenizer
        self._plain = Tokenizer.from_str(tokenizer.to_str())
        self._plain.encode_special_tokens = True
        self.special_ids = frozenset(
            index for index, token in tokenizer.get_added_tokens_decoder().items() if token.special
        )
        self._template = _environment().from_string(template)

    # -- ids and bytes -------------------------------------------------------------------------------

    def encode(self, text: str) -> list[int]:
        """Ids of a rendered prompt: special tokens written out in `text` become their ids."""
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def encode_plain(self, text: str) -> list[int]:
        """Ids of text that somebody said: a special token's spelling is plain characters here."""
        return list(self._plain.encode(text, add_special_tokens=False).ids)

    def encode_bytes(self, data: bytes) -> list[int]:
        """Ids whose bytes join to `data`, also where it is no valid UTF-8 (a completion cut inside a character).

        Valid stretches are cut as text; other bytes by the longest token that fits. BitnetError when the
        vocabulary has no token for such a byte.
        """
        ids: list[int] = []
        for text, raw in _utf8_stretches(data):
            ids += self.encode_plain(text)
            while raw:
                fitting = (raw[:size] for size in range(len(raw), 0, -1) if raw[:size] in self.ids_by_bytes)
                token = next(fitting, None)
                if token is None:
                    raise BitnetError(f"The tokenizer {self.name} has no token for byte 0x{raw[0]:02x}; use another.")
                ids.append(self.ids_by_bytes[token])
                raw = raw[len(token) :]
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """Text of `ids` without special tokens; bytes that are no UTF-8 show as U+FFFD."""
        return b"".join(self.text_bytes(index) for index in ids).decode("utf-8", errors="replace")

    def token_bytes(self, index: int) -> bytes:
        """The bytes one id stands for; a special token's are its spelling. IndexError outside the vocabulary."""
        return self._bytes_by_id[index]

    def text_bytes(self, index: int) -> bytes:
        """As `token_bytes`, but special tokens are no text and give b""."""
        return b"" if index in self.special_ids else self._bytes_by_id[index]

    @cached_property
    def ids_by_bytes(self) -> dict[bytes, int]:
        """Ordinary tokens by their bytes (special ones are left out); the lowest id wins."""
        table: dict[bytes, int] = {}
        for index, data in enumerate(self._bytes_by_id):
            if index not in self.special_ids:
                table.setdefault(data, index)
        return table

    @cached_property
    def _bytes_by_id(self) -> list[bytes]:
        byte_of = _byte_alphabet()
        table = [b""] * self.vocab_size
        added = self._tokenizer.get_added_tokens_decoder()
        for token, index in self._tokenizer.get_vocab(with_added_tokens=True).items():
            if index in added or not all(character in byte_of for character in token):
                table[index] = token.encode()
            else:
                table[index] = bytes(byte_of[character] for character in token)
        return table

    # -- chat ----------------------------------------------------------------------------------------

    def render_prompt(self, messages: Sequence[Message]) -> str:
        """The chat template applied to `messages`, ending where the assistant begins to speak."""
        try:
            return self._template.render(
                messages=[dict(message) for message in messages],
                add_generation_prompt=True,
                **self.special_tokens,
            )
        except jinja2.TemplateError as error:
            raise BitnetError(
                f"The chat template of {self.name} can't render a prompt ({error}); "
                "correct TEMPLATE or leave it empty."
            ) from error

    # -- identity ------------------------------------------------------------------------------------

    @cached_property
    def hash(self) -> str:
        """sha256 of the whole serialised tokenizer with sorted keys, so that only its meaning counts."""
        whole = json.loads(self._tokenizer.to_str())
        canonical = json.dumps(whole, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(canonical.encode()).hexdigest()

    @cached_property
    def template_hash(self) -> str:
        return hashlib.sha256(self.template.encode()).hexdigest()

    def with_template(self, template: str) -> "StudentTokenizer":
        """The same tokenizer with another chat template."""
        _checked_template(template, "TEMPLATE")
        return StudentTokenizer(
            self._tokenizer, special_tokens=self.special_tokens, template=template, name=self.name
        )

    def save(self, folder: Path) -> None:
        """Write the files that `load_tokenizer` and transformers read, each whole or not at all."""
        files.write_text(folder / TOKENIZER_FILE, self._tokenizer.to_str(pretty=False))
        files.write_text(folder / TEMPLATE_FILE, self.template)
        config = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            **self.special_tokens,
            "chat_template": self.template,
            "clean_up_tokenization_spaces": False,
            "name": self.name,
        }
        files.write_json(folder / CONFIG_FILE, config)


def load_tokenizer(folder_or_name: Path | str) -> StudentTokenizer:
    """The tokenizer in a folder. BitnetError for a folder without one, or for a hub name."""
    folder = Path(folder_or_name)
    if not folder.is_dir():
        raise BitnetError(
            f"{folder_or_name} is not a folder with a tokenizer, and names on a hub are not supported yet; "
            "leave TOKENIZER_NAME empty to use the embedded teacher's."
        )
    source = folder / TOKENIZER_FILE
    try:
        tokenizer = Tokenizer.from_str(source.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BitnetError(f"{folder} holds no {TOKENIZER_FILE}; run `bitnet collect` to write it again.") from error
    except Exception as error:
        # The Rust library raises bare Exception for whatever is wrong with the file.
        raise BitnetError(f"{source} is not a readable tokenizer; run `bitnet collect` to write it again.") from error
    config = files.read_json(folder / CONFIG_FILE)
    named = {key: _token_text(value) for key, value in config.items() if key.endswith("_token")}
    special_tokens = {key: text for key, text in named.items() if text is not None}
    template = config.get("chat_template")
    if not isinstance(template, str):
        beside = folder / TEMPLATE_FILE
        template = beside.read_text(encoding="utf-8") if beside.is_file() else None
    if template is None or "eos_token" not in special_tokens:
        missing = "chat template" if template is None else "end token"
        raise BitnetError(
            f"The tokenizer in {folder} has no {missing}; leave TOKENIZER_NAME empty or use another one."
        )
    _checked_template(template, str(folder))
    name = config.get("name") or folder.name
    return StudentTokenizer(tokenizer, special_tokens=special_tokens, template=template, name=name)


def _checked_template(template: str, where: str) -> None:
    try:
        _environment().from_string(template)
    except jinja2.TemplateError as error:
        raise BitnetError(f"The chat template of {where} is not valid Jinja ({error}); correct it.") from error


def _token_text(value: Any) -> str | None:
    """A token in a config is a string, or an object with its content."""
    content = value.get("content") if isinstance(value, dict) else value
    return content if isinstance(content, str) else None


def _environment() -> ImmutableSandboxedEnvironment:
    """The environment that chat templates are written for: transformers' `render_jinja_template`."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationTag, loopcontrols]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    return environment


class _GenerationTag(Extension):
    """`{% generation %} … {% endgeneration %}` marks the assistant's part; rendering it changes nothing."""

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


def _byte_alphabet() -> dict[str, int]:
    """Character of the byte-level BPE alphabet -> byte (GPT-2's `bytes_to_unicode`, inverted)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table = {chr(byte): byte for byte in printable}
    for shift, byte in enumerate(byte for byte in range(256) if byte not in set(printable)):
        table[chr(256 + shift)] = byte
    return table


def _utf8_stretches(data: bytes) -> Iterable[tuple[str, bytes]]:
    """Cut bytes into (valid text, bytes that are no UTF-8) pairs, in order."""
    text, raw = b"", b""
    while data:
        try:
            data.decode("utf-8")
            valid, broken, data = data, b"", b""
        except UnicodeDecodeError as error:
            valid, broken, data = data[: error.start], data[error.start : error.end], data[error.end :]
        if valid and raw:
            yield text.decode("utf-8"), raw
            text, raw = b"", b""
        text, raw = text + valid, raw + broken
    if text or raw:
        yield text.decode("utf-8"), raw
