"""Read a SentencePiece `.model` file as a tokenizer of the `tokenizers` library."""

from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers

from bitnet_core.errors import BitnetError

_CONTROL, _USER_DEFINED = 3, 4
_UNIGRAM = 1


def read_model(path: Path, fix: str) -> Tokenizer:
    """BPE and Unigram models; BitnetError, ending in `fix`, for any other file."""
    # Seconds to import, and only needed here.
    from transformers.convert_slow_tokenizer import SentencePieceExtractor
    from transformers.tokenization_utils_base import generate_merges

    try:
        extractor = SentencePieceExtractor(str(path))
        extracted = extractor.extract(None)
    except Exception as error:
        # protobuf raises errors of its own family for any other kind of file.
        raise BitnetError(f"{path} is not a SentencePiece model; {fix}.") from error
    pieces, spec = extractor.proto.pieces, extractor.proto.trainer_spec
    if not pieces:
        raise BitnetError(f"{path} is not a SentencePiece model; {fix}.")
    if spec.treat_whitespace_as_suffix:
        raise BitnetError(f"{path} puts spaces after words, which is not supported; {fix}.")
    unknown = pieces[spec.unk_id].piece
    if spec.model_type == _UNIGRAM:
        model: models.Model = models.Unigram(extracted["vocab"], extracted["unk_id"], spec.byte_fallback)
    else:
        # Merges go by the pieces' scores, as in SentencePiece itself; ids are not always in that order.
        merges = generate_merges(extracted["vocab"], {piece.piece: piece.score for piece in pieces})
        model = models.BPE(
            extracted["vocab"], merges, unk_token=unknown, fuse_unk=True, byte_fallback=spec.byte_fallback
        )
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = _normalizer(extractor.proto.normalizer_spec)
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens(
        [AddedToken(piece.piece, normalized=False, special=True) for piece in pieces if piece.type == _CONTROL]
        + [AddedToken(unknown, normalized=False, special=True)]
    )
    tokenizer.add_tokens(
        [AddedToken(piece.piece, normalized=False) for piece in pieces if piece.type == _USER_DEFINED]
    )
    return tokenizer


def _normalizer(spec: Any) -> normalizers.Normalizer:
    steps: list[normalizers.Normalizer] = []
    if spec.precompiled_charsmap:
        steps.append(normalizers.Precompiled(spec.precompiled_charsmap))
    if spec.add_dummy_prefix:
        steps.append(normalizers.Prepend("▁"))
    steps.append(normalizers.Replace(" ", "▁"))
    return normalizers.Sequence(steps)
