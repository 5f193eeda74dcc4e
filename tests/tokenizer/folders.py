"""Files of a tokenizer's folder, good and hostile, and the check that every one of them must pass.

The check takes bytes alone, so that any source of cases can feed it.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from bitnet_core.errors import BitnetError
from bitnet_core.tokenizer.load import load_tokenizer
from tests.tokenizer.vocabularies import UNIGRAM
from tests.traces.samples import TEMPLATE

FILES = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.json"),
    *("chat_template.jinja", "additional_chat_templates/default.jinja", "tokenizer.model"),
)
_LONGEST_MESSAGE = 600
_MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Naïve 東京 🌧 </s>"}]
_TOKENIZER = UNIGRAM._tokenizer.to_str()


def check(data: bytes) -> None:
    """A folder with these bytes in one of its files loads and renders, or is refused in one sentence.

    The first byte says which of FILES holds the rest.
    """
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "tokenizer.json").write_text(_TOKENIZER)
        (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "</s>", "chat_template": TEMPLATE}))
        name = FILES[(data[0] if data else 0) % len(FILES)]
        if name == "tokenizer.model":
            (folder / "tokenizer.json").unlink()
        if name == "chat_template.json":
            (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "</s>"}))
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data[1:])
        try:
            tokenizer = load_tokenizer(folder)
            ids = tokenizer.encode(tokenizer.render_prompt(_MESSAGES))
        except BitnetError as error:
            assert 0 < len(str(error)) < _LONGEST_MESSAGE
            assert "\n" not in str(error)
            str(error).encode()
            return
        assert all(0 <= index < tokenizer.vocab_size for index in ids)
        assert len(tokenizer.hash) == len(tokenizer.template_hash) == 64


_scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 1 << 40),
    st.floats(),
    st.sampled_from(["", "</s>", "default", "▁", "\ud800", "{{ '\\ud800' }}", "{% for %}", TEMPLATE, "x" * 3000]),
    st.text(max_size=8),
)
_keys = st.sampled_from(
    [
        *(
            "eos_token",
            "bos_token",
            "chat_template",
            "name",
            "template",
            "content",
            "extra_special_tokens",
            "added_tokens",
        ),
        *(
            "added_tokens_decoder",
            "model",
            "vocab",
            "merges",
            "type",
            "unk_id",
            "normalizer",
            "pre_tokenizer",
            "decoder",
        ),
    ]
)
_values = st.recursive(
    _scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(_keys, inner, max_size=4)),
    max_leaves=12,
)


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where a JSON value can be changed; of long lists and objects the first few places."""
    pairs = (
        list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []
    )
    return [(*path, key) for key, _ in pairs[:6]] + [
        deep for key, one in pairs[:6] for deep in _places(one, (*path, key))
    ]


@st.composite
def _damaged_tokenizer(draw: st.DrawFn) -> str:
    whole = json.loads(_TOKENIZER)
    for _ in range(draw(st.integers(1, 2))):
        *path, last = draw(st.sampled_from(_places(whole)))
        inside = whole
        for key in path:
            inside = inside[key]
        inside[last] = draw(_values)
    return json.dumps(whole)


_contents = st.one_of(
    st.binary(max_size=40),
    _values.map(json.dumps).map(str.encode),
    st.dictionaries(_keys, _values, max_size=4).map(json.dumps).map(str.encode),
    _damaged_tokenizer().map(str.encode),
    st.sampled_from([b"", b"\xef\xbb\xbf{}", b"\xff\xfe{\x00}\x00", b"[" * 100_000, b'{"a":' * 100_000, b"{}" * 9]),
)
hostile_files = st.builds(lambda which, content: bytes([which]) + content, st.integers(0, len(FILES) - 1), _contents)
