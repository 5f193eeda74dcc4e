"""What the Traces tab asks the process that reads traces: one request at a time, each in a thread."""

from functools import partial
from pathlib import Path

from textual.widget import Widget

from bitnet_core.errors import BitnetError
from bitnet_tui.services.tracing import NoTracesYet, TraceSession
from bitnet_tui.widgets.trace_messages import Answered, Request


class TraceRequests:
    """Posts an `Answered` to the pane for each request. Of those that wait, only the newest of each kind is asked.

    A page around a trace is another kind than one that begins somewhere: the list waits for it to find its place.
    """

    def __init__(self, pane: Widget, home: Path, root: Path) -> None:
        self._pane = pane
        self._session = TraceSession(home, root)
        self._waiting: dict[str, Request] = {}
        self._asking = False
        self._used = False

    def ask(self, request: Request) -> None:
        """Ask at once, or when what is asked now is answered."""
        self._waiting[request["ask"] + (" around" if "around" in request else "")] = request
        self._ask_next()

    def go_on(self) -> None:
        """The last answer was taken: ask what waits."""
        self._asking = False
        self._ask_next()

    def end(self) -> None:
        """End the process, if there was one."""
        if self._used:
            self._pane.app.run_worker(self._session.close, thread=True, description="end reading traces")

    def _ask_next(self) -> None:
        if self._asking or not self._waiting:
            return
        self._asking = self._used = True
        request = self._waiting.pop(next(iter(self._waiting)))
        self._pane.run_worker(partial(self._answer, request), thread=True, group="traces", description="read traces")

    def _answer(self, request: Request) -> None:
        try:
            found: Request = self._session.ask(request)
        except NoTracesYet:
            found = {"none": True}
        except BitnetError as error:
            found = {"problem": str(error)}
        self._pane.post_message(Answered(request, found))
