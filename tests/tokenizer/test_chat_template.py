"""Chat templates render as in transformers; what goes wrong in one is a sentence, in bounded time and memory."""

import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers.utils.chat_template_utils import render_jinja_template

from bitnet_core.errors import BitnetError
from bitnet_core.tokenizer import sandbox
from bitnet_core.tokenizer.chat_template import ChatTemplate, TemplateRefused, merging_system

SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "image_token": "<img>"}
SYSTEM = {"role": "system", "content": "Be brief."}
USER = {"role": "user", "content": '  Say "naïve" 東京 {{ 1 }}\n<b> 12345678 '}
ASSISTANT = {"role": "assistant", "content": "Naïve.\n"}
CHATS = {
    "one": [USER],
    "turns": [USER, ASSISTANT, USER],
    "system": [SYSTEM, USER],
    "all": [SYSTEM, USER, ASSISTANT, USER],
    "late system": [USER, ASSISTANT, SYSTEM, USER],
    "two users": [USER, USER],
}
_EACH = "{% for m in messages %}"
_SAY = "{{ '<|' + m['role'] + '|>' + m.content }}{% endfor %}"
TEMPLATES = {
    "tools is not none": "{% if tools is not none %}{{ tools | tojson }}{% endif %}" + _EACH + _SAY,
    "tools is defined": "{% if tools is defined %}T{% endif %}{% if not documents %}D{% endif %}" + _EACH + _SAY,
    "documents": "{{ documents }}|{{ tools }}|{{ nothing }}|{{ nothing is defined }}" + _EACH + _SAY,
    "special tokens": "{{ bos_token }}{{ image_token }}{{ pad_token }}" + _EACH + _SAY + "{{ eos_token }}",
    "generation prompt": _EACH + _SAY + "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}",
    "no system role": (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
        + _EACH
        + "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('Roles must alternate user/assistant/…') }}{% endif %}" + _SAY
    ),
    "loop": _EACH
    + "{{ loop.index }}/{{ loop.length }}{{ loop.last }}{{ loop.previtem.role }}{{ loop.revindex }}{% endfor %}",
    "filtered loop": (
        "{% for m in messages if m.role != 'system' %}{{ m.content }}{{ loop.index0 }}{% else %}E{% endfor %}"
    ),
    "nested": "{% for a in [[1, [2]], [3, []]] recursive %}{{ a if a is number else loop(a) }},{% endfor %}",
    "blocks": (
        "{%- for m in messages %}\n  {% if m.role == 'user' %}\nU {{ m | tojson }}\n  {% endif %}\n{%- endfor %}\n"
    ),
    "tojson": (
        "{{ messages | tojson(indent=2) }}{{ {'b': '<é>', 'a': 1} | tojson(sort_keys=true, separators=(',', ':')) }}"
    ),
    "namespace": "{% set ns = namespace(n=0, s='') %}"
    + _EACH
    + "{% set ns.n = ns.n + 1 %}{% set ns.s = ns.s ~ m.role %}{% endfor %}{{ ns.n }}{{ ns.s }}",
    "underscore": "{% set ns = namespace(_n=0) %}{{ ns._n }}",
    "dict": "{{ dict(a=1, b=2) | tojson }}{{ dict.fromkeys([1]) }}{{ dict.__mro__ }}",
    "macro": "{% macro say(m) %}<{{ m.role }}>{{ caller() if caller else m.content }}{% endmacro %}"
    + _EACH
    + "{{ say(m) }}{% endfor %}",
    "call": "{% macro box(x) %}[{{ caller(x) }}]{% endmacro %}{% call(y) box('in') %}{{ y }}{% endcall %}",
    "generation": _EACH + "{% generation %}{% set x = 1 %}{{ m.content }}{% endgeneration %}{{ x }}{% endfor %}",
    "controls": _EACH
    + (
        "{% if loop.index == 2 %}{% continue %}{% endif %}{{ m.content }}{% if loop.index == 3 %}"
        "{% break %}{% endif %}{% endfor %}"
    ),
    "methods": _EACH
    + (
        "{{ m.content.strip().split('i')[-1] }}{{ m.content.replace('a', 'bb') }}"
        "{{ m.content.startswith(' ') }}{{ '%s-%5d' % (m.role, 3) }}{{ '{:>8}'.format(m.role) }}"
        "{% endfor %}"
    ),
    "filters": _EACH
    + (
        "{{ m.content | trim | upper | replace('A', 'b') | indent(2) }}{{ m.items() | list }}"
        "{% endfor %}{{ messages | map(attribute='role') | join(', ') }}{{ 1700000000 | string }}"
        "{{ messages | selectattr('role', 'eq', 'user') | list | length }}"
    ),
    "numbers": (
        "{{ 7 // 2 }}{{ 7 % 4 }}{{ 2 ** 10 }}{{ 1.5 * 2 }}{{ '=' * 5 }}{{ 3 * [1] }}"
        "{{ 1700000000 * 1000 }}{{ [1] + [2] }}{{ '%d' % 1700000000 }}"
    ),
    "set block": (
        "{% set text %}{{ messages[0].content }}{% endset %}{{ text | trim }}{% filter upper %}é"
        "{{ text }}{% endfilter %}"
    ),
    "messages set": "{% set messages = messages[1:] %}" + _EACH + _SAY,
    "slices": (
        "{{ messages[-1].content[2:5] }}{{ messages[::-1] | length }}"
        "{{ 'a' if messages else 'b' }}{{ 'x' in messages[0].content }}"
    ),
    "date": "{{ strftime_now('%Y-%m-%d %z') }}",
    "type error": "{{ 1 + 'a' }}",
    "zero": "{{ 1 // 0 }}",
    "undefined": "{{ nothing.more }}",
    "content of none": "{{ none.content.strip() }}",
    "endless": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "include": "{% include 'other' %}",
    "sandbox": "{{ messages.__class__.__mro__ }}",
    "immutable": "{{ messages.append(1) }}",
    "large range": "{{ range(1000000) | list }}",
}


