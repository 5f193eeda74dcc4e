"""What a refusal means: its words come before its status, and words of the prompt are not the server's."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitnet_core.errors import BitnetError
from bitnet_core.teachers.http.reply import Reply
from bitnet_core.teachers.profiles import PROVIDERS
from bitnet_core.teachers.refusals import (
    ContextExceeded,
    Failing,
    FieldRefused,
    KeyRefused,
    NoLogprobs,
    PromptRefused,
    QuotaSpent,
    RefusesAll,
    SentRequest,
    SettingsRefused,
    TooManyCandidates,
)

SENT = SentRequest(
    PROVIDERS["custom"], "http://x/v1", "m", "sk-1f9c", 20, {"temperature": 0.8, "top_p": 0.95, "seed": 3}, 512
)


def reply(status: int, message: str, prompt: str = "", **more: Any) -> Reply:
    payload = {"error": {"message": message, **more}}
    asked = {"messages": [{"role": "user", "content": prompt}]}
    return Reply(status, json.dumps(payload).encode(), payload, {}, asked)


@pytest.mark.parametrize(
    ("status", "message", "code"),
    [
        (403, "Rate limit exceeded", 429),
        (403, "API rate limit exceeded for user ID 1. Please wait a few minutes", 429),
        (401, "Rate limit reached for this key, try again in 20s", 429),
        (403, "Too many requests", 429),
        (403, "The service is overloaded", 503),
        (401, "Model m is currently loading", 503),
        (403, "The model is temporarily unavailable", 503),
        (200, "Rate limit exceeded", 429),
        (200, "overloaded", 503),
        (200, "Sorry, the model is currently loading", 503),
    ],
)
def test_what_passes_is_waited_for_whatever_its_status(status: int, message: str, code: int) -> None:
    found = reply(status, message)
    assert (found.code, found.retryable) == (code, True)
    assert type(SENT.refusal(found)) is Failing
    for quoted in (message, message.upper(), f"What does “{message}” mean?", message.replace(" ", "\n")):
        assert not reply(status, f"blocked: {message}", quoted).retryable


QUOTATIONS: list[Callable[[str], str]] = [
    str,
    repr,
    json.dumps,
    str.upper,
    lambda prompt: " ".join(prompt.split()),
    lambda prompt: prompt.replace(" ", "\n"),
]


@given(
    before=st.text(max_size=20),
    words=st.sampled_from(["rate limit exceeded", "Too many requests", "overloaded", "currently loading"]),
    blank=st.sampled_from([" ", "  ", "\n", "\t", " - "]),
    after=st.text(max_size=20),
    quoted=st.sampled_from(QUOTATIONS),
    status=st.sampled_from([200, 401, 403]),
)
def test_a_quoted_prompt_is_never_waited_for(
    before: str, words: str, blank: str, after: str, quoted: Callable[[str], str], status: int
) -> None:
    prompt = f"{before} {words.replace(' ', blank)} {after}"
    assert not reply(status, f"blocked: {quoted(prompt)}", prompt).retryable


@pytest.mark.parametrize("message", ["logprobs is not supported", "top_logprobs: unsupported", "not implemented"])
@pytest.mark.parametrize("status", [500, 503])
def test_what_will_never_be_supported_is_not_asked_for_again(status: int, message: str) -> None:
    assert not reply(status, message).retryable
    assert reply(status, "internal error").retryable


@pytest.mark.parametrize(
    ("status", "message", "kind", "said"),
    [
        (401, "Unsupported parameter: 'temperature' is not supported with this model", FieldRefused, "temperature"),
        (401, "temperature is not allowed on the free plan", FieldRefused, "temperature"),
        (403, "Unsupported parameter: top_p", FieldRefused, "top_p"),
        (401, "seed is not supported", FieldRefused, "seed"),
        (401, "max_tokens is too large", SettingsRefused, "KD_MAX_TOKENS_PER_PROMPT"),
        (400, "max_completion_tokens: 512 > 256", SettingsRefused, "KD_MAX_TOKENS_PER_PROMPT"),
        (400, "maxOutputTokens must be at most 256", SettingsRefused, "KD_MAX_TOKENS_PER_PROMPT"),
        (400, "`temperature` and `top_p` cannot both be set", SettingsRefused, "KD_TEACHER_TEMPERATURE or KD_TEA"),
        (422, "top_p out of range", SettingsRefused, "KD_TEACHER_TOP_P"),
        (401, "logprobs are not available on your plan", NoLogprobs, "gives no logprobs"),
        (401, "This model's maximum context length is 4096 tokens", ContextExceeded, "this long"),
        (400, "Input is too long for requested model.", ContextExceeded, "this long"),
        (422, "`inputs` must have less than 1024 tokens. Given: 5000", ContextExceeded, "this long"),
        (400, "'messages[0].content': string too long", ContextExceeded, "this long"),
        (400, "Please reduce the length of the messages", ContextExceeded, "this long"),
        (403, "Your project has been suspended. Contact billing", RefusesAll, "no requests from this account"),
        (403, "You must verify your organization to use this", RefusesAll, "no requests from this account"),
        (403, "Please accept the terms of the model first", RefusesAll, "no requests from this account"),
        (401, "Organization has exceeded its monthly budget", RefusesAll, "no requests from this account"),
        (403, "Model x-1 requires a paid subscription", RefusesAll, "no access to m"),
        (401, "Insufficient balance", QuotaSpent, "quota"),
        (400, "API key expired. Please renew the API key.", KeyRefused, "refuses the key"),
        (400, "Your API key is not valid", KeyRefused, "refuses the key"),
        (403, "revoked API key", KeyRefused, "refuses the key"),
        (401, "Unauthorized", KeyRefused, "refuses the key"),
        (403, "Forbidden", KeyRefused, "refuses the key"),
        (500, "logprobs is not supported", NoLogprobs, "gives no logprobs"),
        (503, "logprobs unsupported by backend", NoLogprobs, "gives no logprobs"),
        (500, "ValueError: top_logprobs must be at most 5", TooManyCandidates, "TEACHER_TOP_LOGPROBS=5"),
        (500, "KeyError: 'logprobs'", Failing, "keeps failing"),
        (408, "The server gave up", Failing, "keeps failing"),
        (409, "Another request changes this", Failing, "keeps failing"),
        (400, "logprobs not supported on API version up to 2", NoLogprobs, "gives no logprobs"),
        (400, "logprobs is not supported; limit of this tier is 1 model", NoLogprobs, "gives no logprobs"),
        (400, "'logprobs' unsupported, at most 3 calls", NoLogprobs, "gives no logprobs"),
        (400, "top_logprobs: at most 4 are supported", TooManyCandidates, "TEACHER_TOP_LOGPROBS=4"),
    ],
)
def test_the_words_decide(status: int, message: str, kind: type[BitnetError], said: str) -> None:
    found = SENT.refusal(reply(status, message))
    assert type(found) is kind
    assert said in str(found)
    if isinstance(found, RefusesAll | FieldRefused):
        assert type(found.of_prompt) is PromptRefused
        assert said not in str(found.of_prompt).replace(message, "")


def test_a_number_of_something_else_is_no_number_of_candidates() -> None:
    for message in (
        *("logprobs are limited to 3 requests a minute", "logprobs: at most 2 models", "logprobs need version >= 2"),
        *("logprobs are only supported in version 3", "only 3 requests with logprobs", "bad logprobs, see below"),
    ):
        assert type(SENT.refusal(reply(400, message))) is NoLogprobs


@pytest.mark.parametrize("status", [402, 429])
def test_a_status_that_no_prompt_has_is_about_every_request(status: int) -> None:
    found = SENT.refusal(reply(status, "no", code="insufficient_quota"))
    assert isinstance(found, QuotaSpent)
    assert found.of_prompt is None


def test_a_server_that_wants_a_key_where_none_is_given_is_not_said_to_refuse_one() -> None:
    sent = SentRequest(PROVIDERS["custom"], "http://x/v1", "m", None)
    assert str(sent.refusal(reply(401, "Unauthorized"))) == (
        "custom wants a key, and none is given (HTTP 401: Unauthorized); "
        "set one in the environment or with `bitnet keys set CUSTOM_API_KEY`."
    )


def test_a_request_without_logprobs_is_not_of_the_settings_for_collecting() -> None:
    sent = SentRequest(PROVIDERS["custom"], "http://x/v1", "m", None, 0, {"top_p": 0.9}, 9)
    found = sent.refusal(reply(400, "top_p must be at least 0.95"))
    assert str(found).endswith("correct the teacher's settings.")


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize(
    "message",
    [
        *("Sorry, your account balance is insufficient", "Insufficient credit", "No credits remaining"),
        *("You have run out of credits", "Account overdue, please recharge", "Please top up your account"),
        *("Your account has insufficient funds", "Arrearage: make sure your account is in good standing"),
        *("Daily limit reached", "Monthly usage cap reached", "The weekly quota of this key was exceeded"),
        "Not enough funds",
    ],
)
def test_money_that_is_gone_is_no_wrong_key(status: int, message: str) -> None:
    found = SENT.refusal(reply(status, message))
    assert isinstance(found, QuotaSpent)
    assert message in str(found)
    assert type(found.of_prompt) is PromptRefused


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize(
    "message",
    [
        *("IP not in allowlist", "Your organization has been disabled", "This model requires enterprise tier"),
        *("TLS required", "Token expired due to clock skew, check the system time", "Project gpt does not exist"),
        *("User is not a member of the project", "Access from this origin is blocked by CORS", "Feature disabled"),
        *("Missing header x-org-id", "This endpoint requires HTTPS", "Unsupported Content-Type", "Tenant is locked"),
        *("Request body exceeds the limit", "Workspace archived", "Deployment paused by its owner"),
    ],
)
def test_a_key_is_not_blamed_for_what_else_is_named(status: int, message: str) -> None:
    found = SENT.refusal(reply(status, message))
    assert isinstance(found, RefusesAll | PromptRefused)
    assert not isinstance(found, KeyRefused)
    assert message in str(found)
    if isinstance(found, RefusesAll):
        assert type(found.of_prompt) is PromptRefused


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize(
    "message",
    [
        *("", "Unauthorized", "Forbidden", "Access denied", "Permission denied", "Authentication failed", "HTTP 401"),
        *("Authentication required", "401 Unauthorized", "You are not authorized", "Invalid token", "No token"),
        *("Incorrect API key provided: sk-abc", "You didn't provide an API key", "No auth credentials found"),
        *("Missing API key", "Your key was revoked", "The token is expired", "Please check your API key"),
        *("Invalid credentials", "Authorization header is missing", "Please log in", "signature is invalid"),
        *("Request not authenticated", "Error: forbidden.", "Access token was not recognized as valid: unknown"),
    ],
)
def test_a_key_is_blamed_where_it_is_named_or_nothing_is(status: int, message: str) -> None:
    found = SENT.refusal(reply(status, message))
    assert isinstance(found, KeyRefused)
    assert type(found.of_prompt) is PromptRefused


@pytest.mark.parametrize("message", ["The server is in maintenance mode", "Too many connections from this key"])
@pytest.mark.parametrize("status", [401, 403])
def test_what_passes_is_no_wrong_key(status: int, message: str) -> None:
    assert reply(status, message).retryable
    assert not reply(status, f"blocked: {message}", message).retryable


@pytest.mark.parametrize(
    ("message", "most"),
    [
        ("top_logprobs=20 not supported. Supported values: 0, 1, 2, 3, 4, 5", 5),
        ("Only the top 5 logprobs are available for this model", 5),
        ("You may only request 5 logprobs on the free tier", 5),
        ("Invalid logprobs: 20 (max 5)", 5),
        ("Too many logprobs requested (20 > 5)", 5),
        ("Value error, n_probs should be <20", 19),
        ("Top logprobs should be under 20", 19),
        ("logprobs cannot be greater than five", 5),
        ("top_logprobs: choose from 0, 1, 2 or 3", 3),
        ("top_logprobs must be below 6", 5),
        ("max logprobs: 8", 8),
        ("You can ask for at most ten top_logprobs", 10),
        ("logprobs are limited to three", 3),
        ("top_logprobs cannot be more than 4", 4),
        ("only 2 logprobs per token are returned", 2),
        ("Requested 20 logprobs > 11", 11),
        ("top_logprobs: Input should be less than or equal to 5", 5),
    ],
)
def test_a_limit_is_found_however_it_is_said(message: str, most: int) -> None:
    found = SENT.refusal(reply(400, message))
    assert isinstance(found, TooManyCandidates)
    assert found.most == most
    assert type(found.of_prompt) is PromptRefused


@pytest.mark.parametrize("new", ["max_completion_tokens", "max_output_tokens"])
def test_a_field_with_another_name_is_no_wrong_value(new: str) -> None:
    said = f"Unsupported parameter: 'max_tokens' is not supported with this model. Use '{new}' instead."
    found = SENT.refusal(reply(400, said))
    assert type(found) is SettingsRefused
    assert "under another name" in str(found)
    assert "KD_MAX_TOKENS" not in str(found)
