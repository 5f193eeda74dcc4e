"""The probe: what it accepts, and its error for everything else."""

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from bitnet_core.errors import BitnetError
from bitnet_core.teachers.answers.result import BadReply
from bitnet_core.teachers.neutral import TOKENS, one_token
from bitnet_core.teachers.probe import Verdict, plain_answer, probe
from bitnet_core.teachers.profiles import PROVIDERS
from bitnet_core.teachers.refusals import NoLogprobs, PromptRefused, TooManyCandidates, UnusableLogprobs
from bitnet_core.teachers.teacher import Teacher
from bitnet_core.teachers.wire.openai import OpenAIChat
from tests.teachers.server import Asked, Canned, ChatServer, chat_body, entry
from tests.traces.samples import small_tokenizer

TOKENIZER = small_tokenizer()
RAW = [-0.5, -1.5, -2.5, -4.0]
WORDS = ["a", "the", "r", "t"]


def body(logprobs: list[float], *, ids: bool = True, words: list[str] | None = None, **more: Any) -> dict[str, Any]:
    top = [
        entry(word, logprob, index=TOKENIZER.ids_by_bytes.get(word.encode(), 3) if ids else None)
        for word, logprob in zip(words or WORDS, logprobs, strict=True)
    ]
    return chat_body(top[0]["token"], [{**top[0], "top_logprobs": top}], **more)


@contextlib.contextmanager
def teacher(*answers: Any) -> Iterator[Teacher]:
    def answer(number: int, _asked: Asked) -> Canned:
        return Canned(answers[min(number, len(answers) - 1)])

    with ChatServer(answer) as server:
        yield Teacher(OpenAIChat(PROVIDERS["vllm"], server.base_url, "m", None, first_wait=0.01))


async def test_logprobs_that_do_not_depend_on_the_temperature_are_raw() -> None:
    nearly = [logprob + shift for logprob, shift in zip(RAW, (0.1, -0.1, 0.05, -0.2), strict=True)]
    with teacher(body(RAW), body(nearly)) as one:
        verdict = await probe(one, 4)
    assert (verdict.mode, verdict.candidates, verdict.token_ids, verdict.exact_bytes) == ("raw", 4, True, True)
    assert verdict.latency_s is not None


async def test_logprobs_that_depend_on_the_temperature_are_scaled() -> None:
    flat = [logprob / 7.5 - 1.2 for logprob in RAW]
    with teacher(body(RAW), body(flat)) as one:
        verdict = await probe(one, 4)
    assert verdict.mode == "scaled"
    assert (verdict.temperature(0.8), Verdict("raw", 4).temperature(0.8)) == (0.8, 1.0)


@pytest.mark.parametrize("answer", [chat_body("a", None), chat_body("a", [{**entry("a", -0.5), "top_logprobs": []}])])
async def test_the_error_for_missing_logprobs_names_providers_that_have_them(answer: dict[str, Any]) -> None:
    with teacher(answer) as one, pytest.raises(BitnetError, match="TEACHER_PROVIDER that has them: embedded"):
        await probe(one, 4)


async def test_the_sampled_token_does_not_matter() -> None:
    outside = body(RAW)
    (step,) = outside["choices"][0]["logprobs"]["content"]
    said = entry("zz", -9999.0, index=9)
    outside["choices"][0]["message"]["content"] = "zz"
    outside["choices"][0]["logprobs"]["content"] = [{**said, "top_logprobs": [*step["top_logprobs"], said]}]
    with teacher(body(RAW), outside) as one:
        verdict = await probe(one, 4)
    assert (verdict.mode, verdict.candidates) == ("raw", 4)


async def test_the_sampling_of_the_probe_cuts_no_list_of_candidates() -> None:
    def answer(_number: int, asked: Asked) -> Canned:
        return Canned(
            body(RAW[:1] if asked.body["top_p"] < 1 else RAW, words=WORDS[:1] if asked.body["top_p"] < 1 else None)
        )

    with ChatServer(answer) as server:
        one = Teacher(OpenAIChat(PROVIDERS["vllm"], server.base_url, "m", None, first_wait=0.01))
        assert (await probe(one, 4)).candidates == 4


