"""Whether a prompt is refused, against a template without the check; and what is advised."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitnet_core.collecting.prompt_check import PromptCheck
from bitnet_core.collecting.requests import Collection
from bitnet_core.errors import BitnetError
from bitnet_core.prompts.prompt import Prompt
from bitnet_core.settings.values import CollectOptions
from bitnet_core.teachers.profiles import PROVIDERS
from bitnet_core.tokenizer.chat_template import TemplateRefused
from bitnet_core.tokenizer.student import StudentTokenizer
from tests.traces.samples import TEMPLATE, small_tokenizer, with_template

_ALTERNATE = (
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Roles must alternate') }}{% endif %}{{ m.content }}{% endfor %}"
)
TOKENIZER = with_template(small_tokenizer(), _ALTERNATE)


def _check(tokenizer: StudentTokenizer, prompts: list[Prompt], answers: int) -> tuple[PromptCheck, Collection]:
    identity: Any = SimpleNamespace(provider=PROVIDERS["vllm"], origin="o", model="m")
    collection = Collection(CollectOptions(answers=answers), identity, tokenizer, lambda: iter(prompts))
    return PromptCheck(collection), collection


def _prompt(*roles: str, says: str = "x") -> Prompt:
    return Prompt(tuple({"role": role, "content": says} for role in roles))


_prompts = st.lists(
    st.builds(
        lambda roles, says: _prompt(*roles, "user", says=says),
        st.lists(st.sampled_from(["system", "user", "assistant"]), max_size=3),
        st.text(min_size=1, max_size=3),
    ),
    min_size=1,
    max_size=6,
    unique_by=lambda prompt: prompt.hash,
)


def _refused(prompts: list[Prompt]) -> Iterator[bool]:
    """The slow twin: each prompt rendered by itself."""
    for prompt in prompts:
        try:
            TOKENIZER.render_prompt(prompt.messages)
        except TemplateRefused:
            yield True
        else:
            yield False


@given(_prompts, st.integers(1, 20), st.integers(1, 3))
def test_a_verdict_is_that_of_the_prompt_however_often_it_is_asked(
    prompts: list[Prompt], answers: int, walks: int
) -> None:
    check, collection = _check(TOKENIZER, prompts, answers)
    twin = list(_refused(prompts))
    for _ in range(walks):
        for request in collection.requests():
            assert check.refuses(request) == twin[request.prompt_idx % len(prompts)]
    met = twin[:answers]
    assert (check.first is not None) == any(met)
    if check.first is not None:
        assert check.first.prompt_idx == met.index(True)


@pytest.mark.parametrize(
    ("template", "prompt", "helps"),
    [
        (_ALTERNATE, _prompt("system", "user"), True),
        (_ALTERNATE, _prompt("user", "user"), False),
        (_ALTERNATE, _prompt("system", "user", "user"), False),
        (_ALTERNATE, _prompt("assistant", "user"), False),
        (_ALTERNATE, _prompt("system", "system", "user"), True),
        ("{% if messages | length != 1 %}{{ 1 / 0 }}{% endif %}" + TEMPLATE, _prompt("system", "user"), True),
        ("{{ messages[1].content.no }}{{ raise_exception(messages[0].role) }}", _prompt("user"), False),
        ("{{ messages[0].content + 5 }}", _prompt("user"), False),
        ("{{ messages[0].tool_calls[0] }}", _prompt("user"), False),
        ("{{ messages[0].name | length }}{{ nothing() }}", _prompt("user"), False),
        (
            "{% for a in range(99999) %}{% for b in range(99999) %}" + "y" * 9000 + "{% endfor %}{% endfor %}",
            _prompt("user"),
            False,
        ),
        ("{{ '\\ud800' }}", _prompt("user"), False),
    ],
)
def test_merging_is_advised_where_it_helps(template: str, prompt: Prompt, helps: bool) -> None:
    check, collection = _check(with_template(small_tokenizer(), template), [prompt], 1)
    (request,) = collection.requests()
    assert check.refuses(request)
    assert ("TEMPLATE_SYSTEM=merge" in check.advice()) == helps
    with pytest.raises(BitnetError, match=r"^The chat template of small refuses every prompt \(prompt 0: [^\n]+$"):
        check.require_one(lambda: None)
