"""Load a student's tokenizer: from a folder, a `tokenizer.json`, a SentencePiece `.model` file, or the hub.

Needs `tokenizers` and `jinja2` alone for the usual case, so that loading takes a fraction of a second.
"""

import contextlib
import string
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers

from bitnet_core.errors import BitnetError, raise_if_not_the_file
from bitnet_core.files.models import is_hub_name
from bitnet_core.files.user_folders import expanded
from bitnet_core.tokenizer.chat_template import ChatTemplate, merging_system
from bitnet_core.tokenizer.folder import (
    JSON_TEMPLATE_FILE,
    NAMED_TEMPLATES,
    SPECIAL_TOKENS_FILE,
    TEMPLATE_FILE,
    is_there,
    own_name,
    own_template,
    read_config,
    read_text,
    require_own,
    special_tokens,
)
from bitnet_core.tokenizer.hub import download
from bitnet_core.tokenizer.refused import NotTokenized, is_failure
from bitnet_core.tokenizer.student import TOKENIZER_FILE, StudentTokenizer

_CORRECT = "correct TOKENIZER_NAME or leave it empty"
_HUB_FILES = (
    *("tokenizer*.json", "tokenizer*.model", TEMPLATE_FILE),
    *(SPECIAL_TOKENS_FILE, JSON_TEMPLATE_FILE, NAMED_TEMPLATES),
)
_LARGEST_TOKENIZER = 1 << 27
"""Bytes of a `tokenizer.json`. The largest that models have are around 40 million."""
_FILE_SUFFIXES = (".json", ".model")
_KINDS = ("BPE", "Unigram")
_SPM_UNIGRAM, _SPM_CONTROL, _SPM_USER_DEFINED = 1, 3, 4
"""SentencePiece's numbers for a kind of model, and for two kinds of pieces."""
_ANY_TEXT = "a é\n東\U0010fffd"
"""Has a character that no vocabulary knows: some models can't encode it."""
_BLANKS = "a b c"
_LETTERS = string.ascii_letters + string.digits
_MOST_GROWTH = 256
"""What a character may become; usual normalizers replace a sign by one to three others."""
_USUAL_END_TOKENS = ("<|im_end|>", "<|eot_id|>", "<end_of_turn>", "</s>", "<|endoftext|>", "<eos>")


class _OfFile(msgspec.Struct):
    """What of a `tokenizer.json` is decoded here; it may have millions of other values."""

    normalizer: Any = None


_NORMALIZER = msgspec.json.Decoder(_OfFile)


class NoTemplate(BitnetError):
    """The tokenizer has no chat template, and none was given."""


@dataclass(frozen=True)
class _Template:
    """The chat template wanted; an empty `source` is the tokenizer's own."""

    source: str
    merge_system: bool
    file: Path | None = None
    """Where it stands, if it is the tokenizer's own."""

    @property
    def text(self) -> str:
        return merging_system(self.source) if self.merge_system else self.source


def load_tokenizer(
    source: Path | str, template: str = "", *, merge_system: bool = False, fix: str = _CORRECT
) -> StudentTokenizer:
    """The tokenizer of a folder, a `tokenizer.json`, a SentencePiece `.model` file, or a name on the hub.

    A `template` replaces the tokenizer's own chat template; `merge_system` puts a beginning before it that merges
    system messages into the user's. `fix` is what the user should do about a wrong source.
    BitnetError names what is missing and the fix; NoTemplate if no template is known.
    """
    if source == "":
        raise BitnetError(f"No tokenizer is named; {fix}: a folder, a file or a name on the hub.")
    path, wanted = expanded(source), _Template(template, merge_system)
    present = is_there(path)
    if path.is_dir():
        return _from_folder(path, wanted, fix)
    if path.is_file():
        return _from_file(path, wanted, fix)
    if present or isinstance(source, Path) or not is_hub_name(source) or path.suffix in _FILE_SUFFIXES:
        raise BitnetError(f"{source} is not a tokenizer: there is no such folder or file; {fix}.")
    tokenizer = _from_folder(download(source, _HUB_FILES, kind="tokenizer", fix=fix), wanted, fix)
    tokenizer.name = source
    return tokenizer


def _from_folder(folder: Path, wanted: _Template, fix: str) -> StudentTokenizer:
    source = folder / TOKENIZER_FILE
    config = read_config(folder)
    if not is_there(source) and (models := sorted(folder.glob("*.model*"))):
        if len(models) > 1:
            names = ", ".join(path.name for path in models)
            raise BitnetError(f"{folder} holds several models ({names}); {fix}: name one of these files.")
        (where,) = models
        tokenizer, name = _read_sentencepiece(where, fix), where.name
    else:
        where, tokenizer, name = folder, _read_tokenizer(source, fix), own_name(folder, config)
    if not wanted.source and (own := own_template(folder, config)):
        wanted = replace(wanted, source=own[0], file=own[1])
    return _assemble(tokenizer, special_tokens(folder, config), wanted, where, name, fix)


def _from_file(path: Path, wanted: _Template, fix: str) -> StudentTokenizer:
    if path.suffix == ".json":
        return _assemble(_read_tokenizer(path, fix), {}, wanted, path, path.stem, fix)
    return _assemble(_read_sentencepiece(path, fix), {}, wanted, path, path.name, fix)