async def test_two_candidates_are_asked_for_where_one_is_wanted() -> None:
    """A single one does not show whether the temperature scales it."""

    def answer(_number: int, asked: Asked) -> Canned:
        wanted = asked.body["top_logprobs"]
        return Canned(body(RAW[:wanted], words=WORDS[:wanted]))

    with ChatServer(answer) as server:
        verdict = await probe(Teacher(OpenAIChat(PROVIDERS["vllm"], server.base_url, "m", None, first_wait=0.01)), 1)
        assert [asked.body["top_logprobs"] for asked in server.asked] == [2, 2]
    assert (verdict.mode, verdict.candidates) == ("raw", 1)


async def test_a_provider_of_a_single_candidate_can_not_be_probed() -> None:
    refusal = {"error": {"message": "top_logprobs must be less than or equal to 1"}}
    with ChatServer(lambda *_: Canned(refusal, 400)) as server:
        one = Teacher(OpenAIChat(PROVIDERS["vllm"], server.base_url, "m", None, first_wait=0.01))
        with pytest.raises(NoLogprobs, match="one candidate a token, which does not show"):
            await probe(one, 1)
        with pytest.raises(TooManyCandidates, match="set TEACHER_TOP_LOGPROBS=1"):
            await probe(one, 5)


async def test_a_probe_that_samples_half_a_character_is_repeated() -> None:
    lost = body(RAW)
    lost["choices"][0]["logprobs"]["content"][0] |= {"token": "\ufffd", "bytes": None, "id": -1}
    with teacher(lost, body(RAW), lost, lost, body(RAW)) as one:
        assert (await probe(one, 4)).mode == "raw"


async def test_a_probe_without_logprobs_is_repeated_before_the_teacher_is_refused() -> None:
    """The one token may be half a character, for which llama.cpp reports nothing at all."""
    silent = Canned(chat_body("", None))
    for lucky, requests in ((2, 4), (99, None)):

        def answer(number: int, _asked: Asked, lucky: int = lucky) -> Canned:
            return silent if number < lucky else Canned(body(RAW))

        with ChatServer(answer) as server:
            one = Teacher(OpenAIChat(PROVIDERS["llamacpp"], server.base_url, "m", None, first_wait=0.01))
            if requests is None:
                with pytest.raises(UnusableLogprobs, match="no text"):
                    await probe(one, 4)
            else:
                assert (await probe(one, 4)).mode == "raw"
                assert len(server.asked) == requests


async def test_special_tokens_count_as_candidates() -> None:
    words = ["a", "the", "<|eot_id|>", "<|end|>"]
    with teacher(body(RAW, ids=False, words=words)) as one:
        assert (await probe(one, 4)).candidates == 4


@pytest.mark.parametrize(
    "refusal", [Canned({"error": {"message": "Unknown field"}}, 400), Canned({"choices": [{"message": None}]})]
)
async def test_a_refusal_only_of_logprobs_means_there_are_none(refusal: Canned) -> None:
    def answer(_number: int, asked: Asked) -> Canned:
        return refusal if "top_logprobs" in asked.body else Canned(chat_body("a", None))

    with ChatServer(answer) as server:
        one = Teacher(OpenAIChat(PROVIDERS["vllm"], server.base_url, "m", None, first_wait=0.01))
        with pytest.raises(NoLogprobs, match="TEACHER_PROVIDER that has them: embedded"):
            await probe(one, 4)


async def test_a_refusal_of_plain_chat_too_is_not_about_logprobs() -> None:
    with ChatServer(lambda *_: Canned({"error": {"message": "Unknown field"}}, 400)) as server:
        one = Teacher(OpenAIChat(PROVIDERS["vllm"], server.base_url, "m", None, first_wait=0.01))
        with pytest.raises(PromptRefused, match="Unknown field"):
            await probe(one, 4)


