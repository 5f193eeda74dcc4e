"""Prompts and texts that a tokenizer or its template can't take are refused, each with its reason."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers

from bitnet_core.errors import BitnetError
from bitnet_core.tokenizer.chat_template import TemplateRefused
from bitnet_core.tokenizer.dropped import outside
from bitnet_core.tokenizer.load import load_tokenizer
from bitnet_core.tokenizer.refused import NotTokenized, Refused
from bitnet_core.tokenizer.student import StudentTokenizer
from tests.tokenizer.vocabularies import PLAIN
from tests.traces.samples import END, TEMPLATE, small_tokenizer, with_template

FAILING = "x" * 30
"""A text on which `panicking` backtracks until the library panics."""


def changed(**parts: Any) -> StudentTokenizer:
    """The small tokenizer with parts of the library's tokenizer replaced."""
    tokenizer = Tokenizer.from_str(small_tokenizer()._tokenizer.to_str())
    for name, part in parts.items():
        setattr(tokenizer, name, part)
    return StudentTokenizer(
        tokenizer, special_tokens={"eos_token": END}, template="{{ messages[0].content }}", name="changed"
    )


def panicking() -> StudentTokenizer:
    split = pre_tokenizers.Split(Regex("(x+x+)+y"), "isolated")
    return changed(pre_tokenizer=pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False)]))


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


@pytest.mark.parametrize(
    "template",
    [
        "{% if false %}x{% endif %}",
        "{# nothing #}",
        "{% for m in messages if m.role == 'system' %}{{ m.content }}{% endfor %}",
        "{{ '' }}",
        "{{ messages[0].content | replace('Hi', '') }}",
        "{% set x = messages %}",
        "{%- if 'Hi' not in messages[0].content %}{{ messages[0].content }}{% endif -%}",
    ],
)
def test_a_prompt_without_text_is_refused_by_its_template(template: str) -> None:
    tokenizer = with_template(small_tokenizer(), template)
    assert tokenizer.render_prompt(user("Hi")) == ""
    with pytest.raises(TemplateRefused, match="makes no text") as caught:
        tokenizer.encode_prompt(user("Hi"))
    assert caught.value.status == "refused_by_template"


SAYS = "Why does the rain in Spain fall?"


@pytest.mark.parametrize("says", ["a", "  ", SAYS])
@pytest.mark.parametrize(
    "template",
    [
        "the same for all",
        "{% for m in messages if m.role == 'system' %}{{ m.content }}{% endfor %}<|im_start|>assistant",
        "{{ messages[0].content }}{{ messages | length }}",
        "{% if 'weather' in messages[-1].content %}rain{% else %}a{% endif %}",
        "a{{ messages[-1].content[:1] }}",
        "a{{ messages[-1].content[-1:] }}",
    ],
)
def test_a_prompt_that_leaves_out_what_the_user_says_is_refused(template: str, says: str) -> None:
    tokenizer = with_template(small_tokenizer(), template)
    with pytest.raises(TemplateRefused, match="it leaves out what the user says"):
        tokenizer.encode_prompt([{"role": "system", "content": "Be brief."}, *user(says)])


@pytest.mark.parametrize("says", ["a", "  ", f" {SAYS}\n", '"é"\n' * 20])
@pytest.mark.parametrize("changed_by", ["", " | trim", " | upper", " | tojson", " | e", ".split('\\n') | join(' ')"])
def test_a_template_may_change_what_the_user_says(changed_by: str, says: str) -> None:
    tokenizer = with_template(
        small_tokenizer(),
        "{% if messages[0].role != 'system' %}{{ raise_exception('no system message') }}{% endif %}"
        f"a{{{{ messages[1].content{changed_by} }}}}",
    )
    chat = [{"role": "system", "content": "Be brief."}, *user(says)]
    assert tokenizer.encode_prompt(chat).text == tokenizer.render_prompt(chat)


@pytest.mark.parametrize(
    ("normalizer", "text"),
    [
        (normalizers.Strip(), " "),
        (normalizers.Strip(), "\n\t \n"),
        (normalizers.Replace("a", ""), "aaa"),
        (normalizers.Replace(Regex(r"\W+"), ""), "?!"),
        (normalizers.StripAccents(), "\u0301"),
    ],
)
def test_a_prompt_without_a_token_is_refused_by_its_tokenizer(normalizer: Any, text: str) -> None:
    with pytest.raises(NotTokenized, match="no token of the text") as caught:
        changed(normalizer=normalizer).encode_prompt(user(text))
    assert caught.value.status == "refused_by_tokenizer"