def _read_tokenizer(source: Path, fix: str) -> Tokenizer:
    """BitnetError for a file that is not a tokenizer, and for kinds whose tokens don't determine their bytes."""
    if not is_there(source):
        raise BitnetError(f"{source.parent} holds no {TOKENIZER_FILE}; {fix}.")
    text = read_text(source, _LARGEST_TOKENIZER)
    if _growth(text) > _MOST_GROWTH:
        raise BitnetError(f"{source} makes each character of a text into hundreds; {fix}.")
    with _readable(source, fix):
        tokenizer = Tokenizer.from_str(text)
    kind = type(tokenizer.model).__name__
    if kind not in _KINDS:
        raise BitnetError(
            f"{source} is a {kind} tokenizer, which does not keep every character of a text; "
            f"{fix} (supported kinds: {', '.join(_KINDS)})."
        )
    return tokenizer


def _growth(text: str) -> int:
    """How much longer the normalizer of a `tokenizer.json` can make a text; 1 for what is no such file."""
    try:
        level = [_NORMALIZER.decode(text).normalizer]
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return 1  # the library says what is wrong with it
    growth = 1
    while level:
        for one in level:
            if isinstance(one, dict):
                content = one.get("content"), one.get("prepend")
                growth *= max([1, *(len(part) for part in content if isinstance(part, str))])
        inside = [one.get("normalizers") for one in level if isinstance(one, dict)]
        level = [one for some in inside if isinstance(some, list) for one in some]
    return growth


@contextlib.contextmanager
def _readable(source: Path, fix: str) -> Iterator[None]:
    """Raise what the Rust library raises for whatever is wrong with a tokenizer as a BitnetError."""
    try:
        yield
    except BaseException as error:
        told = isinstance(error, BitnetError) and not isinstance(error, NotTokenized)
        if told or not is_failure(error):
            raise
        raise_if_not_the_file(error, source)
        raise BitnetError(f"{source} is not a readable tokenizer; {fix}.") from error


def _assemble(
    tokenizer: Tokenizer, special_tokens: dict[str, str], template: _Template, where: Path, name: str, fix: str
) -> StudentTokenizer:
    if "eos_token" not in special_tokens:
        usual = next((token for token in _USUAL_END_TOKENS if tokenizer.token_to_id(token) is not None), None)
        if usual is None:
            raise BitnetError(f"The tokenizer in {where} names no end token; use another one.")
        special_tokens = {**special_tokens, "eos_token": usual}
    if not template.source:
        raise NoTemplate(f"The tokenizer in {where} has no chat template; give one in TEMPLATE, or use another one.")
    ChatTemplate(template.text, str(template.file or where))  # names the file where it is wrong
    with _readable(where, fix):
        made = StudentTokenizer(
            tokenizer,
            special_tokens=special_tokens,
            template=template.text,
            name=name,
            template_file=template.file,
        )
        made.encode(_ANY_TEXT)
    words = b"".join(map(made.text_bytes, made.encode(_BLANKS))).strip(b" ")
    if words and b" " not in words:
        raise BitnetError(f"The tokenizer in {where} drops the blanks between words; {fix}.")
    known = "".join(sign for sign in _LETTERS if sign.encode() in made.ids_by_bytes)
    if dropped := made.dropped(known):
        raise BitnetError(f"The tokenizer in {where} leaves {dropped!r} out of texts; {fix}.")
    return made


# -- SentencePiece ---------------------------------------------------------------------------------------


def _read_sentencepiece(path: Path, fix: str) -> Tokenizer:
    """BPE and Unigram models; BitnetError, ending in `fix`, for any other file."""
    # Seconds to import, and only needed here.
    from transformers.convert_slow_tokenizer import SentencePieceExtractor
    from transformers.tokenization_utils_base import generate_merges

    require_own(path, _LARGEST_TOKENIZER)  # the library would wait for what a pipe gives, and reads all of a file
    try:
        extractor = SentencePieceExtractor(str(path))
        extracted = extractor.extract(None)
        pieces, spec = extractor.proto.pieces, extractor.proto.trainer_spec
        unknown = pieces[spec.unk_id].piece
    except Exception as error:
        # protobuf raises errors of its own family for any other kind of file; an empty one is a model without pieces.
        raise_if_not_the_file(error, path)
        raise BitnetError(f"{path} is not a SentencePiece model; {fix}.") from error
    if spec.treat_whitespace_as_suffix:
        raise BitnetError(f"{path} puts spaces after words, which is not supported; {fix}.")
    if spec.model_type == _SPM_UNIGRAM:
        model: models.Model = models.Unigram(extracted["vocab"], extracted["unk_id"], spec.byte_fallback)
    else:
        # Merges go by the pieces' scores, as in SentencePiece itself; ids are not always in that order.
        merges = generate_merges(extracted["vocab"], {piece.piece: piece.score for piece in pieces})
        model = models.BPE(
            extracted["vocab"], merges, unk_token=unknown, fuse_unk=True, byte_fallback=spec.byte_fallback
        )
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = _spm_normalizer(extractor.proto.normalizer_spec)
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens(
        [AddedToken(piece.piece, normalized=False, special=True) for piece in pieces if piece.type == _SPM_CONTROL]
        + [AddedToken(unknown, normalized=False, special=True)]
    )
    tokenizer.add_tokens(
        [AddedToken(piece.piece, normalized=False) for piece in pieces if piece.type == _SPM_USER_DEFINED]
    )
    return tokenizer


def _spm_normalizer(spec: Any) -> normalizers.Normalizer:
    steps: list[normalizers.Normalizer] = []
    if spec.precompiled_charsmap:
        steps.append(normalizers.Precompiled(spec.precompiled_charsmap))
    if spec.add_dummy_prefix:
        steps.append(normalizers.Prepend("▁"))
    steps.append(normalizers.Replace(" ", "▁"))
    return normalizers.Sequence(steps)
