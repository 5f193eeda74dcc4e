"""The student's tokenizer: ids, their exact bytes, the chat template, and a hash of the whole of it.

Needs `tokenizers` and `jinja2` alone, so that loading takes a fraction of a second. It must not know
transformers, a model or a provider.
"""

import hashlib
import json
import re
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
from bitnet_core.tokenizer.byte_alphabet import BYTE_OF_CHARACTER

Message = Mapping[str, str]

TOKENIZER_FILE = "tokenizer.json"
CONFIG_FILE = "tokenizer_config.json"
TEMPLATE_FILE = "chat_template.jinja"
_SPACE = "▁"
_HUB_NAME = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
_FILE_SUFFIXES = (".json", ".model")
_KINDS = ("BPE", "Unigram")
_CORRECT = "correct TOKENIZER_NAME or leave it empty"
WRITTEN_AGAIN = "run `bitnet collect` to write it again"
"""What helps where the tokenizer is a trace set's own."""
_USUAL_ENDS = ("<|im_end|>", "<|eot_id|>", "<end_of_turn>", "</s>", "<|endoftext|>", "<eos>")
_BYTE_PIECE = re.compile(r"<0x([0-9A-F]{2})>")
_ANCHORS = ("\n", "a", "\x01", ".")
"""What a text is put behind so that a tokenizer does not take its beginning for that of everything."""


class NoToken(BitnetError):
    """A byte that the vocabulary can't spell."""


class NoTemplate(BitnetError):
    """The tokenizer brings no chat template, and none was given."""


