"""Which chat template and tokens a folder has, as in transformers; and files that are not what they should be."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from bitnet_core.errors import BitnetError
from bitnet_core.tokenizer.chat_template import TemplateRefused
from bitnet_core.tokenizer.load import NoTemplate, load_tokenizer
from bitnet_core.tokenizer.refused import NoToken
from tests.fuzzing import fuzz
from tests.tokenizer.folders import check, hostile_files
from tests.tokenizer.vocabularies import PLAIN
from tests.traces.samples import END, TEMPLATE, small_tokenizer

_CHAT = [{"role": "user", "content": "Hi"}]


def _folder(place: Path, files: Mapping[str, Any]) -> Path:
    """A folder with a tokenizer and these files; what is not text is written as JSON."""
    small_tokenizer().save(place)
    (place / "chat_template.jinja").unlink()
    (place / "tokenizer_config.json").write_text(json.dumps({"eos_token": END}))
    for name, content in files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(content if isinstance(content, str) else json.dumps(content))
    return place


def _config(**more: Any) -> dict[str, Any]:
    return {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": END, **more}


def _named(**templates: str) -> list[dict[str, str]]:
    return [{"name": name, "template": template} for name, template in templates.items()]


_CONFIG, _JINJA, _JSON = "tokenizer_config.json", "chat_template.jinja", "chat_template.json"
_MORE = "additional_chat_templates/{}.jinja"
_OWN = _MORE.format("default")
FORMS = {
    "text": {_CONFIG: _config(chat_template="A{{ eos_token }}")},
    "list": {_CONFIG: _config(chat_template=_named(default="A", tool_use="T", rag="R"))},
    "list, default last": {_CONFIG: _config(chat_template=_named(tool_use="{{ tools | tojson }}", default="A"))},
    "object": {_CONFIG: _config(chat_template={"default": "A", "rag": "R"})},
    "jinja": {_JINJA: "J\n"},
    "jinja before text": {_JINJA: "J", _CONFIG: _config(chat_template="A")},
    "jinja before list": {_JINJA: "J", _CONFIG: _config(chat_template=_named(default="A"))},
    "jinja and more": {_JINJA: "J", _MORE.format("tool_use"): "T"},
    "more has the default": {_MORE.format("default"): "D", _MORE.format("rag"): "R"},
    "more before jinja": {_JINJA: "J", _MORE.format("default"): "D"},
    "more before text": {_CONFIG: _config(chat_template="A"), _MORE.format("default"): "D"},
    "text before json": {_CONFIG: _config(chat_template="A"), _JSON: {"chat_template": "P"}},
    "no default": {_CONFIG: _config(chat_template=_named(tool_use="T", rag="R"))},
    "no default in files": {_CONFIG: _config(chat_template="A"), _MORE.format("rag"): "R", _MORE.format("tool"): "T"},
    "none": {_CONFIG: _config(chat_template=None)},
    "tokens": {
        _CONFIG: _config(
            bos_token={"content": "<|endoftext|>", "__type": "AddedToken"},
            image_token="<|im_start|>",
            add_bos_token=True,
            pad_token=None,
            extra_special_tokens={"sound_token": "<|endoftext|>"},
            chat_template="{{ bos_token }},{{ eos_token }},{{ pad_token }},{{ image_token }},{{ sound_token }},"
            "{{ add_bos_token }}",
        )
    },
    "tokens of the older form": {
        "special_tokens_map.json": {"bos_token": "<|endoftext|>", "unk_token": {"content": "<|im_start|>"}},
        _CONFIG: _config(bos_token="<|im_start|>", chat_template="{{ bos_token }},{{ unk_token }},{{ eos_token }}"),
    },
    "tokens of both forms": {
        "special_tokens_map.json": {"bos_token": "<|endoftext|>"},
        _CONFIG: _config(
            bos_token="<|im_start|>", added_tokens_decoder={}, chat_template="{{ bos_token }},{{ eos_token }}"
        ),
    },
}


@pytest.mark.parametrize("form", FORMS)
def test_the_template_and_the_tokens_are_those_that_transformers_takes(tmp_path: Path, form: str) -> None:
    folder = _folder(tmp_path, FORMS[form])
    theirs = PreTrainedTokenizerFast.from_pretrained(str(folder))
    try:
        wanted = theirs.apply_chat_template(_CHAT, tokenize=False, add_generation_prompt=True)
    except ValueError:
        wanted = None
    try:
        found = load_tokenizer(folder).render_prompt(_CHAT)
    except BitnetError:
        found = None
    assert found == wanted


@pytest.mark.parametrize("written", ["P", _named(default="P", rag="R"), {"default": "P"}])
def test_a_processors_template_is_used_where_there_is_no_other(tmp_path: Path, written: Any) -> None:
    assert load_tokenizer(_folder(tmp_path, {_JSON: {"chat_template": written}})).template == "P"


def test_named_templates_without_a_default_are_listed(tmp_path: Path) -> None:
    folder = _folder(tmp_path, FORMS["no default"])
    with pytest.raises(BitnetError, match=r"several chat templates \(rag, tool_use\) and none is named default"):
        load_tokenizer(folder)
    assert load_tokenizer(folder, PLAIN).template == PLAIN


def _with_own_template(folder: Path, file: str, template: str) -> Path:
    objects = {_CONFIG: _config(chat_template=template), _JSON: {"chat_template": template}}
    return _folder(folder, {file: objects.get(file, template)})


@pytest.mark.parametrize(
    ("file", "template"), [(_JINJA, ""), (_JINJA, " \n"), (_CONFIG, " \n"), (_OWN, ""), (_JSON, "\t")]
)
def test_an_empty_template_is_refused_by_its_file(tmp_path: Path, file: str, template: str) -> None:
    folder = _with_own_template(tmp_path, file, template)
    with pytest.raises(BitnetError, match=rf"in .*/{file} is empty; restore it, remove it, or give one in TEMPLATE"):
        load_tokenizer(folder)
    assert load_tokenizer(folder, PLAIN).template == PLAIN


@pytest.mark.parametrize("file", [_JINJA, _CONFIG, _JSON, _OWN])
def test_what_a_template_refuses_names_its_file(tmp_path: Path, file: str) -> None:
    refusing = load_tokenizer(_with_own_template(tmp_path, file, "{{ raise_exception('no') }}"))
    with pytest.raises(
        TemplateRefused, match=rf"of {refusing.name} in {tmp_path}/{file} can't render a prompt \(no\)"
    ):
        refusing.encode_prompt(_CHAT)
    assert refusing.refuser(TemplateRefused.by).endswith(f" in {tmp_path}/{file}")
    assert refusing.refuser(NoToken.by) == f"The tokenizer of {refusing.name}"
    with pytest.raises(BitnetError, match=rf"^The chat template of {tmp_path}/{file} is not valid Jinja"):
        load_tokenizer(_with_own_template(tmp_path, file, "{% if %}"))


def test_a_sentencepiece_folder_has_the_template_and_tokens_of_its_configuration(
    tmp_path: Path, sentencepiece_model: Path
) -> None:
    (tmp_path / "tokenizer.model").write_bytes(sentencepiece_model.read_bytes())
    with pytest.raises(NoTemplate):
        load_tokenizer(tmp_path)
    (tmp_path / _CONFIG).write_text(json.dumps({"bos_token": "<s>", "chat_template": "{{ bos_token }}[INST]"}))
    assert load_tokenizer(tmp_path).render_prompt(_CHAT) == "<s>[INST]"
    assert load_tokenizer(tmp_path).name == "tokenizer.model"


def test_a_byte_order_mark_before_json_is_read_over(tmp_path: Path) -> None:
    folder = _folder(tmp_path, {_CONFIG: _config(chat_template=TEMPLATE)})
    for name in (_CONFIG, "tokenizer.json"):
        (folder / name).write_bytes(b"\xef\xbb\xbf" + (folder / name).read_bytes())
    assert load_tokenizer(folder).hash == small_tokenizer().hash


_WRONG = {
    "nothing": b"",
    "no JSON": b'{"eos_token": ',
    "a list": b"[1, 2]",
    "a number": b"5",
    "null": b"null",
    "nested": b"[" * 100_000 + b"]" * 100_000,
    "nested objects": b'{"a":' * 100_000,
    "UTF-16": '{"eos_token": "</s>"}'.encode("utf-16"),
    "bytes": b"\xff\xfe\x00\x80",
    "a huge number": b'{"eos_token": ' + b"9" * 10_000 + b"}",
}


@pytest.mark.parametrize("wrong", _WRONG)
@pytest.mark.parametrize("name", ["tokenizer.json", _CONFIG, "special_tokens_map.json", _JSON])
def test_a_file_that_is_not_what_it_should_be_is_named(tmp_path: Path, name: str, wrong: str) -> None:
    folder = _folder(tmp_path, {name: ""})
    (folder / name).write_bytes(_WRONG[wrong])
    with pytest.raises(BitnetError, match=name.replace(".", r"\.")) as caught:
        load_tokenizer(folder, "" if name == _JSON else PLAIN)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["tokenizer.json", _CONFIG, "special_tokens_map.json", _JSON, _JINJA])
def test_a_folder_or_a_huge_file_in_place_of_a_file_is_named(tmp_path: Path, name: str) -> None:
    folder = _folder(tmp_path / "folder", {})
    (folder / name).unlink(missing_ok=True)
    (folder / name).mkdir()
    with pytest.raises(BitnetError, match=rf"{name} is not a file"):
        load_tokenizer(folder)
    folder = _folder(tmp_path / "huge", {name: ""})
    with (folder / name).open("wb") as file:
        file.truncate(1 << 40)  # a hole, which takes no space
    with pytest.raises(BitnetError, match=rf"{name} is larger than"):
        load_tokenizer(folder)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (_config(chat_template=5), "neither a text nor a list"),
        (_config(chat_template=[]), "has no chat template"),
        (_config(chat_template=["A"]), "neither a text nor a list"),
        (_config(chat_template=[{"name": "default"}]), "neither a text nor a list"),
        (_config(chat_template=[{"name": "default", "template": 5}]), "neither a text nor a list"),
        (_config(chat_template={"default": None}), "neither a text nor a list"),
        (_config(chat_template="\ud800"), "neither a text nor a list"),
        ({"eos_token": "\ud800"}, "half a character"),
        ({"eos_token": "<nowhere>", "chat_template": "A"}, "does not contain it"),
        (_config(chat_template="{{ x"), "not valid Jinja"),
    ],
)
def test_values_of_wrong_types_are_named(tmp_path: Path, content: Any, said: str) -> None:
    with pytest.raises(BitnetError, match=said) as caught:
        load_tokenizer(_folder(tmp_path, {_CONFIG: content}))
    str(caught.value).encode()


@pytest.mark.parametrize(
    "content",
    [
        {"eos_token": "x" * 5000, "chat_template": "A"},
        {"eos_token": {"content": "x" * 5000}, "chat_template": "A"},
        {"eos_token": "x" * 5000 + "\ud800"},
        {"x" * 5000 + "_token": "\ud800"},
        {"eos_token": "<nowhere>", "chat_template": "A", "name": "x" * 5000},
        _config(chat_template=[{"name": "x" * 5000, "template": "A"}]),
        _config(chat_template=[{"name": str(number), "template": "A"} for number in range(5000)]),
    ],
    ids=range(7),
)
def test_a_message_is_one_short_sentence_however_long_a_value_is(tmp_path: Path, content: Any) -> None:
    with pytest.raises(BitnetError) as caught:
        load_tokenizer(_folder(tmp_path, {_CONFIG: content}))
    assert len(str(caught.value)) < 400 and str(caught.value).endswith(".")


@pytest.mark.parametrize(
    "change",
    [
        {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}},  # a panic in the Rust library
        {"added_tokens": [{"id": 4_000_000_000, "content": "</s>", "special": True}]},
        {"model": {"type": "BPE", "vocab": {}, "merges": []}},
        {"model": {"type": "BPE", "vocab": {END: 0, "a": 1 << 31}, "merges": []}},
        {"model": {"type": "Unigram", "vocab": [[END, 0.0], ["a", -1.0]], "unk_id": None}, "pre_tokenizer": None},
        {"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "[a"}, "behavior": "Isolated", "invert": False}},
    ],
)
def test_a_tokenizer_that_the_library_cannot_use_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    folder = _folder(tmp_path, {})
    whole = json.loads((folder / "tokenizer.json").read_text()) | {"added_tokens": []}
    whole["model"]["vocab"].setdefault(END, 419)
    (folder / "tokenizer.json").write_text(json.dumps(whole | change))
    with pytest.raises(BitnetError, match="tokenizer"):
        load_tokenizer(folder, PLAIN)


@fuzz(300)
@given(hostile_files)
def test_any_bytes_in_a_tokenizers_folder_are_read_or_refused(data: bytes) -> None:
    check(data)


LETTERS = [*"abcdefghijklmnopqrstuvwxyz ĠABC", "</s>"]
GROWING = {"type": "Replace", "pattern": {"Regex": "[a-z]"}, "content": "a" * 40}
PREPENDING = {"type": "Prepend", "prepend": "a" * 5000}


def byte_level_folder(place: Path, **changes: Any) -> Path:
    made = Tokenizer(models.BPE({token: index for index, token in enumerate(LETTERS)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.add_special_tokens(["</s>"])
    (place / "tokenizer.json").write_text(json.dumps({**json.loads(made.to_str()), **changes}))
    (place / "tokenizer_config.json").write_text(json.dumps({"eos_token": "</s>", "chat_template": "{{ 1 }}"}))
    return place


@pytest.mark.parametrize(
    "normalizer",
    [
        None,
        {"type": "Sequence", "normalizers": [{"type": "NFKC"}, {"type": "Lowercase"}]},
        {"type": "Replace", "pattern": {"String": "``"}, "content": '"'},
        {"type": "Strip", "strip_left": True, "strip_right": True},
        GROWING,
    ],
)
def test_usual_normalizers_are_taken(tmp_path: Path, normalizer: Any) -> None:
    assert load_tokenizer(byte_level_folder(tmp_path, normalizer=normalizer)).eos_id == len(LETTERS) - 1


@pytest.mark.parametrize(
    "normalizer",
    [
        {"type": "Sequence", "normalizers": [GROWING] * 2},
        {"type": "Sequence", "normalizers": [GROWING] * 60},
        {
            "type": "Sequence",
            "normalizers": [{"type": "Sequence", "normalizers": [GROWING]}, {"type": "NFC"}, GROWING],
        },
        {"type": "Replace", "pattern": {"Regex": "."}, "content": "a" * 300},
        PREPENDING,
    ],
)
def test_a_normalizer_that_makes_texts_hundreds_of_times_longer_is_refused(tmp_path: Path, normalizer: Any) -> None:
    with pytest.raises(BitnetError, match="into hundreds; correct TOKENIZER_NAME"):
        load_tokenizer(byte_level_folder(tmp_path, normalizer=normalizer))


@pytest.mark.parametrize(
    "pre_tokenizer",
    [
        {"type": "Whitespace"},
        {"type": "WhitespaceSplit"},
        {"type": "BertPreTokenizer"},
        {"type": "CharDelimiterSplit", "delimiter": " "},
        {"type": "Split", "pattern": {"Regex": "\\s+"}, "behavior": "Removed", "invert": False},
    ],
)
def test_a_tokenizer_that_drops_blanks_is_refused(tmp_path: Path, pre_tokenizer: Any) -> None:
    """Prompts would be read as one word, and answers not."""
    with pytest.raises(BitnetError, match="drops the blanks between words; correct TOKENIZER_NAME"):
        load_tokenizer(byte_level_folder(tmp_path, pre_tokenizer=pre_tokenizer))


@pytest.mark.parametrize("pattern", [{"String": "b"}, {"Regex": "."}, {"Regex": "[a-c]"}])
def test_a_tokenizer_that_drops_letters_is_refused(tmp_path: Path, pattern: Any) -> None:
    """Prompts would be stored without them, and answers not."""
    removing = {"type": "Split", "pattern": pattern, "behavior": "Removed", "invert": False}
    with pytest.raises(BitnetError, match=r"leaves '[a-zA-Z0-9]' out of texts; correct TOKENIZER_NAME"):
        load_tokenizer(byte_level_folder(tmp_path, pre_tokenizer={"type": "Sequence", "pretokenizers": [removing]}))


@pytest.mark.parametrize("named", [True, False])
def test_a_sentencepiece_model_that_is_a_pipe_is_not_waited_for(tmp_path: Path, *, named: bool) -> None:
    os.mkfifo(tmp_path / "tokenizer.model")
    source = tmp_path / "tokenizer.model" if named else tmp_path
    with pytest.raises(BitnetError, match=r"tokenizer\.model is not a (file|tokenizer)"):
        load_tokenizer(source)


def test_a_sentencepiece_model_is_read_within_a_limit(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.model"
    with path.open("wb") as out:
        out.truncate(1 << 40)
    with pytest.raises(BitnetError, match=r"tokenizer\.model is larger than 128 MiB"):
        load_tokenizer(path)
