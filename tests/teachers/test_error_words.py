"""An error's words are found in whatever shape a server puts them, and decide what the error means."""

import json
from typing import Any

import pytest

from bitnet_core.teachers.http.reply import Reply
from bitnet_core.teachers.profiles import PROVIDERS
from bitnet_core.teachers.refusals import PromptRefused, QuotaSpent, RefusesAll, SentRequest, TooManyCandidates

SENT = SentRequest(
    PROVIDERS["custom"], "http://x/v1", "m", None, 20, {"temperature": 0.8, "top_p": 0.95, "seed": 3}, 512
)
MOST = "top_logprobs must be at most 5"

SHAPES: list[Any] = [
    MOST,
    [MOST],
    {"message": MOST},
    {"Message": MOST},
    {"msg": MOST, "code": 400},
    {"error_code": 17, "error_msg": MOST},
    {"errorMessage": MOST},
    {"detail": MOST},
    {"details": [MOST]},
    {"title": MOST, "status": 400},
    {"title": "Bad Request", "detail": MOST},
    {"reason": MOST},
    {"error": "invalid_request", "error_description": MOST},
    {"base_resp": {"status_code": 1008, "status_msg": MOST}},
    {"success": False, "errors": [{"code": 7003, "message": MOST}]},
    {"errors": [MOST]},
    {"errors": MOST},
    {"errors": {"top_logprobs": ["must be at most 5"]}},
    {"errors": {"top_logprobs": {"message": "must be at most 5"}}},
    {"error": [MOST]},
    {"error": [{"message": MOST}]},
    {"error": {"msg": MOST}},
    {"error": {"detail": MOST}},
    {"error": {"error": {"message": MOST}}},
    {"error": {"code": 400, "errors": [{"reason": MOST}]}},
    {"error": {"code": "bad"}, "message": MOST},
    {"error": {"message": "Input should be at most 5", "loc": ["body", "top_logprobs"]}},
    {"detail": [{"loc": ["body", "top_logprobs"], "msg": "Input should be at most 5"}]},
    {"fault": {"faultstring": MOST}},
    {"message": "top_logprobs is too big", "limit": 5},
    {"error": {"message": "too many top_logprobs", "maximum": 5}},
]


def refusal(status: int, body: bytes) -> Exception:
    try:
        payload = json.loads(body)
    except ValueError:
        payload = None
    return SENT.refusal(Reply(status, body, payload, {}, {"messages": []}))


@pytest.mark.parametrize("shape", SHAPES, ids=json.dumps)
def test_words_are_found_in_every_shape(shape: Any) -> None:
    found = refusal(400, json.dumps(shape).encode())
    assert isinstance(found, TooManyCandidates)
    assert found.most == 5
    assert "at most 5" in str(found)
    assert type(found.of_prompt) is PromptRefused  # what a server says may be the prompt's, in any shape


@pytest.mark.parametrize(
    "body",
    [
        MOST,
        f"  {MOST}\n",
        f"Error: {MOST}",
        f"<Error><Code>Bad</Code><Message>{MOST}</Message></Error>",
        f"<?xml version='1.0'?><e>{MOST}</e>",
    ],
)
def test_words_without_json_are_read(body: str) -> None:
    found = refusal(400, body.encode())
    assert isinstance(found, TooManyCandidates)
    assert MOST in str(found)
    assert type(found.of_prompt) is PromptRefused


def test_an_unknown_field_in_plain_text_is_left_out() -> None:
    text = b"Failed to deserialize the JSON body: seed: unknown field `seed`, expected one of `model`, `messages`"
    assert getattr(refusal(422, text), "field", "") == "seed"


@pytest.mark.parametrize(
    "body", [b"", b"  ", b"<html><b>logprobs at most 5</b></html>", b"\x00\x01\x02", b"{}", b"[]", b"1"]
)
def test_what_has_no_words_says_none(body: bytes) -> None:
    assert Reply(400, body, json.loads(body) if body in (b"{}", b"[]", b"1") else None).words() == ""


@pytest.mark.parametrize("name", ["message", "msg", "Message", "reason", "errors", "error_description"])
def test_money_is_found_in_every_shape(name: str) -> None:
    found = refusal(401, json.dumps({"code": 30001, name: "Insufficient balance"}).encode())
    assert isinstance(found, QuotaSpent)
    assert isinstance(found, RefusesAll)
    assert type(found.of_prompt) is PromptRefused


def test_nothing_is_said_twice_and_nothing_without_end() -> None:
    body = {"message": MOST, "detail": MOST, "errors": [{"message": MOST}]}
    assert Reply(400, b"", body).words() == MOST
    assert len(Reply(400, b"x" * 100_000, None).words()) <= 4000


def test_an_answer_is_no_error() -> None:
    for body in ({"choices": [], "msg": MOST}, {"choices": [], "reason": MOST}, {"errors": [MOST]}, MOST, [MOST]):
        assert Reply(200, json.dumps(body).encode(), body).error is None
