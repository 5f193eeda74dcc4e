"""The student's tokenizer: ids, their exact bytes, the chat template, and a hash of all of that.

It must not know transformers, a model or a provider.
"""

import hashlib
import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tokenizers import Encoding, Tokenizer

from bitnet_core import files
from bitnet_core.errors import BitnetError
from bitnet_core.tokenizer.arrays import Int64
from bitnet_core.tokenizer.chat_template import ChatTemplate, Message, TemplateRefused, merging_system
from bitnet_core.tokenizer.dropped import outside
from bitnet_core.tokenizer.folder import CONFIG_FILE, TEMPLATE_FILE
from bitnet_core.tokenizer.refused import NoToken, NotTokenized, is_failure
from bitnet_core.tokenizer.token_bytes import is_byte_piece, uses_pieces, utf8_stretches, vocabulary_speller

TOKENIZER_FILE = "tokenizer.json"
_LARGEST_VOCABULARY = 1 << 22
"""Ids above it come from a damaged file; the largest that models have are below 300,000."""
_ANCHORS = ("\n", "a", "\x01", ".")
"""Characters put before a text so that the tokenizer doesn't treat its beginning as the beginning of everything."""


class RenderedPrompt(NamedTuple):
    """A prompt as the student reads it: at least one token."""

    text: str
    ids: list[int]


