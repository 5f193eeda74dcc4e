"""What the thread of the Traces tab tells it: answers to its requests."""

from typing import Any

from textual.message import Message

Request = dict[str, Any]


class Answered(Message, bubble=False):
    """The answer to a request; if there is none, its `problem` says why."""

    def __init__(self, request: Request, found: Request) -> None:
        super().__init__()
        self.request, self.found = request, found
