"""The student's tokenizer: exact bytes, the template as transformers renders it, the hash of all of it."""

import json
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models
from transformers.convert_slow_tokenizer import bytes_to_unicode

from bitnet_core.errors import BitnetError
from bitnet_core.teachers.embedded.files import EmbeddedFiles
from bitnet_core.teachers.embedded.server import EmbeddedServer
from bitnet_core.tokenizer.load import load_tokenizer
from bitnet_core.tokenizer.student import StudentTokenizer
from bitnet_core.tokenizer.token_bytes import byte_level_bytes
from tests.traces.samples import END, TEMPLATE, small_tokenizer, with_template

TOKENIZER = small_tokenizer()
SPELLED = {character: byte for byte, character in bytes_to_unicode().items()}
CHAT = [
    {"role": "user", "content": "Hello there,\nwhat is {{ 1 }}?"},
    {"role": "assistant", "content": "A brace. naïve 東京 🌧"},
    {"role": "user", "content": "  spaces  "},
]


@given(st.text(max_size=60))
def test_text_comes_back_unchanged(text: str) -> None:
    ids = TOKENIZER.encode_plain(text)
    assert b"".join(map(TOKENIZER.token_bytes, ids)) == text.encode()
    assert TOKENIZER.decode(ids) == text


@given(st.binary(max_size=60))
def test_any_bytes_come_back_unchanged(data: bytes) -> None:
    assert b"".join(map(TOKENIZER.token_bytes, TOKENIZER.encode_bytes(data))) == data


@given(st.text(st.characters(max_codepoint=0x180), max_size=8))
def test_a_byte_level_token_is_read_by_its_alphabet(token: str) -> None:
    known = all(character in SPELLED for character in token)
    assert byte_level_bytes(token) == (bytes(SPELLED[character] for character in token) if known else None)


def test_special_tokens_count_in_prompts_and_are_plain_text_in_answers() -> None:
    assert TOKENIZER.encode(END) == [TOKENIZER.eos_id]
    assert TOKENIZER.eos_id not in TOKENIZER.encode_plain(f"a{END}")
    assert TOKENIZER.decode(TOKENIZER.encode_plain(f"a{END}")) == f"a{END}"
    assert TOKENIZER.decode([*TOKENIZER.encode_plain("a"), TOKENIZER.eos_id]) == "a"


def test_saving_and_loading_changes_nothing(tmp_path: Path) -> None:
    TOKENIZER.save(tmp_path)
    again = load_tokenizer(tmp_path)
    assert (again.hash, again.template_hash, again.eos_id) == (
        TOKENIZER.hash,
        TOKENIZER.template_hash,
        TOKENIZER.eos_id,
    )
    assert again.encode("the rain") == TOKENIZER.encode("the rain")


@pytest.mark.parametrize("part", ["pre_tokenizer", "vocab"])
def test_the_hash_covers_the_whole_tokenizer(tmp_path: Path, part: str) -> None:
    TOKENIZER.save(tmp_path)
    path = tmp_path / "tokenizer.json"
    whole = json.loads(path.read_text())
    if part == "pre_tokenizer":
        whole["pre_tokenizer"]["add_prefix_space"] = True
    else:
        first, second = list(whole["model"]["vocab"])[100:102]
        vocab = whole["model"]["vocab"]
        vocab[first], vocab[second] = vocab[second], vocab[first]
    path.write_text(json.dumps(whole))
    assert load_tokenizer(tmp_path).hash != TOKENIZER.hash


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: (folder / "tokenizer.json").unlink(), "holds no tokenizer.json"),
        (lambda folder: (folder / "tokenizer.json").write_text('{"version'), "not a readable tokenizer"),
        (lambda folder: (folder / "tokenizer_config.json").write_text('{"eos_token": "</nowhere>"}'), "end token"),
        (
            lambda folder: (folder / "chat_template.jinja").write_text("{% if %}"),
            "not valid Jinja",
        ),
    ],
)
def test_a_damaged_folder_is_explained(tmp_path: Path, damage: object, said: str) -> None:
    TOKENIZER.save(tmp_path)
    damage(tmp_path)  # type: ignore[operator]
    with pytest.raises(BitnetError, match=said):
        load_tokenizer(tmp_path)


def test_sources_that_are_not_tokenizers_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(BitnetError, match="can't be downloaded from the hub"):
        load_tokenizer("TinyLlama/TinyLlama-1.1B")
    with pytest.raises(BitnetError, match="no such folder or file"):
        load_tokenizer(tmp_path / "nowhere")
    (tmp_path / "some.model").write_bytes(b"no model")
    with pytest.raises(BitnetError, match="not a SentencePiece model"):
        load_tokenizer(tmp_path / "some.model", TEMPLATE)
    TOKENIZER.save(tmp_path / "bare")
    (tmp_path / "bare" / "chat_template.jinja").unlink()
    (tmp_path / "bare" / "tokenizer_config.json").unlink()
    with pytest.raises(BitnetError, match="give one in TEMPLATE"):
        load_tokenizer(tmp_path / "bare")
    assert load_tokenizer(tmp_path / "bare", TEMPLATE).eos_id == TOKENIZER.eos_id