class StudentTokenizer:
    """A tokenizer with its chat template; ids are ints, bytes are exact.

    Byte-level BPE, and SentencePiece's kinds (BPE or Unigram, `▁` for a space, `<0xE2>` for a byte), with or without
    the space that some put before every text.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        special_tokens: Mapping[str, str],
        template: str,
        name: str,
        template_file: Path | None = None,
    ) -> None:
        """`special_tokens` has at least "eos_token"; BitnetError if the vocabulary doesn't contain it.

        `template_file` is where the template stands, if that is known.
        """
        tokenizer.no_truncation()
        tokenizer.no_padding()
        if getattr(tokenizer.model, "dropout", None) is not None:  # for training alone: it cuts each text by chance
            model = tokenizer.model
            model.dropout = None
            tokenizer.model = model
        self.name = name
        self.special_tokens = dict(special_tokens)
        self.template = template
        self._template_file = template_file
        eos_token = self.special_tokens["eos_token"]
        # Some vocabularies have gaps in their ids.
        vocabulary = tokenizer.get_vocab(with_added_tokens=True)
        self.vocab_size: int = 1 + max(vocabulary.values())
        if self.vocab_size > _LARGEST_VOCABULARY:
            raise BitnetError(f"The tokenizer {name} has a token id of {self.vocab_size - 1:,}; use another one.")
        eos_id = tokenizer.token_to_id(eos_token)
        if eos_id is None:
            raise BitnetError(
                f"The tokenizer {name} names {eos_token!r:.60} as its end token but does not contain it; use another "
                "one."
            )
        self.eos_id: int = eos_id
        self._tokenizer = tokenizer
        self._serialised = tokenizer.to_str()  # once: a run needs it three times
        self._plain = Tokenizer.from_str(self._serialised)
        self._plain.encode_special_tokens = True
        # The end token and the unknown token are never text, even if the file doesn't call them special.
        unknown_id = tokenizer.token_to_id(getattr(tokenizer.model, "unk_token", None) or "<unk>")
        self.special_ids = frozenset(
            [index for index, token in tokenizer.get_added_tokens_decoder().items() if token.special]
            + [eos_id, *([] if unknown_id is None else [unknown_id])]
        )
        self._chat_template = ChatTemplate(template, self._template_owner)
        self._uses_pieces = uses_pieces(tokenizer)
        self._bytes_by_id = self._spelled(vocabulary)
        self._longest = max(map(len, self.ids_by_bytes))

    # -- text to ids ---------------------------------------------------------------------------------

    def encode(self, text: str) -> list[int]:
        """Ids of a rendered prompt: special tokens written out in `text` become their ids."""
        return list(self._cut(self._tokenizer, text).ids)

    def encode_plain(self, text: str) -> list[int]:
        """Ids of a completion's text, whose bytes join to it exactly.

        A special token's spelling is plain characters here. The text is cut as in the middle of a longer one, without
        the space that some tokenizers put at the beginning. Only characters that a normaliser would change are cut by
        the longest token that fits. Refused for a text that can't be cut.
        """
        data = text.encode()
        ids = list(self._cut(self._plain, text).ids)
        if self._spells(ids, data):
            return ids
        for anchor in _ANCHORS:
            found = self._encode_behind(anchor, text)
            if found is not None and self._spells(found, data):
                return found
        return self._longest_tokens(data)

    def encode_bytes(self, data: bytes) -> list[int]:
        """Ids whose bytes join to `data`, also if it isn't valid UTF-8 (a completion cut inside a character).

        Valid stretches are encoded as text, other bytes by the longest token that fits. Refused for a text that can't
        be cut, and a byte that the vocabulary has no token for.
        """
        ids: list[int] = []
        for text, raw in utf8_stretches(data):
            ids += self.encode_plain(text) if text else []
            ids += self._longest_tokens(raw)
        return ids

    def dropped(self, text: str) -> str:
        """The first sign of a rendered prompt that no id stands for; "" if there is none."""
        return self._dropped(text, self._cut(self._tokenizer, text))

    def _dropped(self, text: str, encoded: Encoding) -> str:
        told = b"".join(map(self.token_bytes, encoded.ids))
        for sign in outside(text, encoded.offsets):  # the library's offsets are off behind a sign without a token
            if self._can_spell(sign) and told.count(sign.encode()) < text.count(sign):
                return sign
        return ""

    def _can_spell(self, sign: str) -> bool:
        """Whether the vocabulary has the sign, or each of its bytes: then a rule of the tokenizer leaves it out."""
        data = sign.encode()
        return data in self.ids_by_bytes or all(bytes([byte]) in self.ids_by_bytes for byte in data)

    @cached_property
    def opening_ids(self) -> list[int]:
        """The special ids that the tokenizer puts before every text, such as a BOS token; often none.

        A chat template writes them itself; only plain text needs them.
        """
        encoded = self._tokenizer.encode("a")
        marked = zip(encoded.ids, encoded.special_tokens_mask, strict=True)
        return [index for index, _ in itertools.takewhile(lambda pair: pair[1], marked)]

    def _cut(self, tokenizer: Tokenizer, text: str) -> Encoding:
        """The library's cut of a text. NotTokenized where it fails, such as on a pattern that backtracks too much."""
        try:
            return tokenizer.encode(text, add_special_tokens=False)
        except BaseException as error:
            if not is_failure(error):
                raise
            raise self._not_tokenized(f"it fails on the text ({type(error).__name__})") from error

    def _not_tokenized(self, reason: str) -> NotTokenized:
        return NotTokenized(f"The tokenizer {self.name} can't read a text: {reason}; use another one.", reason)

    def _spells(self, ids: Sequence[int], data: bytes) -> bool:
        return b"".join(map(self.text_bytes, ids)) == data

    def _encode_behind(self, anchor: str, text: str) -> list[int] | None:
        """Ids of `text` where it follows `anchor`; None if a token spans the boundary between them."""
        encoded = self._cut(self._plain, anchor + text)
        ids: list[int] = []
        begin = end = len(anchor)
        group: list[int] = []
        for index, (first, last) in zip(encoded.ids, encoded.offsets, strict=True):
            if last <= len(anchor):
                continue
            if first < len(anchor):
                return None
            if first >= end:  # shares no character with the token before
                ids += self._exact(group, text[begin - len(anchor) : first - len(anchor)])
                group, begin = [], first
            group.append(index)
            end = max(end, last)
        return ids + self._exact(group, text[begin - len(anchor) :])

    def _exact(self, ids: list[int], text: str) -> list[int]:
        """`ids` if they spell `text`, else the longest tokens that do."""
        data = text.encode()
        return ids if self._spells(ids, data) else self._longest_tokens(data)

    def _longest_tokens(self, data: bytes) -> list[int]:
        ids: list[int] = []
        while data:
            fitting = (data[:size] for size in range(min(len(data), self._longest), 0, -1))
            token = next((one for one in fitting if one in self.ids_by_bytes), None)
            if token is None:
                reason = f"it has no token for byte 0x{data[0]:02x}"
                raise NoToken(f"The tokenizer {self.name} can't read a text: {reason}; use another one.", reason)
            ids.append(self.ids_by_bytes[token])
            data = data[len(token) :]
        return ids

    # -- ids to bytes --------------------------------------------------------------------------------

    def decode(self, ids: Iterable[int]) -> str:
        """Text of `ids` without special tokens; bytes that are not UTF-8 become U+FFFD."""
        return b"".join(self.text_bytes(index) for index in ids).decode("utf-8", errors="replace")

    def token_bytes(self, index: int) -> bytes:
        """The bytes of one id; a special token's are its spelling. IndexError outside the vocabulary."""
        return self._bytes_by_id[index]

    def text_bytes(self, index: int) -> bytes:
        """As `token_bytes`, but b"" for a special token, which is not text."""
        return b"" if index in self.special_ids else self._bytes_by_id[index]

    @cached_property
    def lengths_V(self) -> Int64:
        """The bytes of each id, as many as `token_bytes` gives."""
        return np.fromiter(map(len, self._bytes_by_id), np.int64, self.vocab_size)

    @cached_property
    def ids_by_bytes(self) -> dict[bytes, int]:
        """Ordinary tokens by their bytes; of equals, one that isn't a byte piece wins, then the lowest id.

        A byte piece (`<0x2E>`) is for bytes that have no other token: a tokenizer that has `.` never uses it.
        """
        byte_pieces: set[int] = set()
        if self._uses_pieces:
            vocabulary = self._tokenizer.get_vocab(with_added_tokens=False)
            byte_pieces = {index for token, index in vocabulary.items() if is_byte_piece(token)}
        table: dict[bytes, int] = {}
        for index in sorted(range(self.vocab_size), key=lambda index: index in byte_pieces):
            if index not in self.special_ids and (data := self._bytes_by_id[index]):
                table.setdefault(data, index)
        return table

    def _spelled(self, vocabulary: Mapping[str, int]) -> list[bytes]:
        """The bytes of each id; b"" in a gap."""
        table = [b""] * self.vocab_size
        added = self._tokenizer.get_added_tokens_decoder()
        spell = vocabulary_speller(pieces=self._uses_pieces)
        for token, index in vocabulary.items():
            table[index] = token.encode() if index in added else spell(token)
        return table

    # -- chat ----------------------------------------------------------------------------------------

    def render_prompt(self, messages: Sequence[Message]) -> str:
        """The chat template applied to `messages`, up to where the assistant's answer begins."""
        return self._chat_template.render(messages, self.special_tokens)

    def encode_prompt(self, messages: Sequence[Message]) -> RenderedPrompt:
        """The rendered prompt and its ids. Refused for one that the template or the tokenizer can't take."""
        text = self.render_prompt(messages)
        if not text:
            raise TemplateRefused(self._template_owner, "it makes no text")
        self._chat_template.require_user(messages, self.special_tokens, text)
        encoded = self._cut(self._tokenizer, text)
        if not encoded.ids:
            raise self._not_tokenized("it makes no token of the text")
        if dropped := self._dropped(text, encoded):
            raise self._not_tokenized(f"it leaves {dropped!r} out")
        return RenderedPrompt(text, list(encoded.ids))

    @property
    def _template_owner(self) -> str:
        return f"{self.name} in {self._template_file}" if self._template_file else self.name

    def refuser(self, by: str) -> str:
        """What refuses a prompt (`Refused.by`), as the subject of a sentence."""
        return f"The {by} of {self._template_owner if by == TemplateRefused.by else self.name}"

    def takes_merged(self, messages: Sequence[Message]) -> bool:
        """Whether the template takes these messages with the system's as a part of the user's."""
        try:
            ChatTemplate(merging_system(self.template), self.name).render(messages, self.special_tokens)
        except BitnetError:
            return False
        return True

    # -- identity ------------------------------------------------------------------------------------

    @property
    def definition(self) -> dict[str, Any]:
        """The whole of it, as `tokenizer.json` has it."""
        whole: dict[str, Any] = json.loads(self._serialised)
        return whole

    @cached_property
    def hash(self) -> str:
        """sha256 of the whole serialised tokenizer with sorted keys, so that formatting doesn't count."""
        canonical = json.dumps(self.definition, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(canonical.encode()).hexdigest()

    @cached_property
    def template_hash(self) -> str:
        return hashlib.sha256(self.template.encode()).hexdigest()

    def save(self, folder: Path) -> None:
        """Write the files that `load_tokenizer` and transformers read, each whole or not at all."""
        files.write_text(folder / TOKENIZER_FILE, self._serialised)
        files.write_text(folder / TEMPLATE_FILE, self.template)
        config = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            **self.special_tokens,
            "chat_template": self.template,
            "clean_up_tokenization_spaces": False,
            "name": self.name,
        }
        files.write_json(folder / CONFIG_FILE, config)