class StudentTokenizer:
    """A tokenizer with its chat template; ids are ints, bytes are exact.

    Byte-level BPE, and SentencePiece's kinds (BPE or Unigram, `▁` for a space, `<0xE2>` for a byte), with or without
    the space that some put before every text.
    """

    def __init__(self, tokenizer: Tokenizer, *, special_tokens: Mapping[str, str], template: str, name: str) -> None:
        """`special_tokens` has at least "eos_token". BitnetError when that is not in the vocabulary."""
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self.name = name
        self.special_tokens = dict(special_tokens)
        self.template = template
        eos_token = self.special_tokens["eos_token"]
        # Some vocabularies have gaps in their ids.
        self.vocab_size: int = 1 + max(tokenizer.get_vocab(with_added_tokens=True).values())
        eos_id = tokenizer.token_to_id(eos_token)
        if eos_id is None:
            raise BitnetError(
                f"The tokenizer {name} names {eos_token!r} as its end token but does not contain it; use another one."
            )
        self.eos_id: int = eos_id
        self._tokenizer = tokenizer
        self._plain = Tokenizer.from_str(tokenizer.to_str())
        self._plain.encode_special_tokens = True
        # The end and what is unknown are no text, whatever the file says of them.
        unknown_id = tokenizer.token_to_id(getattr(tokenizer.model, "unk_token", None) or "<unk>")
        self.special_ids = frozenset(
            [index for index, token in tokenizer.get_added_tokens_decoder().items() if token.special]
            + [eos_id, *([] if unknown_id is None else [unknown_id])]
        )
        self._template = _environment().from_string(template)
        self._longest = max(map(len, self.ids_by_bytes))

    # -- ids and bytes -------------------------------------------------------------------------------

    def encode(self, text: str) -> list[int]:
        """Ids of a rendered prompt: special tokens written out in `text` become their ids."""
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def encode_plain(self, text: str) -> list[int]:
        """Ids of text that somebody said, whose bytes join to it exactly.

        A special token's spelling is plain characters here, and no tokenizer's leading space comes in: the text is
        cut as it would be in the middle of another. The characters that a normaliser would change, and those alone,
        are cut by the longest token.
        """
        data = text.encode()
        ids = list(self._plain.encode(text, add_special_tokens=False).ids)
        if self._spells(ids, data):
            return ids
        for anchor in _ANCHORS:
            found = self._behind(anchor, text)
            if found is not None and self._spells(found, data):
                return found
        return self._longest_tokens(data)

    def _spells(self, ids: Sequence[int], data: bytes) -> bool:
        return b"".join(map(self.text_bytes, ids)) == data

    def _behind(self, anchor: str, text: str) -> list[int] | None:
        """Ids of `text` where it stands behind `anchor`; None where the boundary between them does not hold."""
        encoded = self._plain.encode(anchor + text, add_special_tokens=False)
        ids: list[int] = []
        begin = end = len(anchor)
        group: list[int] = []
        for index, (first, last) in zip(encoded.ids, encoded.offsets, strict=True):
            if last <= len(anchor):
                continue
            if first < len(anchor):
                return None
            if first >= end:  # no character is shared with the token before
                ids += self._mended(group, text[begin - len(anchor) : first - len(anchor)])
                group, begin = [], first
            group.append(index)
            end = max(end, last)
        return ids + self._mended(group, text[begin - len(anchor) :])

    def _mended(self, ids: list[int], text: str) -> list[int]:
        """The ids where they are what was said; else the longest tokens that are."""
        data = text.encode()
        return ids if self._spells(ids, data) else self._longest_tokens(data)

    def encode_bytes(self, data: bytes) -> list[int]:
        """Ids whose bytes join to `data`, also where it is no valid UTF-8 (a completion cut inside a character).

        Valid stretches are cut as text; other bytes by the longest token that fits. NoToken when the vocabulary has
        none for a byte.
        """
        ids: list[int] = []
        for text, raw in _utf8_stretches(data):
            ids += self.encode_plain(text) if text else []
            ids += self._longest_tokens(raw)
        return ids

    def _longest_tokens(self, data: bytes) -> list[int]:
        ids: list[int] = []
        while data:
            fitting = (data[:size] for size in range(min(len(data), self._longest), 0, -1))
            token = next((one for one in fitting if one in self.ids_by_bytes), None)
            if token is None:
                raise NoToken(f"The tokenizer {self.name} has no token for byte 0x{data[0]:02x}; use another.")
            ids.append(self.ids_by_bytes[token])
            data = data[len(token) :]
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
        """Ordinary tokens by their bytes; of two, one that is no byte piece wins, then the lowest id.

        `<0x2E>` stands for bytes that have no piece: a tokenizer that has `.` never says it.
        """
        table: dict[bytes, int] = {}
        pieces = self._byte_pieces
        for later in (False, True):
            for index, data in enumerate(self._bytes_by_id):
                if data and index not in self.special_ids and (index in pieces) == later:
                    table.setdefault(data, index)
        return table

    @cached_property
    def _byte_pieces(self) -> frozenset[int]:
        if not _has_pieces(self._tokenizer):
            return frozenset()
        vocabulary = self._tokenizer.get_vocab(with_added_tokens=False)
        return frozenset(index for token, index in vocabulary.items() if _BYTE_PIECE.fullmatch(token))

    @cached_property
    def _bytes_by_id(self) -> list[bytes]:
        table = [b""] * self.vocab_size
        added = self._tokenizer.get_added_tokens_decoder()
        spell = _piece_bytes if _has_pieces(self._tokenizer) else _byte_level_bytes
        for token, index in self._tokenizer.get_vocab(with_added_tokens=True).items():
            table[index] = token.encode() if index in added else spell(token)
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


def load_tokenizer(source: Path | str, template: str = "", *, fix: str = _CORRECT) -> StudentTokenizer:
    """The tokenizer of a folder, a `tokenizer.json`, a SentencePiece `.model` file, or a name on the hub.

    `template` stands in for the tokenizer's own chat template; `fix` is what the user would do
    about a wrong one. BitnetError says what is missing and what to do.
    """
    if source == "":
        raise BitnetError(f"No tokenizer is named; {fix}: a folder, a file or a name on the hub.")
    path = Path(source).expanduser()
    if path.is_dir():
        return _from_folder(path, template, fix)
    if path.is_file():
        return _from_file(path, template, fix)
    if isinstance(source, Path) or not _HUB_NAME.fullmatch(source) or path.suffix in _FILE_SUFFIXES:
        raise BitnetError(f"{source} is no tokenizer: there is no such folder or file; {fix}.")
    return replace_name(_from_folder(_from_hub(source), template, fix), source)


def replace_name(tokenizer: StudentTokenizer, name: str) -> StudentTokenizer:
    """The same tokenizer under the name it was asked for by."""
    tokenizer.name = name
    return tokenizer


