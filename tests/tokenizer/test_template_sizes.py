"""No call of a template can take much memory or time; and no bound is below what a call really makes."""

import json
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitnet_core.tokenizer import template_sizes
from bitnet_core.tokenizer.chat_template import ChatTemplate, TemplateRefused
from bitnet_core.tokenizer.sandbox import ChatSandbox
from bitnet_core.tokenizer.template_sizes import (
    TooMuch,
    filter_bound,
    method_bound,
    percent_bound,
    size,
    small_only,
    text_size,
)

_A = "{% set t = 'a' * 4000000 %}"
_TWICE = "{% set r = namespace(n=('x',)) %}{% for i in range(60) %}{% set r.n = (r.n, r.n) %}{% endfor %}"
_FOR_EVER = "{% for i in range(99999) %}{% for j in range(99999) %}"
_ENDS = "{% endfor %}{% endfor %}"
_SELF = "{% set n = namespace() %}{% set n.a = n %}"
BOMBS = [
    # bytes
    *("{{ ('x' * 100).encode() * 9000000 }}", "{{ 'x'.encode().ljust(900000000) }}", "{{ t.encode() | length }}"),
    *("{{ 'x'.encode().zfill(900000000) }}", "{{ 'a\\tb'.encode().expandtabs(900000000) }}"),
    *("{% set b = t.encode() %}{{ b.replace(b, b) }}", "{% set b = ('x' * 4000).encode() %}{{ b.join([b] * 3000) }}"),
    *("{{ (1).to_bytes(900000000, 'big') }}", "{{ '%900000000d'.encode() % 1 }}"),
    # widths
    *("{{ [1] | tojson(indent=900000000) }}", "{{ {'a': [[1]]} | tojson(indent=9000000) }}"),
    *("{{ '{x:>{w}}'.format_map({'x': 1, 'w': 900000000}) }}", "{{ '{1:>{0[0]}}'.format([900000000], 'x') }}"),
    *("{{ '{0.x:>{0.w}}'.format(namespace(x=1, w=900000000)) }}", "{{ '%(a)900000000d' % {'a': 1} }}"),
    *("{{ '%.*f' % (900000000, 1.5) }}", "{{ '{:.{p}f}'.format(1.5, p=900000000) }}", "{{ '%((a))9000000d' % {} }}"),
    *("{{ '{0[items]}'.format(cycler(t)) }}", "{{ 'a\\tb'.expandtabs(900000000) }}", "{{ t.zfill(900000000) }}"),
    *(
        "{{ (10 ** 1000) | round(400000000) }}",
        "{{ [1] | batch(60000000, 'x') | list }}",
        "{{ [1] | slice(10 ** 9) }}",
    ),
    "{{ [[1]] | tojson(indent=t * 2) }}",
    # times that grow with the square of a size
    *("{{ t | wordwrap(1) }}", "{{ t | urlize }}", "{{ ('<!--' * 900000) | striptags }}", "{{ t | wordcount }}"),
    *("{{ t.strip('b' * 4000000 ~ 'a') }}", "{{ t | trim('b' * 4000000 ~ 'a') }}", "{{ t | title }}"),
    *("{{ t.rfind('a' * 1000000 ~ 'b' ~ 'a' * 1000000) }}", "{{ t.rsplit('a' * 1000 ~ 'b' ~ 'a' * 1000) }}"),
    *("{{ t.rindex('a' * 1000 ~ 'b' ~ 'a' * 1000) }}", "{{ t.rpartition('a' * 1000 ~ 'b' ~ 'a' * 1000) }}"),
    *("{{ ([[1]] * 200000) | sum(start=[]) }}", "{{ 'a'.maketrans(t, t) }}", "{{ t | urlencode }}"),
    *(
        "{{ ('f' * 8000000) | int(base=16) // 3 }}",
        _SELF + "{{ [n, n] | map(attribute='a.' * 2000000 ~ 'a') | list }}",
    ),
    _SELF + "{{ [n, n] | join('', attribute='a.' * 2000000 ~ 'a') }}",
    # values that hold one value many times
    *(_TWICE + "{% set d = {r.n: 1} %}", _TWICE + "{{ {}[r.n] }}", _TWICE + "{{ {}.get(r.n) }}"),
    *(_TWICE + "{{ r.n is filter }}", _TWICE + "{{ r.n is lower }}", _TWICE + "{{ [r.n] | unique | list }}"),
    *(_TWICE + "{{ '%s' | format(r.n) }}", _TWICE + "{{ 'a' ~ r.n }}", _TWICE + "{{ raise_exception(r.n) }}"),
    *(_TWICE + "{{ r.n | tojson }}", "{% set d = {'a': t} %}{{ [d.items(), d.values(), d.items()] | string }}"),
    _TWICE.replace("(r.n, r.n)", "namespace(a=r.n, b=r.n)") + "{{ r.n }}",
    "{% set r = namespace(n=()) %}{% for i in range(200) %}{% set r.n = (r.n,) %}{% endfor %}{{ {r.n: 1} }}",
    # what is counted nowhere but in a loop's own values
    "{% for x in [0] recursive %}"
    + "y" * 90000
    + "{% if loop.depth == 1 %}{{ loop(range(99999)) }}{% endif %}{% endfor %}",
    "{% for x in [0] recursive %}{% if loop.depth < 3 %}{{ loop(range(99999)) }}{% endif %}"
    + "{% set a = 1 %}" * 5000
    + "{% endfor %}",
    "{% macro f() %}" + "y" * 90000 + "{% endmacro %}" + _FOR_EVER + "{% set x = f() %}" + _ENDS,
    "{% block b %}" + "y" * 90000 + "{% endblock %}" + _FOR_EVER + "{% set x = self.b() %}" + _ENDS,
    "{% macro f() %}"
    + _FOR_EVER
    + "{{ caller() }}"
    + _ENDS
    + "{% endmacro %}{% call f() %}"
    + "y" * 90000
    + "{% endcall %}",
    _FOR_EVER + "{% set y = t[::-1] %}" * 2000 + _ENDS,
    "{% set y = t[::-1] %}" * 5000,
    "{% set n = namespace(g=[1]) %}" + _FOR_EVER + "{% set n.g = n.g | map('string') %}" + _ENDS,
    "{% set n = namespace(g=1) %}" + _FOR_EVER + "{% set n.g = {'a': n.g} %}" + _ENDS,
    "{% set n = namespace(g=1) %}" + _FOR_EVER + "{% set n.g = [n.g].missing %}" + _ENDS,
    "{% set n = namespace(a=1) %}" + _FOR_EVER + "{% set n.a = n.a - (-n.a) %}" + _ENDS,
    "{{ 0x" + "f" * 30000 + " }}",
    "{% autoescape true %}{% for i in range(8) %}{{ '<' * 8000000 }}{% endfor %}{% endautoescape %}",
    *("{{ ('x' | safe) + '<' * 7000000 }}", "{{ ('<' * 8000000) | e }}", "{{ cycler(*(t * 2)) }}"),
    *("{{ '%r' % (t * 2) }}", "{{ ('{0}' * 1000000).format('x' * 1000000) }}", "{{ ('%(a)s' * 9000) % {'a': t} }}"),
]
_CHILD = """
import json, resource, sys
from bitnet_core.tokenizer import sandbox
from bitnet_core.tokenizer.chat_template import ChatTemplate
sandbox._SECONDS = 0.1
limit = 768 << 20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
for source in json.load(sys.stdin):
    try:
        print(json.dumps("rendered " + ChatTemplate(source, "T").render([], {})[:40]), flush=True)
    except Exception as error:
        print(json.dumps(str(error)), flush=True)
"""


