"""What the guide says: on cards, in the review, and of the answers of commands."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitnet_core.settings.targets import STORAGE_BACKENDS
from bitnet_core.storage.catalog import KINDS
from bitnet_core.teachers.profiles import PROVIDERS
from bitnet_core.teachers.refusals import no_logprobs, too_many_candidates, unusable_logprobs
from bitnet_core.text import width
from bitnet_core.tokenizer.mass import fault_words
from bitnet_tui.view.guide import doubts, estimates, review, storing, teachers
from bitnet_tui.view.guide.draft import Draft, faults
from bitnet_tui.view.spans import unstyled
from tests.tui.plans import PLAN, TIMED

FOUND = {
    "reachable": True,
    "key_accepted": True,
    "model": "m",
    "chat": True,
    "latency_s": 0.42,
    "logprobs": True,
    "largest_k": 20,
    "logprob_mode": "raw",
    "problem": None,
}


# -- what will fail later -------------------------------------------------------------------------------------------


def _doubted(
    values: dict[str, str], found: set[str] | None, failed: dict[str, str], *, kept: bool = True
) -> list[str]:
    return [
        f"{review.fault_words(one)} [{review.offer_words(one)}]"
        for one in doubts.doubts(Draft(values), found, failed, kept=kept)
    ]


def test_keys_that_are_nowhere_and_tests_that_failed_are_told_in_the_review():
    s3 = {"STORAGE_BACKEND": "s3", "S3_BUCKET": "b"}
    words = "Storage · keys: a draft keeps none; type them again, or go on without a copy [Go to Access key]"
    assert _doubted(s3, set(), {}) == [words]
    assert _doubted(s3, set(), {"storage": "refused"}) == [words]
    assert "none yet; type them" in _doubted(s3, set(), {}, kept=False)[0]
    assert "[Go to Secret key]" in _doubted(s3, {"AWS_ACCESS_KEY_ID"}, {})[0]
    assert _doubted(s3, {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}, {}) == []
    assert _doubted(s3, None, {}) == []  # not known yet
    openai = {"TEACHER_PROVIDER": "openai"}
    assert _doubted(openai, set(), {}) == ["Teacher · key: a draft keeps none; type it again [Go to Key]"]
    assert _doubted(openai, {"TEACHER_API_KEY"}, {}) == []
    typed = Draft({"TEACHER_PROVIDER": "custom"}, had_keys=frozenset({"CUSTOM_API_KEY"}))
    (lost,) = doubts.doubts(typed, set(), {}, kept=True)
    assert (lost.name, lost.why) == ("CUSTOM_API_KEY", "a draft keeps none; type it again")
    assert doubts.doubts(typed, {"CUSTOM_API_KEY"}, {}, kept=True) == ()
    vllm, why = {"TEACHER_PROVIDER": "vllm"}, teachers.in_short("x can't be reached (no connection); check it.")
    assert _doubted(vllm, set(), {"teacher": why}) == [
        "Teacher · the last test failed: no connection [Go to Teacher]"
    ]


def test_what_is_in_the_wrong_field_and_a_rate_far_too_high_are_told_and_still_allowed():
    def told(**values: str) -> list[str]:
        return [f"{one.name}: {one.why}" for one in doubts.warned(Draft(values)) if not one.stops]

    s3 = {"STORAGE_BACKEND": "s3", "S3_BUCKET": "b"}
    address = "this is an address; it belongs in “Endpoint”"
    assert told(**s3, AWS_DEFAULT_REGION="http://127.0.0.1:9001") == [f"AWS_DEFAULT_REGION: {address}"]
    assert told(**s3, S3_PREFIX="https://s3.example/x") == [f"S3_PREFIX: {address}"]
    assert told(**s3, AWS_DEFAULT_REGION="eu-central-1", S3_ENDPOINT_URL="http://127.0.0.1:9001") == []
    key = "TOKENIZER_NAME: this looks like a key; all who read the .env would see it"
    assert told(TOKENIZER_NAME="sk-mine-123456789") == [key]
    assert told(TOKENIZER_NAME="HuggingFaceTB/SmolLM2-135M-Instruct") == []
    assert told(LR="0.5") == ["LR: 833 times the default of 6e-4, so training will probably diverge"]
    assert told(LR="0.01") == told(LR="fast") == []


# -- what was found -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "said", "offer"),
    [
        (
            {},
            "✓ m answered in 0.42 s\n✓ logprobs, 20 candidates a step\n"
            "✓ any temperature will do: it does not change the probabilities",
            "",
        ),
        ({"largest_k": 100, "largest_k_capped": True}, "logprobs, 100 or more candidates a step", ""),
        ({"largest_k": None}, "✓ logprobs\n", ""),
        ({"logprob_mode": "scaled"}, "collect at temperature 1", "Collect at temperature 1"),
        ({"logprob_mode": "unmeasured"}, "unknown whether the temperature changes them", "Collect at temperature 1"),
        ({"largest_k": 10}, "! 10 are fewer than the 20 that will be asked for", "Ask for 10 candidates"),
        ({"largest_k": 1}, "! 1 is fewer than the 20 that will be asked for", "Ask for 1 candidate"),
        ({"largest_k": 5, "logprob_mode": "scaled"}, "at temperature 1", "Ask for 5, at temperature 1"),
        (
            {"logprobs": None, "problem": str(too_many_candidates("custom", "m", 20, 5))},
            "! 5 are fewer than the 20 that will be asked for",
            "Ask for 5 candidates",
        ),
        (
            {"logprobs": None, "problem": "It refuses; correct the teacher's settings: KD_TEACHER_TOP_P."},
            "(It refuses; correct the teacher's settings: “Top-p while collecting”)",
            "Collect at temperature 1",
        ),
        (
            {
                "logprobs": False,
                "problem": str(unusable_logprobs("custom", "m", "it gives ids", "update the server")),
            },
            "! The logprobs that “Other server” gives for m can't be used: it gives ids; update the server",
            "Choose another model",
        ),
        (
            {"models": ["llama"], "model_listed": False},
            "s\n! the server does not list m; it answers anyway\n✓ log",
            "",
        ),
        ({"models": ["m:latest"], "model_listed": False}, "s\n✓ logprobs", ""),
        ({"models": [], "model_listed": False}, "s\n✓ logprobs", ""),
        ({"logprobs": False}, "gives no logprobs: good for chat and the baseline only", "Choose another model"),
        ({"logprobs": None, "problem": "It is busy."}, "unknown whether it gives logprobs (It is busy)", ""),
        ({"price_usd_per_million": {"input": 2.5, "output": 10.0}}, "$2.50 in, $10.00 out per million tokens", ""),
        ({"price_usd_per_million": {"input": 0.0, "output": 0.0}}, "any temperature will do", ""),
        ({"reachable": False, "problem": "No answer from x."}, "✗ No answer from x.", "Change the address"),
        ({"reachable": None, "problem": "There is no key."}, "✗ There is no key.", "Change the address"),
        (
            {
                "provider": "custom",
                "key_accepted": False,
                "problem": "custom refuses the key in CUSTOM_API_KEY (or TEACHER_API_KEY) (HTTP 401: No (key)); "
                "set a valid one in the environment or with `bitnet keys set CUSTOM_API_KEY`.",
            },
            "✗ Other server refuses the key (HTTP 401: No (key)); type another one into “Key”.",
            "Type another key",
        ),
        ({"key_accepted": False, "problem": "openai refuses the key."}, "refuses the key.", "Type another key"),
        (
            {
                "provider": "vllm",
                "reachable": False,
                "problem": "x can't be reached (no connection); check the address.",
            },
            "✗ x can't be reached",
            "Change the address",
        ),
        ({"provider": "openai", "reachable": False, "problem": "x can't be reached."}, "✗ x can't be reached.", ""),
        ({"provider": "vllm", "key_accepted": None, "problem": "It says no."}, "✗ It says no.", "Type another key"),
        (
            {
                "provider": "vllm",
                "key_accepted": None,
                "base_url": "http://x/v2",
                "problem": "http://x/v2 has no /chat/completions (HTTP 404); correct VLLM_BASE_URL.",
            },
            "✗ Nothing at http://x/v2 answers as such a server",
            "Change the address",
        ),
        (
            {"provider": "openai", "reachable": None, "problem": "No key: OPENAI_API_KEY is not set."},
            "“Key” is not set",
            "Go to Key",
        ),
        ({"chat": False, "problem": "m is not there."}, "✗ m is not there.", "Choose another model"),
        ({"model": "", "models": list("abcdefg")}, "It has 7 models; choose one below, or type its name.", ""),
        ({"model": "", "models": ["only", "only"]}, "It has 1 model.", ""),
        ({"model": "", "models": []}, "! It lists no models; type the model's name.", "Go to Model"),
    ],
)
def test_what_a_probe_found(changes: dict[str, Any], said: str, offer: str) -> None:
    found = teachers.answer({**FOUND, **changes})
    assert said in unstyled(*found.lines)
    assert found.offer == offer
    assert bool(found.why) == unstyled(*found.lines).startswith("✗")


@pytest.mark.parametrize(
    "changes",
    [
        {"largest_k": 7, "logprob_mode": "scaled"},
        {"largest_k": 7},
        {"logprob_mode": "unmeasured"},
        {"logprobs": None, "problem": str(too_many_candidates("custom", "m", 20, 5))},
        {"logprobs": None, "problem": "Correct the teacher's settings: KD_TEACHER_TEMPERATURE or KD_TEACHER_TOP_P."},
    ],
)
def test_what_a_probe_asks_to_change_is_offered_no_more_once_it_is_set(changes: dict[str, Any]) -> None:
    found, draft = teachers.answer({**FOUND, **changes}), Draft()
    assert found.offer
    assert found.values
    for name, value in found.values:
        draft = draft.having(name, value)
    assert found.report is not None
    after = teachers.answer(found.report, draft)
    assert (after.offer, after.values) == ("", ())
    assert "!" not in unstyled(*after.lines)


@given(report=st.dictionaries(st.sampled_from(sorted(FOUND)), st.none() | st.booleans() | st.text(max_size=3)))
def test_a_probe_that_could_not_be_reached_never_counts_as_good(report):
    if not report.get("reachable") or not report.get("key_accepted"):
        assert unstyled(*teachers.answer(report).lines).startswith("✗")


def test_of_a_field_that_a_target_needs_no_words_say_what_empty_means():
    for backend in STORAGE_BACKENDS:
        for name in KINDS[backend].needs:
            assert "empty" not in storing.what(name, backend), (backend, name)


def test_any_server_of_ones_own_stands_with_the_others():
    assert dict(teachers.groups()) == {
        "This machine": ("embedded", "hf"),
        "Your own server": ("vllm", "llamacpp", "ollama", "custom"),
        "Hosted": ("openai", "aimlapi", "gemini", "deepseek", "mistral", "together", "fireworks", "openrouter"),
        "Chat and baseline only": ("anthropic", "groq"),
    }
    assert unstyled(teachers.card(PROVIDERS["custom"], None)).endswith("address")


def test_more_candidates_than_a_teacher_gives_are_a_fault_with_the_number_that_is_right():
    draft = Draft().having("TEACHER_PROVIDER", "fireworks").having("FIREWORKS_MODEL", "m")
    (fault,) = faults(replace(draft, name="a"), frozenset())
    assert review.fault_words(fault) == "Teacher · Candidates a step: this teacher gives at most 5"
    assert review.offer_words(fault) == "Set it to 5"
    assert faults(replace(draft.having(fault.name, fault.offer), name="a"), frozenset()) == ()
    assert (
        faults(replace(draft.having("TEACHER_PROVIDER", "together"), name="a"), frozenset())[0].why == "which model?"
    )


def test_what_a_test_asked_to_change_stays_a_doubt_until_it_is_set():
    found, draft = teachers.answer({**FOUND, "largest_k": 7, "logprob_mode": "scaled"}), Draft()
    (left,) = doubts.unset(draft, found)
    assert review.fault_words(left) == "Teacher · the test says: ask for 7, at temperature 1"
    assert review.offer_words(left) == "Go to Teacher"
    (left,) = doubts.unset(draft.having("TEACHER_TOP_LOGPROBS", "7"), found)
    assert review.fault_words(left) == "Teacher · the test says: collect at temperature 1"
    for name, value in found.values:
        draft = draft.having(name, value)
    assert doubts.unset(draft, found) == ()


def test_a_card_needs_nothing_only_of_the_embedded_teacher_and_fits_its_list():
    for provider in PROVIDERS.values():
        for price in (None, 0.05, 9.5):
            shown = unstyled(teachers.card(provider, price))
            assert width(shown) <= 34  # beside a scroll bar at 80 columns
            assert shown.endswith("nothing") == (provider.name == "embedded")
    first, *others = (unstyled(teachers.heading(title)) for title, _ in teachers.groups())
    assert first.index("needs") - 2 == unstyled(teachers.card(PROVIDERS["hf"], None)).index("model")
    assert first.index(" logprobs?") - 2 == unstyled(teachers.card(PROVIDERS["hf"], None)).index(" logprobs")
    assert not any("needs" in heading for heading in others)
    assert unstyled(teachers.card(PROVIDERS["openai"], 0.1)).endswith("key $0.10")
    assert unstyled(teachers.card(PROVIDERS["gemini"], None)).endswith("key")


EPOCHS = {"tokens": None, "epochs": 4.0, "most_tokens": 180_000}


@pytest.mark.parametrize(
    ("plan", "values", "said"),
    [
        (PLAN, {"TOTAL_STEPS": "1000"}, "The budget ends it if steps see"),
        (PLAN, {}, "The budget ends it, after"),
        ({**PLAN, "course": {**PLAN["course"], "ended_by": "BUDGET_TOKENS"}}, {}, "steps or more."),
        (PLAN, {}, "Time       977 steps or more\n           not timed"),
        (PLAN, {"TOTAL_STEPS": "1000"}, "Time       at most 1,000 steps"),
        (PLAN | {"budget": EPOCHS}, {}, "Time       about 176 steps"),
        (PLAN | {"budget": EPOCHS | {"most_tokens": None}}, {}, "Time       unknown"),
        (PLAN | {"budget": EPOCHS | {"epochs": 1.0}}, {}, "Budget     1 epoch  of the traces"),
        (TIMED, {}, "at least 26m 02s\n           640 tokens/s here"),
        (PLAN, {"TOTAL_STEPS": "100"}, "before the flip at 900k."),
        (PLAN, {"TOTAL_STEPS": "900"}, "The steps end it, at 922k tokens or fewer."),
        ({**PLAN, "course": {**PLAN["course"], "ended_by": "BUDGET_TOKENS", "steps": 977}}, {}, "after 977 steps."),
        (TIMED, {"TOTAL_STEPS": "100"}, "at most 2m"),
        (PLAN, {}, "1M tokens"),
        (PLAN | {"budget": EPOCHS | {"tokens": 25_200}}, {}, "of the traces\n           about 25.2k tokens"),
        (PLAN | {"budget": EPOCHS}, {}, "of the traces\n           at most 180k tokens"),
        (PLAN | {"budget": EPOCHS}, {"TOTAL_STEPS": "90"}, "The budget ends it, or 90 steps."),
        (TIMED | {"budget": EPOCHS}, {}, "about "),
        ({**PLAN, "teacher": None}, {}, "choose one first"),
        ({**PLAN, "teacher": estimates.ASKED_NOTHING}, {}, "Teacher    not asked  traces are copied"),
        ({**PLAN, "teacher": {**PLAN["teacher"], "usd": None}}, {}, "price unknown"),
        ({**PLAN, "teacher": {**PLAN["teacher"], "usd": 0.04}}, {}, "at most $0.04"),
        (PLAN, {"MAX_SEQ_LEN": "256"}, "! Sequences of 256 cut long answers."),
        (PLAN, {}, "costs nothing\n\n"),
    ],
)
def test_what_a_training_will_take(plan: dict[str, Any], values: dict[str, str], said: str) -> None:
    draft = Draft(values)
    lines = estimates.plan_lines(plan, draft, asking=False, timing=False, problem="")
    assert said in unstyled(*lines)
    assert "not timed" in unstyled(*lines) or plan["time"] is TIMED["time"]


@pytest.mark.parametrize(
    ("length", "answer", "longer"),
    [
        ("256", "512", "640"),
        ("512", "512", "640"),
        ("513", "512", ""),
        ("256", "128", ""),
        ("x", "512", ""),
        ("16", "1_000", "1152"),
        ("16", "1048575", "1048576"),
        ("16", "1048576", ""),
    ],
)
def test_a_sequence_that_cuts_answers_has_a_length_that_does_not(length: str, answer: str, longer: str) -> None:
    draft = Draft({"MAX_SEQ_LEN": length, "KD_MAX_TOKENS_PER_PROMPT": answer})
    assert doubts.length_that_fits(draft) == longer


def test_the_review_repeats_what_is_known_of_time_disk_and_money():
    def said(plan: dict[str, Any] | None, *, problem: bool = False, timing: bool = False) -> str:
        return unstyled(estimates.cost_line(plan, Draft(), timing=timing, problem=problem))

    assert said(None) == "Estimating…"
    free = estimates.cost_line(None, Draft(), timing=False, problem=False, free=True)
    assert unstyled(free) == "Estimating time and disk… · costs nothing"
    assert said(PLAN) == "Takes 964 MB disk · costs nothing"
    assert said(PLAN, timing=True) == "Takes 964 MB disk · costs nothing · time: being measured…"
    assert said(TIMED).startswith("Takes at least 26m")
    assert "price unknown" in said({**TIMED, "teacher": {**PLAN["teacher"], "usd": None}})
    assert said(None, problem=True) == "No estimate"


def test_what_this_machine_can_train_is_said_with_signs():
    said = unstyled(*estimates.fit_lines(PLAN, "")).splitlines()
    assert [line.split()[0] for line in said] == ["✓", "!", "✗"]
    assert "runs in 4.6 GB" in said[2]


def test_only_what_can_succeed_is_offered_and_nothing_that_costs_is_the_default():
    drafts = {name: Draft({"TEACHER_PROVIDER": name}) for name in ("embedded", "openai", "custom")}
    for name, default in (("embedded", "pipeline"), ("openai", review.ONLY), ("custom", review.ONLY)):
        assert [one for one, _ in review.starts(drafts[name], None)[:2]] == ["pipeline", review.ONLY]
        assert review.default_start(drafts[name], None, doubtful=False) == default
    assert review.default_start(Draft(), None, doubtful=True) == review.ONLY
    wrong = str(unusable_logprobs("custom", "m", fault_words("mass_above_one"), "update the server"))
    for problem, why in (
        (wrong, "gives logprobs that can't be used (probabilities that add up to more than 1)"),
        (str(no_logprobs("custom", "m")), "gives no logprobs"),
    ):
        found = teachers.answer({**FOUND, "logprobs": False, "problem": problem})
        assert review.default_start(Draft(), found, doubtful=False) == review.ONLY
        assert "pipeline" not in dict(review.starts(Draft(), found))
        told = f"This teacher {why}, so no traces can be collected from it."
        assert review.about(review.ONLY, drafts["custom"], found) == told
    assert review.about(review.ONLY, drafts["embedded"], None) == "Nothing runs until you start it."
    assert review.about(review.ONLY, drafts["custom"], None).endswith("start it: a run asks your server for answers.")
    assert review.about(review.ONLY, drafts["openai"], None).endswith("start it: a run may cost money.")
    copy = Draft({"STUDENT_INIT": "teacher"}, source="one")
    assert review.about("train", copy, None, "at most 17m").endswith(" built again, not copied: at most 17m.")
    assert review.about("train", copy, None, made=True).endswith(
        "is copied: these settings would build the same one."
    )
    assert review.about("train", copy, None, made=None).endswith("can be stopped and resumed.")
    assert "anew" not in review.about(review.ONLY, copy, None, "at most 17m")
    assert "collect" not in dict(review.starts(Draft({"TEACHER_PROVIDER": "anthropic"}), None))


def test_a_wrong_address_and_a_wrong_key_are_told_together():
    refused = "vllm refuses the key in VLLM_API_KEY (or TEACHER_API_KEY) (no such key)"
    problem = (
        f"http://lab does not answer, but http://lab/v1 does; set VLLM_BASE_URL to it. There, {refused}; set a "
        "valid one in the environment or with `bitnet keys set VLLM_API_KEY`."
    )
    report = {"provider": "vllm", "reachable": True, "answers_at": "http://lab/v1", "key_accepted": False}
    found = teachers.answer({**report, "problem": problem})
    assert unstyled(*found.lines).split("\n") == [
        "✗ Correct “Address”: http://lab/v1 answers.",
        "✗ vLLM refuses the key (no such key); type another one into “Key”.",
    ]
    assert (found.offer, found.values) == ("Use http://lab/v1", (("VLLM_BASE_URL", "http://lab/v1"),))


def test_what_was_tested_instead_of_the_choice_is_named():
    of = Draft({"TEACHER_PROVIDER": "custom", "CUSTOM_MODEL": "m", "CUSTOM_BASE_URL": "http://h/v1"})
    other, elsewhere = of.having("CUSTOM_MODEL", "other"), of.having("CUSTOM_BASE_URL", "http://i/v1")
    for tested, now, told in (
        (of, other, "the last test was of m"),
        (of.having("CUSTOM_MODEL", ""), of, "only the list of models was asked for"),
        (of, elsewhere, "its address or key has changed since the last test"),
        (of, of.having("CUSTOM_MODEL", ""), ""),
        (of, of.having("TEACHER_PROVIDER", "vllm"), ""),
    ):
        assert teachers.untested(teachers.asked(tested, {}), now) == told
    local = Draft({"STORAGE_BACKEND": "local", "STORAGE_LOCAL_DIR": "/a"})
    asked = storing.asked(local, "/e", {})
    assert storing.untested(asked, local.having("STORAGE_LOCAL_DIR", "/b")).startswith("its settings have changed")
    assert storing.untested(asked, Draft()) == storing.untested(asked, Draft({"STORAGE_BACKEND": "s3"})) == ""
