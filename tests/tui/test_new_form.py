"""The fields of the form for a new experiment, what is wrong with them, and the `.env` they make."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitnet_core.settings.registry import REGISTRY, SECRET_NAMES
from bitnet_core.settings.resolve import resolve
from bitnet_core.teachers.profiles import PROVIDERS
from bitnet_tui.view import new_form


def _values(**changes: str) -> dict[str, str]:
    defaults = {field.name: field.default for field in new_form.fields()}
    return {**defaults, "NAME": "mine", **changes}


def test_defaults_come_from_the_registry_and_are_valid():
    assert new_form.problems(_values(), frozenset()) == {}
    assert _values()["BUDGET_TOKENS"] == REGISTRY["BUDGET_TOKENS"].default


@pytest.mark.parametrize(
    ("changes", "field"),
    [({"NAME": ""}, "NAME"), ({"NAME": "../up"}, "NAME"), ({"NAME": "taken"}, "NAME"),
     ({"TOTAL_STEPS": "0"}, "TOTAL_STEPS"),
     ({"BUDGET_TOKENS": "many"}, "BUDGET_TOKENS"), ({"TEACHER_PROVIDER": "openai"}, "MODEL"),
     ({"TEACHER_PROVIDER": "custom", "MODEL": "m"}, "BASE_URL"),
     ({"TEACHER_PROVIDER": "openai", "MODEL": "${HOME}"}, "MODEL")],
)  # fmt: skip
def test_a_wrong_value_is_reported_at_its_field(changes, field):
    assert set(new_form.problems(_values(**changes), frozenset({"taken"}))) == {field}


def test_a_provider_without_logprobs_has_a_warning():
    assert "can't be collected" in new_form.note("groq")[0]
    assert all(new_form.note(name)[1] == "label" for name, one in PROVIDERS.items() if one.logprobs != "no")


@pytest.mark.parametrize("provider", PROVIDERS)
def test_the_env_resolves_to_what_was_typed_and_holds_no_secret(provider, tmp_path):
    values = _values(
        TEACHER_PROVIDER=provider, MODEL="org/model-1.5", BASE_URL="http://10.0.0.1:1/v1", KEY="sk-secret"
    )
    text = new_form.env_text(values)
    assert "sk-secret" not in text
    assert not any(name in text for name in SECRET_NAMES)
    (tmp_path / ".env").write_text(text)
    resolution = resolve({}, root=tmp_path, environ={}, cwd=tmp_path)
    assert resolution.problems == ()
    assert resolution.settings.values["TEACHER_PROVIDER"] == provider
    if provider != "embedded":
        assert resolution.settings.values[PROVIDERS[provider].model_setting] == "org/model-1.5"


@given(model=st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=30))
def test_any_model_name_that_is_accepted_comes_back(model, tmp_path_factory):
    values = _values(TEACHER_PROVIDER="openai", MODEL=model.strip())
    if new_form.problems(values, frozenset()):
        return
    folder = tmp_path_factory.mktemp("env")
    (folder / ".env").write_text(new_form.env_text(values), encoding="utf-8")
    resolution = resolve({}, root=folder, environ={}, cwd=folder)
    assert resolution.settings.values["OPENAI_MODEL"] == model.strip()


_GOOD = {"reachable": True, "key_accepted": True, "model": "m", "chat": True, "latency_s": 0.5, "logprobs": True,
         "largest_k": 20, "largest_k_capped": False, "logprob_mode": "raw"}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "said", "style"),
    [({}, "with logprobs of up to 20 candidates per token, exact at any temperature.", "good"),
     ({"largest_k": 100, "largest_k_capped": True}, "with logprobs of 100 or more candidates per token", "good"),
     ({"largest_k": None, "largest_k_capped": None}, "with logprobs, exact", "good"),
     ({"logprob_mode": "scaled"}, "KD_TEACHER_TEMPERATURE=1", "warn"),
     ({"logprob_mode": "unmeasured"}, "unknown whether they are exact", "warn"),
     ({"logprobs": False}, "gives no logprobs", "warn"),
     ({"logprobs": None, "problem": "It is busy."}, "it is unknown whether it gives logprobs (It is busy).", "warn"),
     ({"reachable": None, "problem": "There is no key."}, "There is no key.", "bad")],
)  # fmt: skip
def test_the_sentence_about_a_probe(changes, said, style):
    text, found_style = new_form.answer({**_GOOD, **changes})
    assert said in text
    assert found_style == style