def test_no_call_takes_much_memory_or_never_ends() -> None:
    """All in one process, whose memory is limited: it ends, and not one ends for want of memory."""
    given_ = json.dumps([_A + source for source in BOMBS])
    done = subprocess.run([sys.executable, "-c", _CHILD], input=given_, capture_output=True, text=True, check=True)
    said = [json.loads(line) for line in done.stdout.splitlines()]
    wrong = [
        (source, one)
        for source, one in zip(BOMBS, said, strict=True)
        if "MemoryError" in one or not one.startswith("The chat template of T ")
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ ('a b ' * 500) | wordwrap(20) | length }}", "1999"),
        ("{{ 'some title' | title }}{{ 'a b' | wordcount }}{{ '<b>x</b>' | striptags }}", "Some Title2x"),
        ("{{ 'é'.encode() | length }}{{ 'a,b' | urlencode }}", "2a%2Cb"),
        ("{{ '%s|%5.1f|%-4d|%%|%x' % ('x', 2.25, 7, 255) }}", "x|  2.2|7   |%|ff"),
        ("{{ '{}|{:>4}|{a!r}|{{}}'.format(1, 'x', a='y') }}", "1|   x|'y'|{}"),
        ("{{ '{a}-{b}'.format_map({'a': 1, 'b': 2}) }}", "1-2"),
        ("{{ [1, 2.5] | sum }}{{ [{'a': 1}, {'a': 2}] | sum(attribute='a') }}", "3.53"),
        ("{{ [{'a': 'x'}, {'a': 'y'}] | join('-', attribute='a') }}", "x-y"),
        ("{{ [{'a': 'x'}, {'a': 'y'}] | join(attribute='a', d='+') }}", "x+y"),
        ("{{ ['a', 'b'] | map('upper') | join }}{{ 'abc' | join('.') }}", "ABa.b.c"),
        ("{{ 1 if ([] | selectattr('x')) else 2 }}", "1"),
        ("{{ 'x y z'.rsplit(' ', 1)[0] }}{{ 'a.b'.rpartition('.')[2] }}{{ 'abca'.rfind('a') }}", "x yb3"),
        ("{{ 'xxaxx'.strip('x') }}{{ '  a ' | trim }}{{ '-a-' | trim('-') }}", "aaa"),
        ("{% for x in [[1, [2]], 3] recursive %}{{ loop(x) if x is iterable else x }}{% endfor %}", "123"),
        ("{{ {'a': {'b': [1, none]}} | tojson }}{{ [1] | tojson(indent=1) }}", '{"a": {"b": [1, null]}}[\n 1\n]'),
        ("{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.next() }}{{ c.current }}", "aba"),
        ("{% set j = joiner(';') %}{{ j() }}x{{ j() }}", "x;"),
        ("{{ 2 ** 100 - 1 }}{{ 7 // 2 }}{{ -7 % 5 }}", "1267650600228229401496703205375" + "33"),
        ("{{ {(1, 2): 'x'}[(1, 2)] }}{{ {'a': 1}.get('a') }}{{ ('a', 'b').index('b') }}", "x11"),
    ],
)
def test_ordinary_calls_work(source: str, text: str) -> None:
    assert ChatTemplate(source, "T").render([], {}) == text


