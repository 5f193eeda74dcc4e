"""The one exception for an answer that can't be used, whatever the wire format."""

import contextlib
import json
from collections.abc import Iterator

_FROM_GATEWAY = frozenset({"stream_cut", "not_json", "error", "other_upstream"})
_RETRYABLE = _FROM_GATEWAY | {"no_choice", "no_text"}
_SHOWN = 200


class BadReply(Exception):
    """The answer is not what was asked for; `reason` is a short code that is counted."""

    def __init__(self, reason: str, detail: str, body: bytes = b"") -> None:
        super().__init__(detail)
        self.reason = reason
        self.body = body
        """The body that was received, if known: it is kept like every answer."""

    @property
    def retryable(self) -> bool:
        """Whether a gateway may have failed briefly, so that the same request may get another answer."""
        return self.reason in _RETRYABLE

    @property
    def from_gateway(self) -> bool:
        """Whether such a body usually comes from a gateway, not from the model."""
        return self.reason in _FROM_GATEWAY


@contextlib.contextmanager
def as_bad_reply(body: bytes) -> Iterator[None]:
    """Turn every failure to read `body` into a BadReply that carries it.

    Readers look only at what they need, and a server may send anything there. This is the one place that catches it.
    """
    try:
        yield
    except BadReply as error:
        error.body = error.body or body
        raise
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise BadReply("not_json", "the answer is not JSON", body) from error
    except (TypeError, ValueError, AttributeError, KeyError, ArithmeticError, RecursionError) as error:
        detail = f"the answer has an undocumented shape ({error})"
        raise BadReply("malformed", detail[:_SHOWN], body) from error