async def test_more_candidates_than_the_known_maximum_are_refused_with_the_maximum() -> None:
    with ChatServer(lambda *_: Canned({})) as server:
        one = Teacher(OpenAIChat(PROVIDERS["fireworks"], server.base_url, "m", "fw-key"))
        with pytest.raises(TooManyCandidates, match=r"at most 5 .*set TEACHER_TOP_LOGPROBS=5"):
            await probe(one, 20)
        assert server.asked == []


def router(answers: list[str]) -> Any:
    def answer(number: int, _asked: Asked) -> Canned:
        return Canned(body(RAW, ids=False, provider=answers[min(number, len(answers) - 1)]))

    return answer


async def test_behind_a_router_only_the_probed_provider_answers() -> None:
    with ChatServer(router(["DeepInfra", "DeepInfra", "DeepInfra", "Together"])) as server:
        one = Teacher(OpenAIChat(PROVIDERS["openrouter"], server.base_url, "m", "or-key", first_wait=0.01))
        verdict = await probe(one, 4)
        assert (await one.chat(one_token(4))).upstream == "DeepInfra"
        with pytest.raises(BadReply) as caught:
            await one.chat(one_token(4))
    assert verdict.upstream == "DeepInfra"
    assert caught.value.reason == "other_upstream"
    first, *rest = [asked.body["provider"] for asked in server.asked]
    assert first == {"require_parameters": True}
    pinned = {"order": ["DeepInfra"], "allow_fallbacks": False, "require_parameters": True}
    assert rest == [pinned] * 3


async def test_behind_a_router_the_provider_of_an_earlier_run_is_asked() -> None:
    with ChatServer(router(["Together"])) as server:
        one = Teacher(OpenAIChat(PROVIDERS["openrouter"], server.base_url, "m", "or-key", first_wait=0.01))
        assert (await probe(one, 4, Verdict("raw", 4, upstream="Together"))).upstream == "Together"
        assert all(asked.body["provider"]["order"] == ["Together"] for asked in server.asked)
        with pytest.raises(BitnetError, match="Together answered instead of DeepInfra"):
            await probe(one, 4, Verdict("raw", 4, upstream="DeepInfra"))


def test_a_stored_verdict_without_upstream_still_loads() -> None:
    kept = {"mode": "raw", "candidates": 4, "token_ids": True, "exact_bytes": True, "latency_s": 0.1}
    assert Verdict(**kept).upstream == ""
    assert Verdict(**kept).record() == {**kept, "served_model": ""}
    assert Verdict(**Verdict("raw", 4, upstream="X").record()).upstream == "X"


async def test_sentinels_are_named() -> None:
    with teacher(body([-0.5, -1.0, -2.0, -9999.0])) as one, pytest.raises(BitnetError, match="such as -9999"):
        await probe(one, 4)


async def test_the_verdict_says_whether_tokens_have_ids_and_bytes() -> None:
    bare = body(RAW, ids=False)
    for token in bare["choices"][0]["logprobs"]["content"][0]["top_logprobs"]:
        del token["bytes"]
    del bare["choices"][0]["logprobs"]["content"][0]["bytes"]
    with teacher(bare) as one:
        verdict = await probe(one, 4)
    assert (verdict.token_ids, verdict.exact_bytes) == (False, False)


async def test_a_provider_without_logprobs_is_refused_before_anything_is_sent() -> None:
    with ChatServer(lambda *_: Canned({})) as server:
        one = Teacher(OpenAIChat(PROVIDERS["groq"], server.base_url, "m", "gsk-key"))
        with pytest.raises(BitnetError, match=r"groq gives no logprobs .*embedded"):
            await probe(one, 4)
        assert server.asked == []


# -- what shows only in several tokens ------------------------------------------------------------------------


def told(*steps: tuple[str, dict[str, Any]], text: str | None = None, **more: Any) -> dict[str, Any]:
    """An answer of several tokens, each given with its candidates; `text` if it is not what they spell."""
    content = [
        {**entry(name, -0.5), **own, "top_logprobs": [{**entry(name, -0.5), **own}, *OTHERS]} for name, own in steps
    ]
    return chat_body("".join(name for name, _ in steps) if text is None else text, content, **more)