def _theirs(template: str, chat: list[dict[str, str]]) -> str | None:
    try:
        rendered, _ = render_jinja_template([chat], chat_template=template, add_generation_prompt=True, **SPECIAL)
    except Exception:  # noqa: BLE001 - a template may raise anything
        return None
    return rendered[0]


def _ours(template: str, chat: list[dict[str, str]]) -> str | None:
    try:
        return ChatTemplate(template, "T").render(chat, SPECIAL)
    except BitnetError as error:
        assert "\n" not in str(error)
        return None


@pytest.mark.parametrize("chat", CHATS)
@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_renders_or_fails_as_in_transformers(name: str, chat: str) -> None:
    assert _ours(TEMPLATES[name], CHATS[chat]) == _theirs(TEMPLATES[name], CHATS[chat])


_PARTS = st.sampled_from(
    [
        *(
            "{% for m in messages %}",
            "{% endfor %}",
            "{%- if m.role == 'user' -%}",
            "{% else %}",
            "{% endif %}",
            "\n",
            "  ",
        ),
        *(
            "{{ m.content }}",
            "{{- m.role ~ loop.index }}",
            "{{ m | tojson }}",
            "{{ tools }}",
            "{{ m.content | trim }}",
        ),
        *("{% generation %}", "{% endgeneration %}", "{% set x = messages | length %}", "{{ x * 2 }}", "{% break %}"),
        *("{{ messages[1:] | length }}", "text", "{# note #}", "{{ raise_exception('no') }}", "{{ x[0] }}"),
    ]
)


@given(st.lists(_PARTS, max_size=12).map("".join), st.sampled_from(list(CHATS.values())))
def test_pieces_of_templates_render_or_fail_as_in_transformers(template: str, chat: list[dict[str, str]]) -> None:
    assert _ours(template, chat) == _theirs(template, chat)


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{{ raise_exception('System role\nnot supported!') }}", r"\(System role not supported!\)"),
        ("{{ raise_exception('a\x1b[31mb') }}", r"\(a·\[31mb\)"),
        ("{{ raise_exception('x' * 5000) }}", "x…"),
        ("{{ 1 + 'a' }}", r"\(TypeError: unsupported operand"),
        ("{{ 1 / 0 }}", "ZeroDivisionError: division by zero"),
        ("{{ nothing.more }}", "'nothing' is undefined"),
        ("{{ nothing | tojson }}", "TypeError: Object of type Undefined is not JSON serializable"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "it is nested too deeply"),
        ("{{ messages[0].content.encode('ascii') }}", "UnicodeEncodeError"),
        ("{{ strftime_now(5) }}", "TypeError"),
    ],
)
def test_whatever_a_template_raises_is_one_sentence(template: str, said: str) -> None:
    with pytest.raises(TemplateRefused, match=said) as caught:
        ChatTemplate(template, "T").render(CHATS["one"], {})
    assert str(caught.value).startswith("The chat template of T can't render a prompt (")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