@pytest.mark.parametrize(
    ("pattern", "sign"), [("é", "é"), (r"\?", "?"), ("[東京]", "東"), ("🙂", "🙂"), (r"\d", "3")]
)
def test_a_prompt_of_which_a_sign_gets_no_token_is_refused(pattern: str, sign: str) -> None:
    kept = small_tokenizer()._tokenizer.pre_tokenizer
    removing = pre_tokenizers.Split(Regex(pattern), "removed")
    tokenizer = changed(pre_tokenizer=pre_tokenizers.Sequence([removing, kept]))
    assert tokenizer.encode_prompt(user("the rain")).ids
    with pytest.raises(NotTokenized, match=f"it leaves '{re.escape(sign)}' out"):
        tokenizer.encode_prompt(user(f"the {sign} rain"))


@given(st.lists(st.sampled_from(["the ", "é", "東", "?", "\n", "\u0301", "\x00", "🙂", " "]), max_size=8), st.data())
def test_the_signs_outside_all_spans_are_found(parts: list[str], data: st.DataObject) -> None:
    text = "".join(parts)
    held = [data.draw(st.booleans()) for _ in text]
    spans = [(place, place + 1) for place, is_held in enumerate(held) if is_held]
    lost = [one for one, is_held in zip(text, held, strict=True) if not is_held and one not in "\n \u0301\x00"]
    assert outside(text, data.draw(st.permutations(spans))) == "".join(lost)


def test_a_prompt_is_its_text_and_its_ids() -> None:
    tokenizer = with_template(small_tokenizer(), TEMPLATE)
    text, ids = tokenizer.encode_prompt(user("the rain"))
    assert text == tokenizer.render_prompt(user("the rain"))
    assert ids == tokenizer.encode(text)


def test_a_panic_of_the_library_refuses_the_text_and_no_other() -> None:
    tokenizer = panicking()
    for cut in (
        lambda text: tokenizer.encode(text),
        lambda text: tokenizer.encode_plain(text),
        lambda text: tokenizer.encode_bytes(text.encode()),
        lambda text: tokenizer.encode_bytes(b"\xff" + text.encode()),
        lambda text: tokenizer.encode_prompt(user(text)),
    ):
        assert cut("the rain")
        with pytest.raises(NotTokenized, match=r"^The tokenizer changed can't read a text: it fails [^\n]+$"):
            cut(FAILING)
        assert cut("the rain")


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_what_ends_a_program_is_no_failure_of_the_library(stop: type[BaseException]) -> None:
    class Stopping:
        def encode(self, *_: Any, **__: Any) -> None:
            raise stop

    with pytest.raises(stop):
        small_tokenizer()._cut(Stopping(), "x")  # type: ignore[arg-type]


def test_a_byte_without_a_token_is_another_reason() -> None:
    tokenizer = changed()
    del tokenizer.ids_by_bytes[b"\xff"]
    with pytest.raises(Refused, match="0xff") as caught:
        tokenizer.encode_bytes(b"\xff")
    assert caught.value.status == "byte_without_token"


# -- links that lead nowhere -----------------------------------------------------------------------------

_CONFIG = {"eos_token": END, "chat_template": PLAIN}


@pytest.mark.parametrize(
    "name",
    [
        *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"),
        *("additional_chat_templates", "additional_chat_templates/default.jinja"),
        *("additional_chat_templates/rag.jinja", "chat_template.json"),
    ],
)
@pytest.mark.parametrize("leads", ["nowhere", "in a circle"])
def test_a_link_beside_a_tokenizer_that_leads_nowhere_is_named(tmp_path: Path, name: str, leads: str) -> None:
    small_tokenizer().save(tmp_path)
    (tmp_path / "chat_template.jinja").unlink()
    config = {"eos_token": END} if name == "chat_template.json" else _CONFIG
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    assert name == "chat_template.json" or load_tokenizer(tmp_path)
    link = tmp_path / name
    link.parent.mkdir(exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(link if leads == "in a circle" else "../blobs/0123")
    with pytest.raises(BitnetError, match=link.name.replace(".", r"\.")) as caught:
        load_tokenizer(tmp_path)
    assert leads == "in a circle" or "is a link to ../blobs/0123, which does not exist" in str(caught.value)


def test_a_tokenizer_that_is_a_link_to_nothing_is_not_looked_for_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("student").symlink_to("gone")  # also a name that the hub may have
    for source in ("student", Path("student")):
        with pytest.raises(BitnetError, match="is a link to gone"):
            load_tokenizer(source)
    (tmp_path / "models").mkdir()
    small_tokenizer().save(tmp_path / "models")
    Path("models/tokenizer.json").replace("models/a.model")
    Path("models/tokenizer.json").symlink_to("gone")
    with pytest.raises(BitnetError, match=r"tokenizer\.json is a link to gone"):
        load_tokenizer("models")