OTHERS = [entry(" a", -2.0), entry(" b", -3.0)]
SOUND = told(("It", {}), (" is", {}), (" a", {}), (" line", {}))
HELLO = ("Hello", {})


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (told(HELLO, ("there", {}), (",", {}), text="Hello there,"), "without their blanks.* update the server"),
        (told(HELLO, ("my", {}), ("friend", {}), text="Hello my friend"), "without their blanks"),
        (told(("It", {}), ("is", {}), text="It is"), "without their blanks"),
        (told(("token_id:5", {}), ("token_id:9", {}), text="Hi there"), "--return-tokens-as-token-ids"),
        (
            told(("<think>", {}), ("Hm", {}), ("</think>", {}), HELLO, text="Hello"),
            "cover its thinking; switch its think",
        ),
        (told(("Let", {}), (" me", {}), (" see.", {}), HELLO, text="Hello"), "also cover its thinking"),
        (told(HELLO, (" you", {}), text="Hello there"), "don't add up to its text"),
        (told(HELLO, (" you", {}), text="Hello"), "don't add up to its text"),
        (told(*[("a", {})] * 12), "12 tokens where 8 were asked for"),
        (
            told(HELLO, (" there", {}), usage={"prompt_tokens": 5, "completion_tokens": 8}),
            "counts 8 tokens but reports 2",
        ),
        (told(HELLO, (" x", {"logprob": None})), "a logprob that is no number in its first tokens"),
        (
            told(HELLO, (" x", {"logprob": -9999.0})),
            "a placeholder such as -9999 instead of a logprob in its first tokens",
        ),
        (told(HELLO, finish_reason="content_filter"), "content filter cut the answer.*relax that filter"),
        (told(HELLO, ("\ufffd", {"bytes": None})), "half a character .*choose another model"),
    ],
)
async def test_a_fault_of_a_later_token_is_named_before_anything_is_spent(answer: dict[str, Any], said: str) -> None:
    with teacher(answer) as one, pytest.raises(UnusableLogprobs, match=said) as caught:
        await probe(one, 4)
    assert "embedded" in str(caught.value)
    with teacher(SOUND) as one:
        assert (await probe(one, 3)).mode == "raw"


async def test_a_teacher_that_only_thinks_is_told_from_one_without_logprobs() -> None:
    thinking = {"choices": [{"message": {"content": None, "reasoning_content": "Hm"}, "finish_reason": "length"}]}
    with (
        teacher(thinking) as one,
        pytest.raises(UnusableLogprobs, match="gone into thinking; switch its thinking off"),
    ):
        await probe(one, 4)


async def test_a_teacher_whose_logprobs_contradict_each_other_is_refused() -> None:
    answer = told(HELLO, (" there", {}))
    answer["choices"][0]["logprobs"]["content"][1]["logprob"] = -0.9
    with teacher(answer) as one, pytest.raises(UnusableLogprobs, match="another logprob among its candidates"):
        await probe(one, 4)


async def test_the_probe_asks_as_collecting_does_and_the_chat_is_streamed() -> None:
    with ChatServer(lambda *_: Canned(SOUND)) as server:
        one = Teacher(OpenAIChat(PROVIDERS["deepseek"], server.base_url, "m", "a-key", first_wait=0.01))
        await probe(one, 3)
        await plain_answer(one)
    cold, warm, plain = [asked.body for asked in server.asked]
    assert [one["max_tokens"] for one in (cold, warm, plain)] == [TOKENS, 1, TOKENS]
    assert [one["stream"] for one in (cold, warm, plain)] == [False, False, True]
    assert {one["thinking"]["type"] for one in (cold, warm, plain)} == {"disabled"}


async def test_an_unreadable_answer_is_an_error() -> None:
    with teacher({"choices": []}) as one, pytest.raises(BitnetError, match="can't be used"):
        await probe(one, 4)
