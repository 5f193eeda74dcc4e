"""How collecting and the other stages are doing, in words, and what any figures come to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitnet_core.runs.health import Machine
from bitnet_core.runs.stage_health import health
from bitnet_core.runs.vitals import EVALUATIONS, REPORTS, Plan, VitalSigns
from tests.builders import event


def _collecting(**figures) -> VitalSigns:
    signs = VitalSigns()
    for place in range(20):
        dropped = {"no_logprobs": 9} if place < 2 else {}
        signs.feed(event("trace", tokens=10, kept=0 if dropped else 10, dropped=dropped))
    fields = {"answers": 20, "requests": 30, "requests_at_once": 8, "spent_tokens": 400, "spent_usd": 0.04}
    signs.feed(event("metric", **{**fields, **figures}))
    signs.feed(event("progress", done=20, total=220, unit="sequences", eta_s=360.0, label="collecting"))
    return signs


def _collect(signs: VitalSigns, **recorded) -> list[str]:
    return [one.words for one in health("collect", "running", signs.view(), Plan.of(recorded))]


def test_collecting_in_one_line():
    assert _collect(_collecting(), KD_MAX_USD=1) == [
        "Collecting: 20 of 220 answers, coverage 90% of tokens, 2 rejected (no logprobs), 8 requests at once, "
        "$0.04 of $1.00."
    ]
    assert "1 request at once" in _collect(_collecting(requests_at_once=1))[0]
    (said,) = _collect(_collecting(spent_usd=None, waits_for="the server asked to wait"), KD_MAX_REQUESTS=300)
    assert "30 of 300 requests, waiting: the server asked to wait." in said


def test_collecting_that_rejects_much_or_nears_a_limit_is_told():
    signs = _collecting()
    for _ in range(8):
        signs.feed(event("trace", tokens=10, kept=0, dropped={"mass": 10}))
    assert _collect(signs)[0] == "35.7% of the answers can't be used: 10 rejected (8 mass, 2 no logprobs)."
    assert _collect(_collecting(), KD_MAX_USD=0.041)[0].startswith("KD_MAX_USD is nearly used up (97%)")


def test_what_came_of_collecting_is_told():
    def done(signs: VitalSigns) -> list[tuple[str, str]]:
        return [(one.level, one.words) for one in health("collect", "succeeded", signs.view(), Plan())]

    signs = _collecting()
    assert done(signs) == [("good", "Done: 20 answers, coverage 90% of tokens, 2 rejected (no logprobs).")]
    for _ in range(8):
        signs.feed(event("trace", tokens=10, kept=0, dropped={"mass": 10}))
    assert done(signs) == [("warn", "Done: 28 answers, coverage 64% of tokens, 10 rejected (8 mass, 2 no logprobs).")]
    assert done(VitalSigns()) == []
    said = " On average 30.4% of the teacher's probability is outside its candidates."
    for mass in (0.2, 0.304):
        signs = VitalSigns()
        for _ in range(8):
            signs.feed(event("trace", tokens=10, kept=10, other_mass_mean=mass))
        signs.feed(event("trace", tokens=10, kept=0, dropped={"mass": 10}, other_mass_mean=None))
        signs.feed(event("metric", answers=9))
        faults = [one for one in health("collect", "running", signs.view(), Plan()) if one.level == "warn"]
        assert [one.words for one in faults] == [said.strip()] * (mass > 0.2)
        assert all("TEACHER_TOP_LOGPROBS" in one.advice for one in faults)
        assert health("collect", "running", signs.view(), Plan())[-1].level == ("calm" if mass > 0.2 else "good")
        (found,) = health("collect", "succeeded", signs.view(), Plan())
        assert (found.level, said in found.words) == (("good", False) if mass == 0.2 else ("warn", True))
        assert bool(found.advice) == (mass > 0.2)
    assert done(_collecting(answers=330)) == [("good", "Done: 330 answers, 20 of them from this run.")]


def test_other_stages_say_what_they_do_now():
    signs = VitalSigns()
    assert health("eval", "starting", signs.view(), Plan())[0].words == "Evaluate is starting."
    signs.feed(event("progress", done=120, total=300, unit="sequences", eta_s=41.0, label="quality at A4"))
    (said,) = health("eval", "running", signs.view(), Plan())
    assert said.words == "Now: quality at A4, 120/300 sequences, 40 s left of this part."
    asked = {"done": 14, "total": 24, "unit": "prompts", "eta_s": 41.0, "label": "baseline", "part": 1, "parts": 2}
    signs.feed(event("progress", **asked))
    (said,) = health("teacher", "running", signs.view(), Plan())
    assert said.words == "Now: baseline, 14/24 prompts, 40 s left of part 1 of 2."
    signs.feed(event("progress", **asked | {"first_step_in_s": 540.0}))
    (said,) = health("train", "running", signs.view(), Plan())
    assert said.words == "Now: baseline, 14/24 prompts, part 1 of 2, about 9 min to the first step."
    converting = VitalSigns()
    converting.feed(event("progress", done=0, total=1, unit="steps", label="converting the tokenizer"))
    (said,) = health("teacher", "running", converting.view(), Plan())
    assert said.words == "Now: converting the tokenizer."
    signs.feed(event("upload", path="checkpoints/a.pt", target="s3", bytes=100_000_000, done=30_000_000,
                     state="sending"))  # fmt: skip
    signs.feed(event("alert", code="storage_behind", message="The copy is behind.", severity="warning", advice=""))
    told = health("upload", "running", signs.view(), Plan())
    assert [one.words for one in told] == ["The copy is behind.", "Sending checkpoints/a.pt, 30 MB of 100 MB."]


_FIGURES = ("t", "step", "seen_tokens", "loss", "grad_norm", "tokens_per_s", "heldout_loss", "nonfinite")


_odd = st.one_of(st.none(), st.integers(-5, 10**12), st.floats(), st.just(1e308))


@given(
    st.lists(
        st.fixed_dictionaries({}, optional=dict.fromkeys(_FIGURES, _odd)),
        max_size=100,
    ),
    st.dictionaries(st.sampled_from(["BUDGET_TOKENS", "FLIP_FRACTION", "TOTAL_STEPS", "KD_MAX_USD"]), _odd),
    st.sampled_from(["train", "collect", "eval", "upload", "pipeline"]),
)
def test_any_figures_end_in_sentences_and_bounded_memory(figures, recorded, stage):
    signs = VitalSigns()
    for one in figures:
        signs.feed(event("metric", **one))
    seen = signs.view()
    assert len(seen.reports) <= REPORTS
    assert len(seen.evaluations) <= EVALUATIONS
    for found in health(stage, "running", seen, Plan.of(recorded), Machine(1.0, 2.0, 3.0), 1e4):
        assert found.words.endswith(".")
        assert not found.advice or found.advice.endswith(".")


@pytest.mark.parametrize(
    ("results", "level", "words"),
    [
        (["pass", "pass"], "good", "2 of 2 gates met."),
        (["pass", "fail"], "warn", "1 of 2 gates met; failed: gate 1."),
        (["not measurable", "pass"], "calm", "1 of 2 gates met; not measurable: gate 0."),
        (["fail", "not measurable"], "warn", "0 of 2 gates met; failed: gate 0; not measurable: gate 1."),
    ],
)
def test_a_finished_evaluation_says_which_gates_it_fails(results: list[str], level: str, words: str):
    signs = VitalSigns()
    rows = [[f"gate {place}", result, 1, "≥ 1", "why"] for place, result in enumerate(results)]
    signs.feed(event("table", name="gates", columns=["gate", "result", "value", "limit", "why"], rows=rows))
    for stage in ("eval", "pipeline"):
        assert [(one.level, one.words) for one in health(stage, "succeeded", signs.view(), Plan())] == [
            (level, words)
        ]
        assert health(stage, "failed", signs.view(), Plan()) == ()


_NANO = {"MINI_PRESET": "nano", "STUDENT_INIT": "random", "STUDENT_INIT_LAYERS": ""}


@pytest.mark.parametrize(
    ("settings", "failed", "level"),
    [
        ({}, ("QEI", "Q_s/Q_t"), "calm"),
        ({"STUDENT_INIT": "teacher", "STUDENT_INIT_LAYERS": "0"}, ("QEI",), "calm"),
        ({"STUDENT_INIT": "teacher"}, ("QEI",), "warn"),
        ({}, ("QEI", "non-finite steps"), "warn"),
        ({"MINI_PRESET": "mini"}, ("QEI",), "warn"),
        ({"MINI_LAYERS": 24}, ("QEI",), "warn"),
    ],
)
def test_a_student_of_the_smallest_preset_is_not_expected_to_meet_every_gate(
    settings: dict[str, object], failed: tuple[str, ...], level: str
):
    signs = VitalSigns()
    rows = [[name, "fail", 0.1, "≥ 1", "why"] for name in failed]
    signs.feed(event("table", name="gates", columns=["gate", "result", "value", "limit", "why"], rows=rows))
    (found,) = health("eval", "succeeded", signs.view(), Plan.of(_NANO | settings))
    assert (found.level, "nano, is not expected" in found.advice) == (level, level == "calm")