def test_a_wrong_source_is_answered_with_the_fix(tmp_path: Path) -> None:
    def refusal(source: str) -> str:
        with pytest.raises(BitnetError) as caught:
            load_tokenizer(source, TEMPLATE, fix="give another one in --tokenizer")
        return str(caught.value)

    assert "No tokenizer is named; give another one in --tokenizer" in refusal("")
    for missing in ("./nothing.json", "nothing.model", "nothing/tokenizer.json"):
        assert "there is no such folder or file; give another one in --tokenizer" in refusal(missing)
    for version in ("v1", "v2"):
        (tmp_path / f"tokenizer.model.{version}").write_bytes(b"")
    assert "holds several models (tokenizer.model.v1, tokenizer.model.v2)" in refusal(str(tmp_path))
    pieces = Tokenizer(models.WordPiece({"[UNK]": 0, "the": 1, "##n": 2, "</s>": 3}, unk_token="[UNK]"))
    pieces.save(str(tmp_path / "tokenizer.json"))
    assert "is a WordPiece tokenizer, which does not keep every character" in refusal(str(tmp_path))
    (tmp_path / "bad.json").write_text("{")
    assert "is not a readable tokenizer; give another one in --tokenizer" in refusal(str(tmp_path / "bad.json"))


def test_ids_may_have_gaps() -> None:
    sparse = Tokenizer(models.BPE({"a": 0, "b": 7, "</s>": 9}, []))
    tokenizer = StudentTokenizer(sparse, special_tokens={"eos_token": "</s>"}, template=TEMPLATE, name="sparse")
    assert tokenizer.vocab_size == 10
    assert tokenizer.encode_plain("ab") == [0, 7]
    assert [tokenizer.token_bytes(index) for index in (0, 3, 7)] == [b"a", b"", b"b"]
    assert b"" not in tokenizer.ids_by_bytes


def test_a_template_cannot_leave_its_sandbox() -> None:
    spy = with_template(TOKENIZER, "{{ messages.__class__.__mro__ }}")
    with pytest.raises(BitnetError, match="can't render"):
        spy.render_prompt(CHAT)


TEMPLATES = {
    "own": TEMPLATE,
    "specials": "{{ eos_token }}{% for m in messages %}{{ loop.index }} {{ m.content | trim }}\n{% endfor %}",
    "blocks": "{%- for m in messages %}\n  {% if m.role == 'user' %}\nU {{ m|tojson }}\n  {% endif %}\n{%- endfor %}",
    "generation": "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}",
    "break": "{% for m in messages %}{{ m.content }}{% break %}{% endfor %}",
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_templates_render_as_in_transformers(tmp_path: Path, name: str) -> None:
    from transformers import PreTrainedTokenizerFast

    tokenizer = with_template(TOKENIZER, TEMPLATES[name])
    tokenizer.save(tmp_path)
    theirs = PreTrainedTokenizerFast.from_pretrained(str(tmp_path))
    wanted = theirs.apply_chat_template(CHAT, tokenize=False, add_generation_prompt=True)
    assert tokenizer.render_prompt(CHAT) == wanted


@pytest.mark.teacher
def test_the_embedded_tokenizer_renders_and_cuts_as_transformers_does(teacher_files: EmbeddedFiles) -> None:
    from transformers import AutoTokenizer

    mine = load_tokenizer(teacher_files.tokenizer_dir)
    theirs = AutoTokenizer.from_pretrained(str(teacher_files.tokenizer_dir))
    prompt = theirs.apply_chat_template(CHAT, tokenize=False, add_generation_prompt=True)
    assert mine.render_prompt(CHAT) == prompt
    assert mine.encode(prompt) == theirs(prompt, add_special_tokens=False)["input_ids"]
    assert mine.vocab_size == len(theirs) == 49152


SAMPLES = [
    "In 2024, 3.14 and 1000 cats. x = 12\n\n 7",
    '{"name": "Bob", "numbers": [1, 22, 333]}\n```python\ndef f(x):\n    return x**2\n```',
    "naïve café 東京 Привет 🌧🌪 don't we'll  two  spaces\t\ttabs\r\n",
    "3rd 1st 2nd 10th v1.2.3 0xFF 1e-5",
]


@pytest.mark.teacher
@pytest.mark.parametrize("text", SAMPLES)
def test_the_embedded_tokenizer_cuts_as_the_teacher_does(
    teacher_tokenizer: StudentTokenizer, teacher_server: EmbeddedServer, text: str
) -> None:
    """llama.cpp splits digits first; a conversion of the GGUF's vocabulary alone would not."""
    reply = httpx.post(
        teacher_server.base_url.removesuffix("/v1") + "/tokenize",
        json={"content": text},
        headers={"Authorization": f"Bearer {teacher_server.api_key}"},
        trust_env=False,
    )
    assert teacher_tokenizer.encode_plain(text) == reply.json()["tokens"]


@pytest.mark.parametrize("dropout", [0.1, 0.5, 1.0])
def test_a_dropout_of_training_does_not_cut_texts_by_chance(dropout: float) -> None:
    definition = TOKENIZER.definition
    definition["model"]["dropout"] = dropout
    loaded = Tokenizer.from_str(json.dumps(definition))
    made = StudentTokenizer(loaded, special_tokens=TOKENIZER.special_tokens, template=TEMPLATE, name="t")
    text = "Hello there, the other one and the other thing " * 4
    assert made.encode(text) == TOKENIZER.encode(text)
    assert made.encode_plain(text) == TOKENIZER.encode_plain(text)
    assert made.hash == TOKENIZER.hash