def test_long_prompts_are_rendered() -> None:
    source = (
        "{% for m in messages %}{{ m.content.split('</think>')[-1].lstrip('\\n') | trim }}"
        "{{ m.content.startswith('a') }}{{ m.content.rfind('</think>') }}{{ 'x' in m.content }}{% endfor %}"
    )
    text = "word word\n" * 400_000
    assert len(ChatTemplate(source, "T").render([{"role": "user", "content": text}], {})) > 3_900_000


# -- bounds against what is made -------------------------------------------------------------------------

_TEXT = st.text("ab \n<&%\t", max_size=30)
_COUNT = st.integers(-1, 12)
_VALUE = st.recursive(
    _TEXT | st.integers(-(10**6), 10**6) | st.booleans() | st.none() | st.floats(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXT, inner, max_size=3) | st.tuples(inner, inner),
    max_leaves=8,
)
_METHODS: dict[str, st.SearchStrategy[tuple[Any, ...]]] = {
    **dict.fromkeys(("capitalize", "lower", "upper", "title", "swapcase", "strip", "splitlines"), st.tuples()),
    **dict.fromkeys(("center", "ljust", "rjust", "zfill"), st.tuples(_COUNT)),
    **dict.fromkeys(("split", "rsplit"), st.tuples() | st.tuples(_TEXT.filter(bool), _COUNT)),
    **dict.fromkeys(("partition", "rpartition"), st.tuples(_TEXT.filter(bool))),
    "join": st.tuples(st.lists(_TEXT, max_size=5)),
    "replace": st.tuples(_TEXT, _TEXT) | st.tuples(_TEXT, _TEXT, _COUNT),
}


