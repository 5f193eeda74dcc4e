"""The wire format of Gemini's generateContent. Some of its models give logprobs, with ids but without bytes."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from bitnet_core.teachers.answers.body import list_of_models
from bitnet_core.teachers.answers.json_body import OneOfSeveral, as_list, as_object, decode
from bitnet_core.teachers.answers.parts import text_of
from bitnet_core.teachers.answers.repair import completion_of
from bitnet_core.teachers.answers.reported import Reported, ReportedToken, lenient_token
from bitnet_core.teachers.answers.result import BadReply, ChatResult, Repaired, finish_of, short_name, token_count
from bitnet_core.teachers.chat import ChatRequest, Fold, HttpChat
from bitnet_core.tokenizer.finish import worse_finish
from bitnet_core.tokenizer.steps import TokenTable

_PAGES = 20


class _Parts(Fold):
    """Whole GenerateContentResponses, each with the next piece of text and of logprobs."""

    ends_once = False
    """Gemini 1.0 and 1.5 write a finish reason into every piece."""

    def __init__(self) -> None:
        self._head: dict[str, Any] = {}
        self._finish = ""
        self._text: list[str] = []
        self._chosen: list[Any] = []
        self._tops: list[Any] = []
        self._candidate = OneOfSeveral()

    def add(self, event: Mapping[str, Any]) -> str:
        for field in ("usageMetadata", "modelVersion", "promptFeedback"):
            if event.get(field):
                self._head[field] = event[field]
        candidate = self._candidate.own(event, "candidates")
        if not candidate:
            self.complete = self.complete or "promptFeedback" in self._head
            return ""
        if candidate.get("finishReason"):
            self._finish = worse_finish(self._finish, str(candidate["finishReason"]))
            self.complete = True
        result = as_object(candidate.get("logprobsResult"))
        self._chosen += as_list(result.get("chosenCandidates"))
        self._tops += as_list(result.get("topCandidates"))
        text = _text(candidate)
        self._text.append(text)
        return text

    def answer_body(self) -> dict[str, Any]:
        candidate: dict[str, Any] = {
            "content": {"parts": [{"text": "".join(self._text)}]},
            "finishReason": self._finish,
        }
        if self._chosen:
            candidate["logprobsResult"] = {"chosenCandidates": self._chosen, "topCandidates": self._tops}
        return {**self._head, "candidates": [candidate]}


class GeminiContent(HttpChat):
    """POST /models/MODEL:generateContent."""

    fold = _Parts

    @staticmethod
    def headers(key: str) -> dict[str, str]:
        return {"x-goog-api-key": key}

    def path(self, *, stream: bool) -> str:
        model = self.model.removeprefix("models/")
        return f"/models/{model}:streamGenerateContent?alt=sse" if stream else f"/models/{model}:generateContent"

    def request_body(self, request: ChatRequest, *, stream: bool = False) -> dict[str, Any]:  # noqa: ARG002 - the path says it
        # Its own defaults depend on the model, so the neutral values are sent, too.
        config: dict[str, Any] = {
            "temperature": request.temperature,
            "topP": request.top_p,
            "maxOutputTokens": request.max_tokens,
        }
        if request.seed is not None:
            config["seed"] = request.seed
        if request.top_logprobs > 0:
            config |= {"responseLogprobs": True, "logprobs": request.top_logprobs}
        if "2.5-flash" in self.model:
            # By default it thinks first, and its thoughts are billed as output.
            config["thinkingConfig"] = {"thinkingBudget": 0}
        roles = {"user": "user", "assistant": "model"}
        body: dict[str, Any] = {
            "contents": [
                {"role": roles[message["role"]], "parts": [{"text": message["content"]}]}
                for message in request.messages
                if message["role"] != "system"
            ],
            "generationConfig": config,
        }
        system = [{"text": message["content"]} for message in request.messages if message["role"] == "system"]
        if system:
            body["systemInstruction"] = {"parts": system}
        return body

    @staticmethod
    def read_body(body: bytes, table: TokenTable | None) -> ChatResult:
        payload = decode(body)
        candidate = _candidate(payload)
        text = _text(candidate)
        finish_reason = finish_of(candidate.get("finishReason"))
        if not text:
            reason = "no_text" if finish_reason in ("", "stop", "length") else "refused"
            raise BadReply(reason, f"the answer holds no text ({finish_reason})")
        completion = Repaired(text)
        if table is not None:
            completion = completion_of(_reported(candidate.get("logprobsResult")), text, finish_reason, table)
        usage = as_object(payload.get("usageMetadata"))
        return ChatResult(
            **vars(completion),
            finish_reason=finish_reason,
            prompt_tokens=token_count(usage.get("promptTokenCount"), 0),
            completion_tokens=token_count(usage.get("candidatesTokenCount"), len(completion.steps or ()))
            + token_count(usage.get("thoughtsTokenCount"), 0),
            model=short_name(payload.get("modelVersion")),
            body=body,
        )

    async def models(self) -> list[str]:
        found: list[str] = []
        page = ""
        for _ in range(_PAGES):
            payload = await self._listed(f"/models?pageSize=1000{page}")
            found += [
                str(entry.get("name", "")).removeprefix("models/")
                for entry in map(as_object, list_of_models(payload, "models"))
                if "generateContent" in as_list(entry.get("supportedGenerationMethods"))
            ]
            following = payload.get("nextPageToken")
            if not isinstance(following, str) or not following:
                break
            page = f"&pageToken={quote(following, safe='', errors='replace')}"
        return sorted(found)


def _candidate(payload: Any) -> Mapping[str, Any]:
    candidates = as_list(as_object(payload).get("candidates"))
    if candidates and isinstance(candidates[0], dict):
        return candidates[0]
    blocked = as_object(as_object(payload).get("promptFeedback")).get("blockReason")
    if blocked:
        raise BadReply("refused", f"the prompt was blocked ({blocked})")
    raise BadReply("no_choice", "the answer holds no candidate")


def _text(candidate: Mapping[str, Any]) -> str:
    return text_of(as_object(candidate.get("content")).get("parts")) or ""


def _reported(result: Any) -> Reported | None:
    chosen = as_list(as_object(result).get("chosenCandidates"))
    if not chosen:
        return None
    tops = as_list(result.get("topCandidates"))
    if len(tops) != len(chosen):
        raise BadReply("malformed_logprobs", "the lists of chosen tokens and of candidates differ in length")
    candidates = [_object(top).get("candidates") or [] for top in tops]
    if not all(isinstance(step, list) for step in candidates):
        raise BadReply("malformed_logprobs", "the candidates of a token are not a list")
    return Reported([_token(one) for one in chosen], [[_token(one) for one in step] for step in candidates])


def _token(candidate: Any) -> ReportedToken:
    one = _object(candidate)
    return lenient_token(one.get("logProbability"), one.get("tokenId"), one.get("token"))


def _object(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise BadReply("malformed_logprobs", "a candidate is not an object")
    return value
