"""A tokenizer as keys of a GGUF, for llama.cpp's own tokenizers. It knows no model.

llama.cpp does not read a pre-tokenizer's pattern: the file names one that is built into it. So a tokenizer whose
pattern it does not have can't be exported, and is refused.
"""

from typing import Any

from bitnet_core.errors import BitnetError
from bitnet_core.tokenizer.student import StudentTokenizer
from bitnet_core.tokenizer.token_bytes import is_byte_piece

_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED, _BYTE = 1, 2, 3, 4, 5, 6
_LETTERS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_SHORTENED = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_BY_PATTERN = {
    rf"{_SHORTENED}|{_LETTERS}|\p{{N}}{{1,3}}|{_REST}": "llama-bpe",
    rf"{_SHORTENED}|{_LETTERS}|\p{{N}}|{_REST}": "qwen2",
}


def vocabulary_keys(tokenizer: StudentTokenizer) -> dict[str, Any]:
    """`tokenizer.*` of a GGUF. BitnetError for a tokenizer that llama.cpp can't be."""
    whole = tokenizer.definition
    model = whole["model"]
    added = {one["id"]: one for one in whole.get("added_tokens") or []}
    spelled = [f"[UNUSED{index}]" for index in range(tokenizer.vocab_size)]
    types = [_UNUSED] * tokenizer.vocab_size
    pieces = model["type"] == "BPE" and bool(model.get("byte_fallback"))
    if model["type"] != "BPE":
        raise _refused(tokenizer, f"a {model['type']} model")
    for token, index in model["vocab"].items():
        spelled[index] = token
        types[index] = _BYTE if pieces and is_byte_piece(token) else _NORMAL
    for index, one in added.items():
        spelled[index] = one["content"]
        types[index] = _CONTROL if index in tokenizer.special_ids else _USER_DEFINED
    keys: dict[str, Any] = {"tokenizer.ggml.tokens": spelled, "tokenizer.ggml.token_type": types}
    merges = [one.split(" ", 1) if isinstance(one, str) else one for one in model["merges"]]
    if pieces:
        unknown = model["vocab"].get(model.get("unk_token"))
        if unknown is not None:
            types[unknown] = _UNKNOWN
            keys["tokenizer.ggml.unknown_token_id"] = unknown
        keys |= _sentencepiece(tokenizer, whole, merges, spelled)
    else:
        keys["tokenizer.ggml.model"] = "gpt2"
        keys["tokenizer.ggml.pre"] = _pre_tokenizer(tokenizer, whole)
        keys["tokenizer.ggml.merges"] = [" ".join(one) for one in merges]
    keys["tokenizer.ggml.eos_token_id"] = tokenizer.eos_id
    keys |= _other_special(tokenizer, {content: index for index, content in enumerate(spelled)})
    # A prompt is rendered with its special tokens written out, so none is added to it.
    keys |= {"tokenizer.ggml.add_bos_token": False, "tokenizer.ggml.add_eos_token": False}
    return keys | {"tokenizer.chat_template": tokenizer.template}


def _sentencepiece(
    tokenizer: StudentTokenizer, whole: dict[str, Any], merges: list[list[str]], spelled: list[str]
) -> dict[str, Any]:
    """Scores that make llama.cpp merge in the order of `merges`: it takes the pair whose piece has the best one."""
    steps = (whole.get("normalizer") or {}).get("normalizers") or [whole.get("normalizer") or {}]
    kinds = [step.get("type") for step in steps]
    if set(kinds) - {"Prepend", "Replace"} or whole.get("pre_tokenizer"):
        raise _refused(tokenizer, "a normaliser of its own")
    rank: dict[str, int] = {}
    for place, (left, right) in enumerate(merges):
        rank.setdefault(left + right, place)
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.scores": [-float(rank[token]) if token in rank else 0.0 for token in spelled],
        "tokenizer.ggml.add_space_prefix": "Prepend" in kinds,
    }


def _pre_tokenizer(tokenizer: StudentTokenizer, whole: dict[str, Any]) -> str:
    """The name that llama.cpp has for how a byte-level tokenizer cuts a text into words."""
    if whole.get("normalizer"):
        raise _refused(tokenizer, "a normaliser")
    pre = whole.get("pre_tokenizer") or {}
    steps = pre.get("pretokenizers", [pre])
    last = steps[-1] if steps else {}
    if last.get("type") != "ByteLevel" or last.get("add_prefix_space"):
        raise _refused(tokenizer, "a pre-tokenizer that is not byte-level")
    before = steps[:-1]
    with_pattern = last.get("use_regex", True)
    if not before and with_pattern:
        return "gpt-2"
    if len(before) == 1 and before[0].get("type") == "Digits" and before[0].get("individual_digits") and with_pattern:
        return "smollm"
    if len(before) == 1 and before[0].get("type") == "Split" and not with_pattern:
        split = before[0]
        isolated = split.get("behavior") == "Isolated" and not split.get("invert")
        name = _BY_PATTERN.get((split.get("pattern") or {}).get("Regex", ""))
        if name and isolated:
            return name
    raise _refused(tokenizer, "a pattern of its own")


def _other_special(tokenizer: StudentTokenizer, ids: dict[str, int]) -> dict[str, Any]:
    names = {"bos_token": "bos_token_id", "pad_token": "padding_token_id"}
    return {
        f"tokenizer.ggml.{key}": ids[tokenizer.special_tokens[name]]
        for name, key in names.items()
        if tokenizer.special_tokens.get(name) in ids
    }


def _refused(tokenizer: StudentTokenizer, what: str) -> BitnetError:
    return BitnetError(
        f"llama.cpp has no counterpart of the tokenizer {tokenizer.name}, which has {what}; "
        "use `bitnet export hf`, or train with another tokenizer."
    )
