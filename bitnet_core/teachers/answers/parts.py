"""The text of a field that is a string in one API and a list of typed parts in another. Pure.

Mistral's reasoning models, Anthropic and Gemini answer in parts: text, thinking, refusals, calls of tools. Only text
is the answer. A part of an unknown type is an error: skipping it could lose a piece of the answer without a word.
"""

from typing import Any

from bitnet_core.teachers.answers.result import BadReply

_TEXT = frozenset({"text", "output_text", "text_delta"})
_THINKING = frozenset(
    {"thinking", "redacted_thinking", "reasoning", "reasoning_content", "reasoning_text", "summary_text"}
    | {"thinking_delta", "signature_delta", "thoughtSignature"}
)
_WITHOUT_TEXT = frozenset({"citations_delta"})
_SHOWN = 40


def text_of(content: Any) -> str | None:
    """The text in a string, in one part, or in a list of either; None if there is no content at all.

    Thinking is no part of the text. BadReply for a refusal, an unknown part and content of any other type.
    """
    if content is None or isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(part if isinstance(part, str) else _part_text(part) for part in content)
    return _part_text(content)


def _part_text(part: Any) -> str:
    if not isinstance(part, dict):
        raise BadReply("malformed", "the answer's content is neither text nor a list of parts")
    kind = _kind(part)
    if not part or kind in _THINKING | _WITHOUT_TEXT or part.get("thought"):  # the last is Gemini's
        return ""
    if kind == "refusal":
        raise BadReply("refused", "the teacher refused to answer")
    if kind not in _TEXT:
        raise BadReply("unknown_part", f"the answer holds a part of the type {kind[:_SHOWN]}, which is not text")
    text = part.get("text")
    if text is None:
        _refuse_content_elsewhere(part)
        return ""
    if not isinstance(text, str):
        raise BadReply("malformed", "the text of a part is not a string")
    return text


def _refuse_content_elsewhere(part: dict[str, Any]) -> None:
    """BadReply for a part whose text is missing although it holds something under another name."""
    name = next((name for name, value in part.items() if name != "type" and value), None)
    if name is not None:
        raise BadReply("unknown_part", f"the answer holds a part with {name[:_SHOWN]} in place of its text")


def _kind(part: dict[str, Any]) -> str:
    """The part's type; where it has none, as in Gemini's format, the name of the field that it holds."""
    kind = part.get("type", "text" if "text" in part else next(iter(part), ""))
    return kind if isinstance(kind, str) else str(kind)


def whole_characters(text: str) -> tuple[str, str]:
    """A piece of a stream with each pair of surrogates joined, and the half at its end whose other half may follow.

    JSON writes a character of 32 bits as two escapes, and some servers cut their text between the two.
    """
    end = len(text) - 1 if text[-1:] >= "\ud800" and text[-1:] < "\udc00" else len(text)
    joined = text[:end].encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
    return joined, text[end:]
