"""The one exception for an answer that can't be used, whatever the wire format."""

_SPOILT = frozenset({"stream_cut", "not_json", "error", "other_upstream"})
_PASSING = _SPOILT | {"no_choice", "no_text"}


class BadReply(Exception):
    """The answer is not what was asked for; `reason` is a short code that is counted."""

    def __init__(self, reason: str, detail: str, body: bytes = b"") -> None:
        super().__init__(detail)
        self.reason = reason
        self.body = body
        """What came, where it is known: it is kept, like every answer."""

    @property
    def passing(self) -> bool:
        """Whether a gateway may have hiccuped, so that the same request may bring another answer."""
        return self.reason in _PASSING

    @property
    def spoilt(self) -> bool:
        """Whether what came is from a gateway more often than from the model."""
        return self.reason in _SPOILT
