"""How the guide words settings and the sentences of commands: by labels, buttons and cards."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from bitnet_core.settings.registry import REGISTRY
from bitnet_core.settings.targets import STORAGE_BACKENDS
from bitnet_core.teachers.profiles import PROVIDERS
from bitnet_core.teachers.refusals import missing_key, no_logprobs, unusable_logprobs
from bitnet_core.text import width
from bitnet_tui.labels import label
from bitnet_tui.services.commands import last_sentence
from bitnet_tui.services.storing import Check
from bitnet_tui.view.guide import storing, teachers
from bitnet_tui.view.guide.draft import HERE, STUDENT_FIELDS, Draft
from bitnet_tui.view.guide.words import about, plain
from bitnet_tui.view.spans import unstyled


def _names_a_setting(words: str) -> bool:
    return any(name in words for name in REGISTRY if "_" in name) or "`" in words or "bitnet " in words


def test_no_field_card_or_note_speaks_of_settings_by_name_or_of_commands():
    fields = {*STUDENT_FIELDS, "FLIP_FRACTION", "STORAGE_SYNC"}
    fields |= {name for backend in STORAGE_BACKENDS for name in storing.fields(backend)}
    said = [about(name) for name in fields] + [label(name) for name in REGISTRY]
    said += [teachers.note(one)[0] for one in PROVIDERS.values()]
    said += [storing.about(name) + storing.title_of(name) for name in (HERE, *STORAGE_BACKENDS)]
    assert not [words for words in said if _names_a_setting(words)]
    room = {name: 15 if name in STUDENT_FIELDS else 13 for name in fields - {"FLIP_FRACTION"}}
    assert not {name: label(name) for name, cells in room.items() if not 0 < width(label(name)) <= cells}


@given(
    parts=st.lists(
        st.sampled_from([*sorted(REGISTRY), "is not set;", "`bitnet store login`", "run `bitnet store login` again"])
    )
)
def test_a_sentence_of_a_command_is_said_without_names_and_commands(parts):
    assert not _names_a_setting(plain(" ".join(parts)))


def test_what_to_do_without_a_key_is_said_as_a_field_to_fill(tmp_path: Path):
    sentence = "AWS_ACCESS_KEY_ID is not set; `bitnet keys set AWS_ACCESS_KEY_ID` keeps it in the OS keyring."
    assert plain(sentence) == "“Access key” is not set; type it into “Access key”."
    check = Check(tmp_path, tmp_path, "s3", {}, {}, lambda *_: "")
    assert plain(last_sentence(f"bitnet: {sentence}\n", check.worded)) == plain(sentence)
    said = plain(str(missing_key(PROVIDERS["groq"])))
    assert said == "There is no key for groq: type it into “Key”, or choose SmolLM2-135M, which needs none."


def test_without_access_keys_it_leads_to_their_fields():
    sentence = (
        "S3 can't be used (no access keys are set, and this machine has none of its own); "
        "run `bitnet keys set` for AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or `aws configure`."
    )
    assert plain(sentence).endswith("; type “Access key” and “Secret key”, or run `aws configure`.")
    found = storing.failed(sentence, Draft({"STORAGE_BACKEND": "s3", "S3_BUCKET": "b"}))
    assert (found.offer, found.field) == ("Go to Access key", "AWS_ACCESS_KEY_ID")


def test_a_teacher_that_wants_a_key_is_not_said_to_refuse_one():
    said = "custom wants a key, and none is given (HTTP 401: No (key)); set one in the environment or with `bitnet`."
    found = teachers.answer({"provider": "custom", "reachable": True, "key_accepted": False, "problem": said})
    told = "✗ Other server wants a key, and none is given (HTTP 401: No (key)); type it into “Key”."
    assert (unstyled(*found.lines), found.offer) == (told, "Type the key")


def test_of_what_a_server_says_the_code_is_repeated_in_short():
    assert teachers.in_short("S3 refuses (NoSuchBucket: It does not exist (at all)); set S3_BUCKET.") == (
        "S3 refuses (NoSuchBucket)"
    )
    assert teachers.in_short("x refuses the key (HTTP 401: bad); set it.") == "x refuses the key (HTTP 401)"
    assert teachers.in_short("It failed (nobody knows).") == "It failed"


def test_another_teacher_is_named_as_the_cards_beside_it_are():
    said = plain(str(no_logprobs("groq", "m")))
    assert (
        said
        == "groq gives no logprobs for m, and traces need them; choose another model, or a teacher that has them."
    )
    said = plain(str(unusable_logprobs("custom", "m", "they add up to 2", "choose another model")))
    assert said.endswith("they add up to 2; choose another model, or another teacher.")


def test_two_settings_of_one_field_are_named_once():
    assert (
        plain("set KD_MAX_USD=2.5, or (KD_TAU=1).")
        == "set “Most US dollars” = 2.5, or (“Distillation temperature” = 1)."
    )
    assert plain("correct  VLLM_MODEL or TEACHER_MODEL.") == "correct “Model”."
