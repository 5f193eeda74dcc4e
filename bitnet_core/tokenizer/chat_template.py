"""Chat templates, rendered as transformers renders them (`apply_chat_template`). Knows no file and no tokenizer."""

import time
from collections.abc import Mapping, Sequence

import jinja2

from bitnet_core.errors import BitnetError
from bitnet_core.text import crop, flat, is_utf8
from bitnet_core.tokenizer.refused import Refused
from bitnet_core.tokenizer.sandbox import ChatSandbox
from bitnet_core.tokenizer.template_sizes import TooMuch

Message = Mapping[str, str]
_SHOWN_CELLS = 160
_TELLING = 24
"""Characters of a message that are not in a rendered prompt by chance, as `a` is in `assistant`."""
_PROBE = "probe"
_USUAL_SECONDS, _MOST_OWED = 0.1, 5.0
"""Three prompts in a row that are refused for their time owe more; one among fast ones does not."""
_MERGE_SYSTEM = (
    "{%- set merged = namespace(messages=[], system=[]) %}"
    "{%- for message in messages %}"
    "{%- if message['role'] == 'system' %}"
    "{%- set merged.system = merged.system + [message['content']] %}"
    "{%- elif message['role'] == 'user' %}"
    "{%- set text = (merged.system + [message['content']]) | join('\\n\\n') %}"
    "{%- set merged.messages = merged.messages + [{'role': 'user', 'content': text}] %}"
    "{%- set merged.system = [] %}"
    "{%- else %}"
    "{%- set merged.messages = merged.messages + [message] %}"
    "{%- endif %}"
    "{%- endfor %}"
    "{%- set messages = merged.messages %}\n"
)
"""The line end is removed by Jinja, as after each block, so that the template below begins a line."""


class TemplateRefused(Refused):
    """A template can't render these messages; `reason` is what it says."""

    status = "refused_by_template"
    by = "chat template"

    def __init__(self, owner: str, reason: str) -> None:
        super().__init__(
            f"The chat template of {owner} can't render a prompt ({reason}); correct it or give another in TEMPLATE.",
            reason,
        )


class ChatTemplate:
    """A template that has been compiled; BitnetError if it isn't valid Jinja. `owner` names it in messages."""

    def __init__(self, source: str, owner: str) -> None:
        self._owner = owner
        self._owed = 0.0
        """Seconds of slow renderings that fast ones have not made up for."""
        self._sandbox = ChatSandbox()
        try:
            self._template = self._sandbox.chat_template(source)
        except Exception as error:
            # Beside Jinja's errors: nesting too deep, numbers too long, and what Python's compiler says.
            raise BitnetError(
                f"The chat template of {owner} is not valid Jinja ({_reason(error)}); correct it."
            ) from error

    def render(self, messages: Sequence[Message], special_tokens: Mapping[str, str]) -> str:
        """The prompt text, up to where the assistant's answer begins. TemplateRefused for whatever goes wrong.

        BitnetError for a template that is slow with prompt after prompt: no prompt is to blame then.
        """
        known = {"messages": [dict(message) for message in messages], "tools": None, "documents": None}
        self._sandbox.budget.refill()
        began = time.thread_time()
        try:
            text = self._template.render({**special_tokens, **known, "add_generation_prompt": True})
        except Exception as error:
            # A template is a program of its own: it may raise anything, or do too much.
            raise TemplateRefused(self._owner, _reason(error)) from error
        finally:
            self._require_fast(time.thread_time() - began)
        if not is_utf8(text):
            raise TemplateRefused(self._owner, "it makes half a character")
        return text

    def _require_fast(self, seconds: float) -> None:
        self._owed = max(0.0, self._owed + seconds - _USUAL_SECONDS)
        if self._owed > _MOST_OWED:
            raise BitnetError(
                f"The chat template of {self._owner} takes seconds for each prompt; simplify it or give another one "
                "in TEMPLATE."
            )

    def require_user(self, messages: Sequence[Message], special_tokens: Mapping[str, str], text: str) -> None:
        """TemplateRefused if the last message of the user is not in `text`, which `messages` were rendered to.

        A template may change it, by trimming or as JSON; then other messages must render otherwise.
        """
        place = max((index for index, one in enumerate(messages) if one["role"] == "user"), default=None)
        if place is None:
            return
        says = messages[place]["content"]
        if len(says) >= _TELLING and says.strip() in text:
            return
        for other in (_PROBE + says, says + _PROBE):  # a part that is cut off is left out, too
            changed = [*messages[:place], {**messages[place], "content": other}, *messages[place + 1 :]]
            if self.render(changed, special_tokens) == text:
                raise TemplateRefused(self._owner, "it leaves out what the user says")


def merging_system(template: str) -> str:
    """The template with a beginning that puts a system message's text before the next message of the user."""
    return template if template.startswith(_MERGE_SYSTEM) else _MERGE_SYSTEM + template


def _reason(error: Exception) -> str:
    """What went wrong, on one line and in few words."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    said = flat(str(error))
    if not said or not isinstance(error, TooMuch | jinja2.TemplateError):
        said = f"{type(error).__name__}: {said}" if said else type(error).__name__
    return crop(said, _SHOWN_CELLS).rstrip(".")