def _from_folder(folder: Path, template: str, fix: str) -> StudentTokenizer:
    source = folder / TOKENIZER_FILE
    if not source.is_file() and (models := sorted(folder.glob("*.model*"))):
        if len(models) > 1:
            names = ", ".join(path.name for path in models)
            raise BitnetError(f"{folder} holds several models ({names}); {fix}, to name one of these files.")
        return _from_file(models[0], template, fix)
    config = files.read_json(folder / CONFIG_FILE) if (folder / CONFIG_FILE).is_file() else {}
    own = config.get("chat_template")
    beside = folder / TEMPLATE_FILE
    if not isinstance(own, str):
        own = beside.read_text(encoding="utf-8") if beside.is_file() else ""
    named = {key: _token_text(value) for key, value in config.items() if key.endswith("_token")}
    return _assembled(
        _read_tokenizer(source, fix),
        {key: text for key, text in named.items() if text is not None},
        template or own,
        str(folder),
        str(config.get("name") or folder.name),
    )


def _from_file(path: Path, template: str, fix: str) -> StudentTokenizer:
    if path.suffix == ".json":
        return _assembled(_read_tokenizer(path, fix), {}, template, str(path), path.stem)
    from bitnet_core.tokenizer.sentencepiece import read_model

    return _assembled(read_model(path, fix), {}, template, str(path), path.name)


def _from_hub(name: str) -> Path:
    """A folder with the files of a tokenizer on the hub, from its cache or over the network."""
    import huggingface_hub

    try:
        return Path(
            huggingface_hub.snapshot_download(
                name, allow_patterns=["tokenizer*.json", "tokenizer*.model", TEMPLATE_FILE, "special_tokens_map.json"]
            )
        )
    except Exception as error:
        # Whatever is wrong (no network, no such name, a gated model), the library raises errors of many families.
        raise BitnetError(
            f"The tokenizer {name} can't be had from the hub ({type(error).__name__}); check the name, the network "
            "and HF_TOKEN, or give a folder with its files."
        ) from error


def _read_tokenizer(source: Path, fix: str) -> Tokenizer:
    """BitnetError for what is no tokenizer, and for kinds whose tokens do not say their bytes."""
    try:
        tokenizer = Tokenizer.from_str(source.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BitnetError(f"{source.parent} holds no {TOKENIZER_FILE}; {fix}.") from error
    except Exception as error:
        # The Rust library raises bare Exception for whatever is wrong with the file.
        raise BitnetError(f"{source} is not a readable tokenizer; {fix}.") from error
    kind = type(tokenizer.model).__name__
    if kind not in _KINDS:
        raise BitnetError(
            f"{source} is a {kind} tokenizer, which does not keep every character of a text; "
            f"{fix} (kinds that can be used: {', '.join(_KINDS)})."
        )
    return tokenizer


def _assembled(
    tokenizer: Tokenizer, special_tokens: dict[str, str], template: str, where: str, name: str
) -> StudentTokenizer:
    if "eos_token" not in special_tokens:
        usual = next((token for token in _USUAL_ENDS if tokenizer.token_to_id(token) is not None), None)
        if usual is None:
            raise BitnetError(f"The tokenizer in {where} names no end token; use another one.")
        special_tokens = {**special_tokens, "eos_token": usual}
    if not template:
        raise NoTemplate(f"The tokenizer in {where} has no chat template; give one in TEMPLATE, or use another one.")
    _checked_template(template, where)
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


def _byte_level_bytes(token: str) -> bytes:
    try:
        return bytes(BYTE_OF_CHARACTER[character] for character in token)
    except KeyError:
        return token.encode()


def _piece_bytes(token: str) -> bytes:
    byte = _BYTE_PIECE.fullmatch(token)
    return bytes([int(byte[1], 16)]) if byte else token.replace(_SPACE, " ").encode()


def _has_pieces(tokenizer: Tokenizer) -> bool:
    """Whether tokens are spelled as SentencePiece spells them, not in the byte-level alphabet."""
    vocabulary = tokenizer.get_vocab(with_added_tokens=False)
    return "<0x0A>" in vocabulary or (any(token.startswith(_SPACE) for token in vocabulary) and "Ġ" not in vocabulary)


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
