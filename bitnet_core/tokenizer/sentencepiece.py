"""Read a SentencePiece `.model` file as a tokenizer of the `tokenizers` library. Knows nothing else."""

from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers

from bitnet_core.errors import BitnetError

_CONTROL, _USER = 3, 4
_UNIGRAM = 1


def read_model(path: Path, fix: str) -> Tokenizer:
    """BPE and Unigram models; BitnetError, with its `fix`, for a file that is neither."""
    # Seconds to import, and needed for this alone.
    from transformers.convert_slow_tokenizer import SentencePieceExtractor
    from transformers.tokenization_utils_base import generate_merges

    try:
        extractor = SentencePieceExtractor(str(path))
        told = extractor.extract(None)
    except Exception as error:
        # protobuf's errors for a file that is something else are of its own family.
        raise BitnetError(f"{path} is no SentencePiece model; {fix}.") from error
    pieces = extractor.proto.pieces
    if not pieces:
        raise BitnetError(f"{path} is no SentencePiece model; {fix}.")
    if extractor.proto.trainer_spec.treat_whitespace_as_suffix:
        raise BitnetError(f"{path} puts spaces behind words, which is not supported; {fix}.")
    unknown = pieces[extractor.proto.trainer_spec.unk_id].piece
    fallback = extractor.proto.trainer_spec.byte_fallback
    if extractor.proto.trainer_spec.model_type == _UNIGRAM:
        model: models.Model = models.Unigram(told["vocab"], told["unk_id"], fallback)
    else:
        # In the order of the pieces' scores, as the model itself merges: their ids are not always in that order.
        merges = generate_merges(told["vocab"], {piece.piece: piece.score for piece in pieces})
        model = models.BPE(told["vocab"], merges, unk_token=unknown, fuse_unk=True, byte_fallback=fallback)
    tokenizer = Tokenizer(model)
    spec = extractor.proto.normalizer_spec
    steps: list[normalizers.Normalizer] = []
    if spec.precompiled_charsmap:
        steps.append(normalizers.Precompiled(spec.precompiled_charsmap))
    if spec.add_dummy_prefix:
        steps.append(normalizers.Prepend("▁"))
    steps.append(normalizers.Replace(" ", "▁"))
    tokenizer.normalizer = normalizers.Sequence(steps)
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens(
        [AddedToken(piece.piece, normalized=False, special=True) for piece in pieces if piece.type == _CONTROL]
        + [AddedToken(unknown, normalized=False, special=True)]
    )
    tokenizer.add_tokens([AddedToken(piece.piece, normalized=False) for piece in pieces if piece.type == _USER])
    return tokenizer