_DOUBLING = "{%% set ns = namespace(a='x') %%}{%% for i in range(60) %%}%s{%% endfor %%}{{ ns.a | length }}"
_NESTING = "{% set ns = namespace(a=['x']) %}{% for i in range(60) %}{% set ns.a = [ns.a, ns.a] %}{% endfor %}"
_NESTED_TUPLE = "{% set ns = namespace(a=(1,)) %}{% for i in range(60) %}{% set ns.a = (ns.a, ns.a) %}{% endfor %}"
_LONG = "{% set s = 'x' * 100000 %}"


@pytest.mark.parametrize(
    "template",
    [
        "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
        "{% set s = 'x' * 8000000 %}{% for a in range(100000) %}{% if 'y' in s %}{% endif %}{% endfor %}",
        (
            "{% macro f(n) %}{% if n > 0 %}{% set a = f(n - 1) %}{% set a = f(n - 1) %}{% endif %}"
            "{% endmacro %}{{ f(60) }}"
        ),
        "{% for i in range(90000) %}{% for j in range(90000) %}" + "y" * 9000 + "{% endfor %}{% endfor %}",
        "{{ 'x' * 10 ** 10 }}",
        "{{ 10 ** 10 * 'x' }}",
        "{{ [0] * 10 ** 10 }}",
        "{{ 10 ** 5000 }}",
        "{% set ns = namespace(a=3) %}{% for i in range(60) %}{% set ns.a = ns.a * ns.a %}{% endfor %}",
        _DOUBLING % "{% set ns.a = ns.a + ns.a %}",
        _DOUBLING % "{% set ns.a = ns.a ~ ns.a %}",
        _DOUBLING % "{% set ns.a = [ns.a, ns.a] | join %}",
        _DOUBLING % "{% set ns.a = '%s%s' % (ns.a, ns.a) %}",
        _DOUBLING % "{% set ns.a = '{0}{0}'.format(ns.a) %}",
        _DOUBLING % "{% set ns.a %}{{ ns.a }}{{ ns.a }}{% endset %}",
        _NESTING + "{{ ns.a }}",
        _NESTING + "{{ ns.a | tojson }}",
        _NESTING + "{{ ns.a | string ~ '' }}",
        "{{ 'x' | center(10 ** 10) }}",
        "{{ 'x'.ljust(10 ** 10) }}",
        "{{ '\t'.expandtabs(10 ** 9) }}",
        "{{ '%9999999999d' % 1 }}",
        "{{ '%*d' % (10 ** 9, 1) }}",
        "{{ '{:>9999999999}'.format('x') }}",
        "{{ '{:>{w}}'.format('x', w=10 ** 9) }}",
        "{{ '%999999999d' | format(1) }}",
        _LONG + "{{ s | replace('x', s) }}",
        _LONG + "{{ s.replace('x', s) | length }}",
        _LONG + "{{ s.join(s) | length }}",
        _LONG + "{{ s | list | join(s) | length }}",
        "{{ ('x\n' * 100000) | indent(100000) }}",
        "{{ range(1000) | list | tojson(indent=10 ** 6) }}",
        *(_NESTING + f"{{{{ {compared} }}}}" for compared in ("ns.a == ns.a + []", "ns.a is lt(ns.a + ['y'])")),
        *(_NESTING + f"{{{{ {compared} }}}}" for compared in ("(ns.a + []) in [ns.a]", "[ns.a, ns.a + []] | max")),
        *(
            _NESTED_TUPLE + f"{{{{ messages | {used} }}}}"
            for used in (
                "map(attribute=ns.a) | list",
                "map(ns.a) | list",
                "selectattr(ns.a) | list",
                "selectattr('role', 'eq', ns.a) | list",
                "sort(attribute=ns.a)",
                "unique(attribute=ns.a) | list",
                "max(attribute=ns.a)",
                "join(attribute=ns.a)",
                "groupby(ns.a)",
                "first | attr(ns.a)",
                "map(attribute='x', default=ns.a) | list",
            )
        ),
        "{{ [1] | batch(10 ** 10, 1) | list }}",
        "{{ lipsum(n=10 ** 6) }}",
        "{% for i in range(100000) %}{% set x = ('x' * 1000000) | upper %}{% endfor %}",
        "{% macro f(n, s) %}{{ f(n - 1, s[1:]) }}{% endmacro %}{{ f(900, 'x' * 8000000) }}",
    ],
)
def test_a_template_that_never_ends_or_fills_the_memory_is_stopped(
    template: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "_SECONDS", 0.1)
    with pytest.raises(TemplateRefused):
        ChatTemplate(template, "T").render(CHATS["one"], {})


