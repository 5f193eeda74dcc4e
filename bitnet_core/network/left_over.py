"""What a server sends after the end of its answer. Knows no httpx: its responses are passed in.

httpcore keeps such bytes with the connection and reads them as the answer to the next request, and so each later
request gets the answer of the one before it.
"""

_TO_THE_CONNECTION = ("_stream", "_httpcore_stream", "_stream", "_connection", "_h11_state")


def end_with_left_over(stream: object) -> None:
    """Let httpcore close the connection of a response's stream, not keep it, if it holds bytes behind the response.

    Call it when the body was read, before the response is closed: then the next request has the connection.
    """
    state = stream
    for name in _TO_THE_CONNECTION:
        state = getattr(state, name, None)
    if state is not None and state.trailing_data[0]:  # type: ignore[attr-defined]
        state.send_failed()  # type: ignore[attr-defined]
