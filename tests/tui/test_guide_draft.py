"""The draft of an experiment: the `.env` that it makes, what is wrong with it, and its record."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitnet_core.errors import UsageError
from bitnet_core.runs.experiment import is_name
from bitnet_core.settings.registry import REGISTRY, SECRET_NAMES
from bitnet_core.settings.resolve import from_values, resolve
from bitnet_core.settings.storage import SECTIONS
from bitnet_core.settings.targets import STORAGE_BACKENDS
from bitnet_core.settings.values import TrainOptions
from bitnet_core.storage.catalog import KINDS
from bitnet_core.teachers.profiles import PROVIDERS
from bitnet_core.text import width
from bitnet_tui.view.guide import doubts, draft_record, review, storing, teachers
from bitnet_tui.view.guide import draft as drafted
from bitnet_tui.view.guide.draft import ALWAYS, BACKEND, HERE, STEPS, STUDENT_FIELDS, SYNC, TEACHER, Draft
from bitnet_tui.view.guide.keylike import may_be_shown
from bitnet_tui.view.spans import unstyled

NOBODY: frozenset[str] = frozenset()


def made(name: str = "mine", **values: str) -> Draft:
    draft = Draft(name=name)
    for setting, text in values.items():
        draft = draft.having(setting, text)
    return draft


def resolved(text: str, folder: Path) -> dict[str, object]:
    (folder / ".env").write_text(text, encoding="utf-8")
    resolution = resolve({}, root=folder, environ={}, cwd=folder)
    assert all(one.severity == "warning" for one in resolution.problems)  # such as for a learning rate of 1
    return dict(resolution.settings.values)


def test_a_draft_without_a_choice_is_an_experiment_with_the_registrys_defaults(tmp_path):
    assert drafted.faults(made(), NOBODY) == ()
    found = resolved(drafted.env_text(made()), tmp_path)
    assert found["TEACHER_PROVIDER"] == "embedded"
    fitted = {"MAX_SEQ_LEN", "KD_NUM_PROMPTS"}  # what the guide chooses itself is shown as chosen
    assert all(found[name] == from_values({}).values[name] for name in ALWAYS if name not in fitted)
    assert drafted.differing(made()) == fitted


_NAMES = st.sampled_from(sorted({*STUDENT_FIELDS, "FLIP_FRACTION", "KD_TEACHER_TEMPERATURE", "SEED", "TEMPLATE"}))
_TEXTS = st.one_of(
    st.integers(-5, 5000).map(str),
    st.floats(0, 2).map(repr),
    st.sampled_from(["nano", "mini", "x", "${HOME}", "a b", "it's", '"', "\\", "é…", "# no", "a\nb"]),
    st.text(st.characters(codec="utf-8"), max_size=8),
)


@given(values=st.dictionaries(_NAMES, _TEXTS, max_size=6))
def test_what_is_right_comes_back_from_the_env_and_what_is_wrong_is_told_at_its_field(values, tmp_path_factory):
    """The slow twin is resolving the file that would be written."""
    draft = made(**values)
    faulty = {fault.name for fault in drafted.faults(draft, NOBODY)}
    for name, text in draft.values.items():
        if name in faulty:
            continue
        from_values({name: text})  # raises if the twin finds a fault
    if not faulty:
        found = resolved(drafted.env_text(draft), tmp_path_factory.mktemp("env"))
        assert all(found[name] == from_values({name: text}).values[name] for name, text in draft.values.items())
    for name in faulty - {drafted.START, *drafted.SIZES}:  # some of these are wrong only beside each other
        with pytest.raises((UsageError, AssertionError)):
            from_values({name: draft.get(name)})
            assert "${" not in draft.get(name)
            assert draft.get(name).isprintable()


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("backend", [HERE, "local", "s3", "dynamodb"])
def test_only_what_the_teacher_and_the_target_read_is_written(provider, backend, tmp_path):
    draft = made()
    for name in REGISTRY:
        if name not in SECRET_NAMES and (REGISTRY[name].section.startswith("Storage: ") or name.endswith("_MODEL")):
            draft = draft.having(name, "some-text")
    draft = draft.having(TEACHER, provider).having(BACKEND, backend).having("STORAGE_LOCAL_DIR", "/mnt/x")
    draft = draft.having(SYNC, "end")
    found = resolved(drafted.env_text(draft), tmp_path)
    assert found[TEACHER] == provider
    assert (found[SYNC] == "end") == (backend != HERE)
    written = set(drafted.settings(draft))
    models = {name for name in written if name.endswith("_MODEL") and name != "TEACHER_MODEL"}
    assert models == ({PROVIDERS[provider].model_setting} if provider != "embedded" else set())
    sections = {REGISTRY[name].section for name in written if REGISTRY[name].section.startswith("Storage: ")}
    assert sections == ({one for one in SECTIONS[backend] if one != "Storage"} if backend != HERE else set())


@pytest.mark.parametrize(
    ("values", "name", "step"),
    [({TEACHER: "openai"}, "OPENAI_MODEL", "teacher"),
     ({TEACHER: "custom", "CUSTOM_MODEL": "m"}, "CUSTOM_BASE_URL", "teacher"),
     ({TEACHER: "openai", "OPENAI_MODEL": "${HOME}"}, "OPENAI_MODEL", "teacher"),
     ({TEACHER: "vllm", "VLLM_MODEL": "m", "VLLM_BASE_URL": "http://me:pw@x/v1"}, "VLLM_BASE_URL", "teacher"),
     ({BACKEND: "s3"}, "S3_BUCKET", "storage"), ({BACKEND: "local"}, "STORAGE_LOCAL_DIR", "storage"),
     ({"TOTAL_STEPS": "0"}, "TOTAL_STEPS", "student"), ({"BUDGET_TOKENS": "many"}, "BUDGET_TOKENS", "student"),
     ({TEACHER: "openai", "OPENAI_MODEL": "m", "STUDENT_INIT": "teacher"}, "STUDENT_INIT", "student"),
     ({"STUDENT_INIT": "teacher", "STUDENT_INIT_LAYERS": "6", "MINI_DIM": "128"}, "MINI_DIM", "student"),
     ({"STUDENT_INIT": "teacher", "STUDENT_INIT_LAYERS": "31"}, "STUDENT_INIT_LAYERS", "review"),
     ({"STUDENT_INIT": "teacher", "STUDENT_INIT_LAYERS": "six"}, "STUDENT_INIT_LAYERS", "review"),
     ({TEACHER: "openai", "OPENAI_MODEL": "m", "TRAIN_ONLINE": "1"}, "TRAIN_ONLINE", "review"),
     ({"ON_POLICY_FRACTION": "0.5"}, "ON_POLICY_FRACTION", "review"),
     ({"FLIP_FRACTION": "2"}, "FLIP_FRACTION", "student"), ({"SEED": "x"}, "SEED", "review")],
)  # fmt: skip
def test_a_fault_names_its_step_and_field_in_words(values, name, step):
    (fault,) = drafted.faults(made(**values), NOBODY)
    assert (fault.name, fault.step) == (name, step)
    said = review.fault_words(fault) + review.offer_words(fault)
    assert not any(one in said for one in REGISTRY if "_" in one)
    assert "bitnet " not in said


@pytest.mark.parametrize(
    "values",
    [{"STUDENT_INIT": "teacher"}, {"STUDENT_INIT": "teacher", TEACHER: "hf", "HF_MODEL": "a/b"},
     {TEACHER: "hf", "HF_MODEL": "a/b", "TRAIN_ONLINE": "1", "ON_POLICY_FRACTION": "0.5"}, {"TRAIN_ONLINE": "1"},
     {"STUDENT_INIT": "a/b", "STUDENT_INIT_LAYERS": "31", TEACHER: "openai", "OPENAI_MODEL": "m"},
     {"MINI_DIM": "128"},
     {"STUDENT_INIT": "teacher", "STUDENT_INIT_LAYERS": "0", "MINI_DIM": "128"}],
)  # fmt: skip
def test_a_start_that_training_takes_is_no_fault(values):
    assert drafted.faults(made(**values), NOBODY) == ()


@pytest.mark.parametrize("name", ["", "../up", "taken", "a" * 65])
def test_a_name_that_can_not_be_is_a_fault_and_another_one_is_offered(name):
    (fault,) = drafted.faults(made(name), frozenset({"taken"}))
    assert (fault.name, fault.step) == ("NAME", "review")


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({}, "smollm2-nano"),
        ({"MINI_PRESET": "smollm2-135m"}, "smollm2-135m"),
        ({"MINI_PRESET": "1b", "TEACHER_PROVIDER": "openai"}, "openai-1b"),
        ({"TEACHER_PROVIDER": "openai", "OPENAI_MODEL": "gpt-4.1"}, "gpt-4.1-nano"),
        ({"TEACHER_PROVIDER": "custom"}, "teacher-nano"),
        ({"TEACHER_PROVIDER": "custom", "CUSTOM_MODEL": "Qwen/Qwen3-8B-Instruct"}, "qwen3-8b-nano"),
        ({"TEACHER_PROVIDER": "ollama", "OLLAMA_MODEL": "llama3.2:latest"}, "llama3.2-nano"),
        ({"TEACHER_PROVIDER": "ollama", "OLLAMA_MODEL": "llama3.2:3b"}, "llama3.2-3b-nano"),
        ({"TEACHER_PROVIDER": "hf", "HF_MODEL": "/models/own-it.gguf"}, "own-nano"),
        ({"TEACHER_PROVIDER": "custom", "CUSTOM_MODEL": "/…"}, "experiment"),
    ],
)
def test_a_name_tells_the_teacher_and_the_student(values, name):
    assert drafted.suggested_name(Draft(values), frozenset()) == name


@given(
    taken=st.frozensets(st.sampled_from(["smollm2-nano", *(f"smollm2-nano-{n}" for n in range(9))])),
    source=st.text(max_size=70),
)
def test_the_suggested_name_is_free_and_allowed(taken, source):
    for draft in (Draft(), Draft(source=source)):
        name = drafted.suggested_name(draft, taken)
        assert is_name(name)
        assert name not in taken
        assert name != source


@given(
    values=st.dictionaries(st.sampled_from(sorted(REGISTRY)), _TEXTS, max_size=8),
    step=st.sampled_from(list(STEPS)),
    had_keys=st.frozensets(st.sampled_from(sorted(SECRET_NAMES)), max_size=3),
    start=st.sampled_from(["", "train", review.ONLY]),
)
def test_a_draft_comes_back_from_its_record(values, step, had_keys, start):
    allowed = {
        name: text
        for name, text in values.items()
        if name not in SECRET_NAMES
        and may_be_shown(name, text)
        and (not REGISTRY[name].choices or text in REGISTRY[name].choices)
    }
    draft = made("mine", **allowed)
    draft = Draft(draft.values, "mine", step, "from", start=start, had_keys=had_keys)
    assert draft_record.from_record(json.loads(json.dumps(draft_record.to_record(draft)))) == draft


@given(values=st.dictionaries(st.sampled_from(sorted(SECRET_NAMES)), st.just("sk-canary"), max_size=5))
def test_no_secret_is_in_a_record_or_a_file_wherever_it_was_typed(values):
    draft = Draft(
        {**values, "OPENAI_MODEL": "gpt sk-canary", "SEED": "7", "LR": "\udcff"}, "sk-canary", source="\ud83d"
    )
    record = draft_record.to_record(draft, {"OPENAI_API_KEY": "sk-canary", "TEACHER_API_KEY": ""})
    assert record["had_keys"] == ["OPENAI_API_KEY"]
    assert json.dumps(record, ensure_ascii=False).encode()
    assert "sk-canary" not in json.dumps(record)
    assert "7" in json.dumps(record)
    assert not SECRET_NAMES & set(drafted.settings(draft))


def test_a_draft_that_is_opened_again_shows_the_steps_that_have_values_or_were_passed():
    draft = replace(made(S3_BUCKET="b", TOTAL_STEPS="5"), step="teacher")
    assert drafted.visited(draft) == {"machine", "teacher", "storage", "student"}
    assert drafted.visited(Draft()) == {"machine"}


def test_the_file_marks_what_differs_from_the_default_or_in_a_copy_from_its_source():
    draft = made(TOTAL_STEPS="5", SEED="7")

    def marked(source: dict[str, str] | None) -> list[str]:
        shown = [unstyled(one) for one in review.env_lines(draft, (), {}, source, cells=99)]
        return [one.split("=")[0] + "".join(one.partition("   ")[1:]) for one in shown if one.startswith("• ")]

    default = REGISTRY["SEED"].default
    assert f"• SEED   default {default}" in marked(None)
    assert marked(drafted.settings(made(SEED="7", TOTAL_STEPS="4"))) == ["• TOTAL_STEPS   was 4"]
    assert any(one.startswith("• LR left out   was 1e-3") for one in marked(drafted.settings(made(LR="1e-3"))))
    source = drafted.settings(draft) | {"BUDGET_EPOCHS": "7", "LR": "1e-3"}
    lines = [unstyled(one) for one in review.env_lines(draft, (), {}, source, cells=99)]
    first = [one.partition("=")[0].partition(" left")[0] for one in lines[:3]]
    assert first[:2] == ["• LR", "• BUDGET_EPOCHS"] and not first[2].startswith("•")


def test_the_file_marks_what_is_wrong_and_names_what_is_missing():
    draft = made(TOTAL_STEPS="-5", **{TEACHER: "openai"})
    wrong = review.Wrong(
        drafted.faults(draft, frozenset()), (drafted.Fault("teacher", "OPENAI_API_KEY", "none yet"),)
    )
    lines = review.env_lines(draft, (), {TEACHER: "vllm"}, None, wrong, cells=99)
    shown = [unstyled(one) for one in lines]
    assert "✗ OPENAI_MODEL   which model?" in shown
    assert not any("OPENAI_API_KEY" in one for one in shown)  # the file never has it, and the list beside it says it
    assert any(one.startswith("✗ TOTAL_STEPS=-5   ") for one in shown)
    assert "  → the environment says vllm, which takes precedence" in shown
    assert [one[0].text for one in wrong.lines] == ["✗ "] * (len(wrong.lines) - 1) + ["! "]


@pytest.mark.parametrize("cells", [24, 36, 44, 60, 99])
def test_a_long_value_of_the_file_goes_on_in_a_second_line(cells):
    address = "http://127.0.0.1:8091/v1"
    draft = made(TOTAL_STEPS="-5", SEED="7", VLLM_MODEL="m", VLLM_BASE_URL=address, **{TEACHER: "vllm"})
    wrong = review.Wrong(drafted.faults(draft, frozenset()))
    lines = review.env_lines(draft, ("VLLM_API_KEY",), {TEACHER: "openai"}, None, wrong, cells=cells)
    shown = [unstyled(one) for one in lines]
    assert all(width(one) <= cells for one in shown)
    text = " ".join(" ".join(shown).split())
    assert "vLLM server key is kept elsewhere, not in this file" in text
    assert "→ the environment says openai, which takes precedence" in text
    at, *rest = next(shown[at : at + 3] for at, one in enumerate(shown) if "VLLM_BASE_URL=" in one)
    assert at.startswith("• VLLM_BASE_URL=")
    whole = [one.strip() for one in (at, *rest) if one.endswith(address)]
    assert whole if cells >= width(address) + 4 else f"{at}{''.join(map(str.strip, rest))}".count(address)
    long = review.env_lines(draft.having("VLLM_BASE_URL", f"http://{'a' * 200}/v1"), (), {}, cells=cells)
    assert all(width(unstyled(one)) <= cells for one in long)
    assert next(one for one in map(unstyled, long) if one.endswith("a/v1")).count("…") == 1


def test_what_is_wrong_in_the_file_is_not_cut():
    draft = made(LR="0.5", **{TEACHER: "vllm"})
    wrong = review.Wrong((), doubts.warned(draft))
    shown = [unstyled(one) for one in review.env_lines(draft, (), {}, None, wrong, cells=41)]
    at = shown.index("! LR=0.5")
    told = " ".join(" ".join(shown[at + 1 : at + 3]).split())
    assert told == "833 times the default of 6e-4, so training will probably diverge"


def test_a_random_start_asks_nothing_of_a_model():
    draft = made(STUDENT_INIT="teacher", STUDENT_INIT_LAYERS="2", STUDENT_INIT_FIT_STEPS="8")
    assert {"STUDENT_INIT_LAYERS", "STUDENT_INIT_FIT_STEPS"} <= drafted.settings(draft).keys()
    for random in ("random", ""):
        found = drafted.settings(draft.having("STUDENT_INIT", random))
        assert not any(name.startswith("STUDENT_INIT") for name in found)
        TrainOptions.of(from_values(found))


_KEYS = st.sampled_from(["values", "step", "name", "source", "TOTAL_STEPS", TEACHER, BACKEND])


@given(
    record=st.recursive(
        st.none() | st.integers() | st.text(max_size=5),
        lambda one: st.lists(one, max_size=3) | st.dictionaries(_KEYS, one, max_size=4),
    )
)
def test_no_record_harms(record):
    found = draft_record.from_record(record)
    if found is not None:
        drafted.faults(found, NOBODY)
        assert found.teacher
        assert found.step in STEPS


def test_a_user_or_an_id_is_asked_for_before_its_key():
    assert storing.fields("webdav") == ("WEBDAV_URL", "WEBDAV_USERNAME", "WEBDAV_PASSWORD", "WEBDAV_ROOT_PATH")
    for client, key in (("GDRIVE_CLIENT_ID", "GDRIVE_CLIENT_SECRET"), ("DROPBOX_APP_KEY", "DROPBOX_APP_SECRET")):
        fields = storing.fields(client.partition("_")[0].lower())
        assert fields.index(client) < fields.index(key)


@pytest.mark.parametrize("backend", [HERE, *STORAGE_BACKENDS])
def test_every_target_has_a_card_and_a_form_of_what_it_reads(backend):
    assert backend in [name for _, targets in storing.groups() for name, _ in targets]
    fields = storing.fields(backend)
    if backend != HERE:
        assert set(KINDS[backend].needs) | set(KINDS[backend].keys) <= set(fields)
        assert all(REGISTRY[name].section in SECTIONS[backend] for name in fields)


def test_every_provider_has_one_card():
    named = [name for _, names in teachers.groups() for name in names]
    assert sorted(named) == sorted(PROVIDERS)


def test_a_copy_has_the_settings_of_its_source_as_the_guide_has_them():
    values = {"PROVIDER": "openai", "TEACHER_MODEL": "gpt-4o", "STORAGE_LOCAL_DIR": "/mnt/x", "LR": "1e-3"}
    draft = drafted.of_settings(values, "first")
    assert (draft.teacher.name, draft.model, draft.backend) == ("openai", "gpt-4o", "local")
    assert drafted.settings(draft)["LR"] == "1e-3"
    assert drafted.of_settings({"STORAGE_SYNC": "end"}, "first").backend == ""


def test_defaults_fit_the_rest_of_the_draft_and_are_written():
    here, hosted = Draft(), Draft({"TEACHER_PROVIDER": "openai"})
    assert [(one.get("MAX_SEQ_LEN"), one.get("KD_NUM_PROMPTS")) for one in (here, hosted)] == [
        ("640", "320"),
        ("640", "100"),  # each costs
    ]
    assert here.having("KD_MAX_TOKENS_PER_PROMPT", "100").get("MAX_SEQ_LEN") == "256"
    assert {"MAX_SEQ_LEN": "640", "KD_NUM_PROMPTS": "320"}.items() <= drafted.settings(here).items()
    copy = Draft(source="one")  # what its source leaves out has the settings' own defaults
    assert (copy.get("MAX_SEQ_LEN"), copy.get("KD_NUM_PROMPTS")) == ("256", "100")
    chosen = Draft({"KD_NUM_PROMPTS": "320", "TEACHER_PROVIDER": "openai"})
    assert draft_record.from_record(draft_record.to_record(chosen)) == chosen
    pasted = drafted.of_settings({"KD_NUM_PROMPTS": "320", "MAX_SEQ_LEN": "256", "TEACHER_PROVIDER": "openai"}, "")
    assert (pasted.get("KD_NUM_PROMPTS"), pasted.get("MAX_SEQ_LEN")) == ("320", "256")


def typed(draft: Draft, name: str, text: str) -> Draft:
    """As a field reports it: at each key."""
    for end in range(1, len(text) + 1):
        draft = draft.having(name, text[:end])
    return draft


def test_what_was_typed_stays_when_what_its_default_follows_from_changes():
    answers, length = "KD_NUM_PROMPTS", "MAX_SEQ_LEN"
    draft = typed(typed(Draft(), answers, "320"), length, "640")
    draft = draft.having("TEACHER_PROVIDER", "openai").having("KD_MAX_TOKENS_PER_PROMPT", "256")
    assert (draft.get(answers), draft.get(length)) == ("320", "640")
    assert typed(Draft(), "KD_TAU", REGISTRY["KD_TAU"].default).empty
    assert draft.having(answers, "").get(answers) == "100"


@pytest.mark.parametrize(
    ("provider", "address", "free"),
    [
        ("embedded", "", True),
        ("custom", "http://127.0.0.1:8000/v1", True),
        ("custom", "http://192.168.1.9:8000/v1", True),
        ("custom", "https://api.example.com/v1", False),
        ("custom", "", False),
        ("vllm", "https://gpu.example.com/v1", False),
        ("openai", "", False),
    ],
)
def test_a_teacher_of_ones_own_is_asked_as_often_as_is_needed(provider: str, address: str, free: bool):
    draft = Draft().having("TEACHER_PROVIDER", provider)
    if address:
        draft = draft.having(draft.teacher.base_url_setting, address)
    assert draft.is_free == free
    assert draft.get("KD_NUM_PROMPTS") == ("320" if free else "100")