@given(st.data(), _TEXT, st.sampled_from(sorted(_METHODS)))
def test_no_method_makes_more_than_its_bound(data: st.DataObject, text: str, name: str) -> None:
    given_ = data.draw(_METHODS[name])
    most = method_bound(text, name)(text, *given_)
    made = getattr(text, name)(*given_)
    assert size(made) <= most + 1


_FILTERS: dict[str, st.SearchStrategy[tuple[Any, ...]]] = {
    **dict.fromkeys(("upper", "lower", "capitalize", "trim", "string"), st.tuples(_VALUE)),
    **dict.fromkeys(("list", "reverse"), st.tuples(st.lists(_VALUE, max_size=5) | _TEXT)),
    **dict.fromkeys(("sort", "unique"), st.tuples(st.lists(st.integers(0, 9), max_size=9) | st.lists(_TEXT))),
    **dict.fromkeys(("batch", "slice"), st.tuples(st.lists(_VALUE, max_size=5), st.integers(1, 9), _TEXT)),
    **dict.fromkeys(("e", "forceescape"), st.tuples(_VALUE)),
    "join": st.tuples(st.lists(_VALUE, max_size=5) | _TEXT, _TEXT),
    "replace": st.tuples(_VALUE, _TEXT, _TEXT) | st.tuples(_VALUE, _TEXT, _TEXT, _COUNT),
    "indent": st.tuples(_TEXT, st.integers(0, 9) | _TEXT, st.booleans(), st.booleans()),
    "center": st.tuples(_TEXT, st.integers(0, 50)),
}


@given(st.data(), st.sampled_from(sorted(_FILTERS)))
def test_no_filter_makes_more_than_its_bound(data: st.DataObject, name: str) -> None:
    given_ = data.draw(_FILTERS[name])
    most = filter_bound(name)(*given_)
    environment = ChatSandbox()
    environment.budget.refill()
    made = environment.call_filter(name, given_[0], given_[1:])
    made = made if isinstance(made, str) else list(made)
    # Each row of a batch is a list of its own.
    rows = 9 * template_sizes.ELEMENT if name in ("batch", "slice") else 0
    assert size(made) <= most + rows + 1


@given(_VALUE)
def test_no_text_of_a_value_is_longer_than_its_bound(value: Any) -> None:
    assert len(str(value)) <= text_size(value)


@given(
    st.lists(
        st.sampled_from(["%s", "%r", "%5s", "%-99s", "%.2s", "%%", "%a", "x", "%d", "%08d", "%.9f"]), max_size=6
    ),
    st.lists(st.integers(-(10**9), 10**9), min_size=6, max_size=6),
)
def test_no_formatted_text_is_longer_than_its_bound(parts: list[str], values: list[int]) -> None:
    given_ = tuple(values[: sum(part not in ("%%", "x") for part in parts)])
    text = "".join(parts)
    assert len(text % given_) <= percent_bound(text, given_)


@given(_VALUE)
def test_a_size_counts_every_part(value: Any) -> None:
    def slow(one: Any) -> int:
        if isinstance(one, str):
            return len(one)
        if isinstance(one, bool) or one is None or isinstance(one, float):
            return 1
        if isinstance(one, int):
            return 1 + one.bit_length() // 3
        inside = [*one.keys(), *one.values()] if isinstance(one, dict) else list(one)
        return sum(map(slow, inside)) + (template_sizes.ELEMENT * len(inside) or 1)

    assert size(value) == slow(value)


@pytest.mark.parametrize("name", ["format", "format_map"])
def test_what_is_not_listed_gets_small_values_only(name: str) -> None:
    assert small_only("f")("a" * 4000, 90) <= 4096
    for given_ in (("a" * 4097,), (4097,), (-4097,), ("a" * 4000, 100), (["a" * 4096],)):
        with pytest.raises(TooMuch, match="it gives f more than 4,096 characters"):
            small_only("f")(*given_)
    with pytest.raises(TooMuch):
        method_bound("{:9999}", name)("{:9999}", {"a": 1})
    with pytest.raises(TemplateRefused, match="plain fields"):
        ChatTemplate("{{ '{a.b}'.format(a=1) }}", "T").render([], {})
