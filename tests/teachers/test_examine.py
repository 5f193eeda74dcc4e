"""The report of a probe on a model: what was measured, and None for what could not be."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from bitnet_core.teachers.examine import examine, largest_k
from bitnet_core.teachers.prices import Price
from bitnet_core.teachers.probe import plain_answer
from bitnet_core.teachers.profiles import PROVIDERS
from bitnet_core.teachers.refusals import OtherAddress
from bitnet_core.teachers.teacher import Teacher
from bitnet_core.teachers.wire.openai import OpenAIChat
from tests.teachers.server import Asked, Canned, ChatServer, chat_body, entry

MODELS = {"object": "list", "data": [{"id": "m"}, {"id": "other"}]}


def refusal(status: int, message: str) -> Canned:
    return Canned({"error": {"message": message}}, status)


def step(given: int) -> Canned:
    tops = [entry(f"t{place}", -1.5 - place / 2, index=place) for place in range(given)]
    return Canned(chat_body("t0", [{**tops[0], "top_logprobs": tops}]))


def serving(
    most: int, over: Callable[[int], Canned | None] = lambda _wanted: None, plain: Canned | None = None
) -> ChatServer:
    """Gives at most `most` candidates; `over` answers requests for more, `plain` those without logprobs."""

    def answer(_number: int, asked: Asked) -> Canned:
        if asked.path.endswith("/models"):
            return Canned(MODELS)
        wanted = asked.body.get("top_logprobs")
        if wanted is None:
            return plain or Canned(chat_body("t0", None))
        return (over(wanted) if wanted > most else None) or step(min(wanted, most))

    return ChatServer(answer)


async def report_on(server: ChatServer, provider: str = "vllm", model: str = "m", **more: Any) -> dict[str, Any]:
    with server:
        chat = OpenAIChat(PROVIDERS[provider], server.base_url, model, "key-of-a-test", first_wait=0.01)
        async with chat:
            return await examine(Teacher(chat), more.get("price"))


async def test_a_complete_report() -> None:
    report = await report_on(serving(37), price=Price(1.0, 2.0, "2026-11-01", "x"))
    seconds = report.pop("latency_s")
    assert seconds > 0
    address = report.pop("base_url")
    assert address.startswith("http://127.0.0.1:")
    assert report == {
        "provider": "vllm",
        "model": "m",
        "reachable": True,
        "key_accepted": True,
        "models": ["m", "other"],
        "model_listed": True,
        "chat": True,
        "logprobs": True,
        "largest_k": 37,
        "largest_k_capped": False,
        "token_ids": True,
        "bytes": True,
        "logprob_mode": "raw",
        "upstream": None,
        "refused_sampling": [],
        "answers_at": None,
        "price_usd_per_million": {"input": 1.0, "output": 2.0},
        "price_as_of": "2026-11-01",
        "problem": None,
    }


@pytest.mark.parametrize(
    ("most", "over", "largest_k", "capped"),
    [
        (100, lambda _: None, 100, True),
        (1000, lambda _: None, 100, True),
        (20, lambda _: refusal(400, "top_logprobs must be less than or equal to 20"), 20, False),
        (23, lambda _: refusal(400, "top_logprobs: bad value"), 23, False),
        (7, lambda _: refusal(400, "top_logprobs must be less than or equal to 7"), 7, False),
        (3, lambda _: refusal(422, "top_logprobs must be less than or equal to 3"), 3, False),
        (40, lambda wanted: refusal(503, "busy") if wanted > 60 else None, None, None),
    ],
)
async def test_the_largest_number_of_candidates(
    most: int, over: Callable[[int], Canned | None], largest_k: int | None, capped: bool | None
) -> None:
    report = await report_on(serving(most, over))
    assert (report["logprobs"], report["largest_k"], report["largest_k_capped"]) == (True, largest_k, capped)


@pytest.mark.parametrize(
    ("over", "logprobs", "said"),
    [
        (lambda _: refusal(400, "logprobs are not supported"), False, "gives no logprobs"),
        (lambda _: refusal(400, "strange field"), False, "it answers without"),
        (lambda _: Canned(chat_body("t0", None)), False, "gives no logprobs"),
        (lambda _: refusal(503, "busy"), None, "keeps failing"),
        (lambda _: refusal(402, "pay first"), None, "quota"),
    ],
)
async def test_logprobs_are_false_only_if_that_is_certain(
    over: Callable[[int], Canned], logprobs: bool | None, said: str
) -> None:
    report = await report_on(serving(0, over))
    assert report["chat"] is True
    assert report["logprobs"] is logprobs
    assert said in report["problem"]
    assert report["largest_k"] is None


async def test_a_reasoning_model_answers_although_one_token_has_no_text() -> None:
    silent = Canned({"choices": [{"message": {"content": None}, "finish_reason": "length"}]})
    assert (await report_on(serving(0, lambda _: silent, silent)))["chat"] is True
    cut = refusal(400, "Could not finish the message because max_tokens or model output limit was reached.")
    assert (await report_on(serving(0, lambda _: cut, cut), "openai", "o3"))["chat"] is True


async def test_a_provider_without_logprobs_is_not_asked_for_them() -> None:
    server = serving(5)
    report = await report_on(server, "groq")
    assert (report["chat"], report["logprobs"]) == (True, False)
    assert all("top_logprobs" not in asked.body for asked in server.asked)


async def test_a_refused_key_and_a_missing_model_end_the_report() -> None:
    refused = ChatServer(lambda *_: Canned({"error": {"message": "bad key-of-a-test"}}, 401))
    report = await report_on(refused)
    assert (report["reachable"], report["key_accepted"], report["chat"]) == (True, False, None)
    assert "key-of-a-test" not in report["problem"]
    unnamed = serving(5)
    report = await report_on(unnamed, model="")
    assert (report["models"], report["chat"], report["problem"]) == (["m", "other"], None, None)
    assert len(unnamed.asked) == 1


async def test_a_server_that_lists_no_models_may_still_answer() -> None:
    """Neither does an answer of another kind list any."""
    for listed in (refusal(404, "no such path"), *map(Canned, ({"data": 5}, 5, {"object": "list"}, "models"))):

        def answer(_number: int, asked: Asked, listed: Canned = listed) -> Canned:
            return listed if asked.path.endswith("/models") else step(5)

        report = await report_on(ChatServer(answer))
        assert (report["models"], report["chat"], report["largest_k"]) == (None, True, 5)


@pytest.mark.parametrize("model", ["", "m"])
async def test_an_address_that_lacks_v1_is_told_by_its_list_of_models(model: str) -> None:
    def answer(_number: int, asked: Asked) -> Canned:
        found = {"/v1/models": Canned(MODELS), "/v1/chat/completions": step(5)}
        return found.get(asked.path) or refusal(404, "Nothing is served there; ask /v1/models")

    for path in ("", "/"):
        server = ChatServer(answer)
        with server:
            root = server.base_url.removesuffix("/v1")
            async with OpenAIChat(PROVIDERS["llamacpp"], root + path, model, None, first_wait=0.01) as chat:
                report = await examine(Teacher(chat), None)
                with pytest.raises(OtherAddress) as told:
                    await plain_answer(Teacher(chat))
        assert report["answers_at"] == f"{root}/v1" == told.value.address
        assert f"set LLAMACPP_BASE_URL or TEACHER_BASE_URL to {root}/v1" in report["problem"]
        assert (report["reachable"], report["chat"]) == (True, None)
    with ChatServer(lambda *_: refusal(404, "no such path")) as nowhere:
        root = nowhere.base_url.removesuffix("/v1")
        async with OpenAIChat(PROVIDERS["llamacpp"], root, model, None, first_wait=0.01) as chat:
            report = await examine(Teacher(chat), None)
    assert report["answers_at"] is None
    assert "(it usually ends in /v1)" in report["problem"]


@pytest.mark.parametrize("model", ["", "m"])
async def test_an_address_that_lacks_v1_and_a_wrong_key_are_told_together(model: str) -> None:
    """As far as the server tells: one that refuses the key at any address may have the right one."""

    def below_v1(_number: int, asked: Asked) -> Canned:
        found = asked.path.startswith("/v1/")
        return refusal(401, "Incorrect API key provided") if found else refusal(404, "no such path")

    for answer, both in ((below_v1, True), (lambda *_: refusal(401, "Incorrect API key provided"), False)):
        with ChatServer(answer) as server:
            root = server.base_url.removesuffix("/v1")
            async with OpenAIChat(PROVIDERS["vllm"], root, model, "wrong", first_wait=0.01) as chat:
                report = await examine(Teacher(chat), None)
        assert report["answers_at"] == (f"{root}/v1" if both else None)
        assert (report["reachable"], report["key_accepted"], report["chat"]) == (True, False, None)
        assert "vllm refuses the key in VLLM_API_KEY" in report["problem"]
        assert (f"set VLLM_BASE_URL or TEACHER_BASE_URL to {root}/v1. There, vllm" in report["problem"]) == both


async def test_the_largest_number_of_candidates_takes_few_requests() -> None:
    with serving(61) as server:
        chat = OpenAIChat(PROVIDERS["vllm"], server.base_url, "m", None, first_wait=0.01)
        async with chat:
            assert await largest_k(Teacher(chat), 20) == 61
    assert len(server.asked) <= 8


async def test_wrong_logprobs_that_nobody_asked_for_spoil_no_answer_and_are_told_as_wrong() -> None:
    wrong = [{**entry("t0", 0.7), "top_logprobs": [entry("t0", -0.5), entry("t1", -2.0)]}]
    always = Canned(chat_body("t0", wrong))
    report = await report_on(serving(0, lambda _: always, always))
    assert (report["chat"], report["logprobs"]) == (True, False)
    assert "can't be used" in report["problem"] and report["problem"].endswith(".")


async def test_an_answer_that_is_none_is_told_with_a_name_and_a_fix() -> None:
    none = Canned({"choices": [], "quoted": "x"})
    report = await report_on(serving(37, plain=none))
    said = r"vllm gave no usable answer \(the answer holds no choice\); try again, or choose another model\."
    assert re.fullmatch(said, report["problem"]), report["problem"]
    assert (report["reachable"], report["key_accepted"]) == (True, True)
