"""What the threads of the tab Traces tell it: answers to its requests, and how scoring goes on."""

from typing import Any

from textual.message import Message

Request = dict[str, Any]


class Answered(Message, bubble=False):
    """The answer to a request; if there is none, its `problem` says why."""

    def __init__(self, request: Request, found: Request) -> None:
        super().__init__()
        self.request, self.found = request, found


class Told(Message, bubble=False):
    """How scoring goes on: `words`; at its end, `ended` and perhaps a `problem`."""

    def __init__(self, words: str, *, ended: bool = False, problem: str = "") -> None:
        super().__init__()
        self.words, self.ended, self.problem = words, ended, problem