def test_a_template_that_is_slow_with_each_prompt_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter(range(0, 100, 2))
    template = ChatTemplate("{{ raise_exception('slow') }}", "T")
    monkeypatch.setattr(time, "thread_time", lambda: next(seconds))
    monkeypatch.setattr(template._sandbox.budget, "refill", lambda: None)
    for _ in range(2):
        with pytest.raises(TemplateRefused):
            template.render(CHATS["one"], {})
    with pytest.raises(BitnetError, match="takes seconds for each prompt; simplify it") as caught:
        template.render(CHATS["one"], {})
    assert not isinstance(caught.value, TemplateRefused)


def test_each_rendering_has_the_whole_budget() -> None:
    template = ChatTemplate("{% for m in messages %}{{ m.content | trim }}{% endfor %}", "T")
    large = [{"role": "user", "content": "long " * 1_000_000}]
    for _ in range(8):
        assert len(template.render(large, {})) == 4_999_999


def test_threads_do_not_share_a_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    template = ChatTemplate("{% for m in messages %}{{ m.content }}{% endfor %}", "T")
    rendered: list[str] = []
    threads = [threading.Thread(target=lambda: rendered.append(template.render(CHATS["all"], {}))) for _ in range(4)]
    monkeypatch.setattr(sandbox, "_ALL_VALUES", 400)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert rendered == [template.render(CHATS["all"], {})] * 4


@pytest.mark.parametrize(
    "source",
    [
        *("{% if %}", "{{ x", "{% for a in b %}", "{% nothing %}", "{{ x | nothing }}"),
        *("{% if 1 %}" * 9000, "{{ " + "(" * 60000, "{{ " + "not " * 30000 + "1 }}", "{{ " + "9" * 9000 + " }}"),
        *("{% for a in b %}" * 30 + "{% endfor %}" * 30, "x" * (sandbox.LONGEST_SOURCE + 1)),
    ],
)
def test_a_source_that_cannot_be_compiled_is_one_sentence(source: str) -> None:
    with pytest.raises(BitnetError, match="template of T is not valid Jinja") as caught:
        ChatTemplate(source, "T").render(CHATS["one"], {})
    assert len(str(caught.value)) < 300


# -- merging the system message ----------------------------------------------------------------------------


def _merged(messages: list[dict[str, str]]) -> list[dict[str, str]]:
    """The slow twin."""
    out: list[dict[str, str]] = []
    waiting: list[str] = []
    for message in messages:
        if message["role"] == "system":
            waiting.append(message["content"])
        elif message["role"] == "user":
            out.append({"role": "user", "content": "\n\n".join([*waiting, message["content"]])})
            waiting = []
        else:
            out.append(message)
    return out


_messages = st.lists(
    st.builds(dict, role=st.sampled_from(["system", "user", "assistant"]), content=st.text(min_size=1, max_size=8)),
    max_size=6,
).map(lambda some: [*some, USER])


@given(
    _messages,
    st.sampled_from(["tools is not none", "generation prompt", "blocks", "macro", "controls", "messages set"]),
)
def test_merging_renders_what_the_merged_messages_would(messages: list[dict[str, str]], name: str) -> None:
    template = TEMPLATES[name]
    wanted = ChatTemplate(template, "T").render(_merged(messages), SPECIAL)
    assert ChatTemplate(merging_system(template), "T").render(messages, SPECIAL) == wanted
    assert _theirs(merging_system(template), messages) == wanted


@pytest.mark.parametrize(
    "begin",
    ["", "\n", "\n\n", "  {% if 1 %}a{% endif %}", "  \n", "{#- note #}", "{{- 'a' }}", "\t{%- set x = 1 %} b"],
)
def test_merging_keeps_the_beginning_of_a_template(begin: str) -> None:
    template = begin + TEMPLATES["no system role"]
    assert _ours(merging_system(template), CHATS["turns"]) == _ours(template, CHATS["turns"]) is not None
    assert _ours(template, CHATS["system"]) is None
    assert "Be brief.\n\n  Say" in (_ours(merging_system(template), CHATS["system"]) or "")
    assert _ours(merging_system(template), CHATS["two users"]) is None


def test_merging_twice_is_merging_once() -> None:
    assert merging_system(merging_system("{{ 1 }}")) == merging_system("{{ 1 }}")
