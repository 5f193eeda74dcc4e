"""Collected traces: a list to search, one trace with its tokens, and what teacher and student give to one token."""

from pathlib import Path
from typing import cast

from textual.app import ComposeResult
from textual.containers import Container, Vertical, VerticalScroll
from textual.events import DescendantFocus
from textual.widgets import Input

from bitnet_core.errors import BitnetError
from bitnet_tui.shell import Shell
from bitnet_tui.view.places import TracesPlace
from bitnet_tui.view.traces import scoring
from bitnet_tui.view.traces.columns import Order
from bitnet_tui.view.traces.found import (
    Page,
    Rejects,
    Trace,
    Worst,
    of_answer,
    worst_first,
)
from bitnet_tui.view.traces.lines import found_line, reject_lines
from bitnet_tui.widgets.buttons import KeyBar, KeyButton, key_of
from bitnet_tui.widgets.inputs import FilterInput
from bitnet_tui.widgets.no_traces import NoTraces
from bitnet_tui.widgets.painted import Painted
from bitnet_tui.widgets.scoring_line import ScoringLine
from bitnet_tui.widgets.trace_list import TraceList
from bitnet_tui.widgets.trace_messages import Answered, Request
from bitnet_tui.widgets.trace_shown import TraceShown
from bitnet_tui.widgets.worst_tokens import WorstTokens

_BESIDE = 110
"""From this width on the list is beside the trace."""
_LOW = 14
"""Below this height a trace has no head and no legend."""
_FIELD_CELLS = 16


class TracesPane(WorstTokens):
    """Keys arrive as `act`."""

    def __init__(self, home: Path, root: Path) -> None:
        super().__init__(home, root)
        self._begun = False
        self._reads = False
        """Whether a key has moved the focus to the tokens: in a low window they then take the list's room."""

    def compose(self) -> ComposeResult:
        self._place = cast("Shell", self.app).place(self._root, TracesPlace)
        with KeyBar(field=_FIELD_CELLS):
            yield FilterInput(self._place.search, compact=True, id="trace-search")
            yield KeyButton("", "traces.score", others=[*scoring.OFFERED.values()], id="trace-score")
            yield KeyButton("", "traces.order", others=[("Sorted by number", "by number")], id="trace-order")
            yield KeyButton("Rejects", "traces.rejects", id="trace-rejects")
        with Container(id="traces-body"):
            with Vertical(id="trace-listed"):
                yield TraceList()
                yield Painted(id="trace-found")
            yield TraceShown()
        with VerticalScroll(id="rejects", classes="pages"):
            yield Painted(id="rejects-text")
        yield NoTraces()
        with Vertical(id="traces-foot"):
            yield ScoringLine(self._home, self._root)
            yield Painted(id="traces-said")

    # -- asking ------------------------------------------------------------------------------------------------------

    def look(self) -> None:
        """Ask for the list when the tab is opened for the first time."""
        if not self._begun:
            self._begun = True
            self._say("Reading the traces…", "label")
            self._list(around=self._place.at[0] if self._place.at[0] >= 0 else None)
            self._draw()
        self._scoring.look()

    def enter(self) -> None:
        """The tab was opened: keys go to the trace, or the list. What has changed since is read."""
        if self._page is not None or self.has_class("-none"):
            self._list(around=self._trace.prompt_idx if self._trace else None)
        if not self.has_class("-none"):
            self._focus(self._shown.text if self._trace is not None else self._traces)

    def on_unmount(self) -> None:
        self._requests.end()

    def on_answered(self, message: Answered) -> None:
        found = message.found
        try:
            self._show_none(none="none" in found)
            if not {"problem", "none"} & found.keys():
                self._take(message.request, found)
        except BitnetError as error:
            found = {"problem": str(error)}
        if problem := found.get("problem") or found.get("scores_problem"):
            self._say(problem, "bad")
        self._requests.go_on()

    def _show_none(self, *, none: bool) -> None:
        """Say in place of everything that nothing was collected. Its button takes no Enter meant for the list."""
        if none and not self.has_class("-none"):
            self._say("")
            if self.has_focus_within:
                self._focus(self.screen.query_one("#stages"))
        self.set_class(none, "-none")

    def tell_coming(self, soon: str) -> None:
        """Say that collecting runs, or will start by itself, while there are no traces; then look for them."""
        if self.query_one(NoTraces).tell(soon) and not soon and self.has_class("-none"):
            self._list()

    def _take(self, request: Request, found: Request) -> None:
        match request["ask"]:
            case "list":
                self._take_page(request, of_answer(Page, found))
            case "show":
                self._take_trace(of_answer(Trace, found))
            case "worst":
                self._worst = [(one.prompt_idx, one.position) for one in of_answer(Worst, found).tokens]
                if self._goes_to_worst:
                    self._go_to_worst(self._worst[0] if self._worst else None, anew=True)
            case "rejects":
                cells = max(20, self.content_size.width - 2)
                self.query_one("#rejects-text", Painted).show(reject_lines(of_answer(Rejects, found), cells))

    def _take_page(self, request: Request, page: Page) -> None:
        if request["search"] != self._searched or not self._place.order.fields.items() <= request.items():
            return  # another search or order since
        if not self._stays:
            self._say("")
        if page.scored != self._scored:
            self._worst = []
        if self._page is not None and (page.total, page.scored) != (self._page.total, self._page.scored):
            self._traces.forget()
        self._page, self._scored, self._rescored = page, page.scored, False
        self._traces.take(page, request.get("around"))
        if self._trace is None and "around" in request and page.at is not None:  # opened again where it was left
            self._requests.ask({"ask": "show", "prompt_idx": request["around"]})
        if not page.matched:
            self._say("No trace has this text; change the search.", "label")
        self._draw()

    def _take_trace(self, trace: Trace) -> None:
        if trace.scored != self._scored:
            self._scored, self._worst = trace.scored, []
        worst = next(iter(worst_first(trace.positions, "kl")), 0)
        if self._place.at[0] == trace.prompt_idx:
            cursor = self._place.at[1]
        else:
            cursor = worst if self._order.by == "kl" else 0
        if self._goto is not None and self._goto[0] == trace.prompt_idx:
            cursor, self._goto = self._goto[1], None
            self._say(self._once_there)
        self._shown.show(trace, cursor)
        self.call_after_refresh(self._draw)  # what was hidden has no width yet

    # -- drawing -----------------------------------------------------------------------------------------------------

    def on_resize(self) -> None:
        self.set_class(self.content_size.width >= _BESIDE, "-beside")
        self.set_class(self.content_size.height < _LOW, "-low")
        self._fold()
        self.call_after_refresh(self._draw)

    @property
    def _folded(self) -> bool:
        return self._reads and self.screen.has_class("-short") and not self.has_class("-beside")

    def _fold(self) -> None:
        self.set_class(self._folded, "-folded")

    def _draw(self) -> None:
        self.query_one("#trace-search", Input).placeholder = f"{key_of(self, 'traces.search')} search"
        long, short = self._order.words
        self._traces.sorted_by(self._order)
        self.query_one("#trace-order", KeyButton).say(f"Sorted by {long}", f"by {short}")
        current = self._rescored or (self._scored is not None and not self._scored.outdated)
        known = "scored" if current else ""
        self.query_one("#trace-score", KeyButton).say(*scoring.OFFERED["running" if self._scoring.running else known])
        self.query_one("#trace-found", Painted).show((found_line(self._page, self._shown.cells),))
        self._shown.draw(self._scored, by_error=self._rescored or self._scored is not None, folded=self._folded)

    # -- what keys and buttons do ------------------------------------------------------------------------------------

    def act(self, what: str) -> None:
        """Do what the action is named after."""
        getattr(self, f"_act_{what}")()

    def _act_search(self) -> None:
        self.remove_class("-rejects")
        self._focus(self.query_one("#trace-search", Input))

    def _act_leave(self) -> None:
        if self.has_class("-rejects"):
            self.remove_class("-rejects")
        else:
            self.query_one("#trace-search", Input).value = ""
            self.screen.set_focus(None)  # without traces there is nothing else to go to
        self.enter()

    def _act_order(self) -> None:
        self._begin_anew(self._place.order.next(scored=self._scored is not None))

    def on_trace_list_title_clicked(self, message: TraceList.TitleClicked) -> None:
        self._begin_anew(self._order.sorted_by(message.column))

    def _begin_anew(self, order: Order | None = None) -> None:
        self._place.order = order or self._place.order
        self._goes_to_worst = False
        self._traces.forget()
        self._list()
        self._draw()

    def _act_rejects(self) -> None:
        self.toggle_class("-rejects")
        if self.has_class("-rejects"):
            self._requests.ask({"ask": "rejects"})
            self._focus(self.query_one("#rejects"))
        else:
            self.enter()
        self.screen.refresh_bindings()

    def _act_shade(self) -> None:
        self._shown.shade_otherwise()
        self._draw()

    # -- messages of its parts ---------------------------------------------------------------------------------------

    def on_trace_list_missing(self, message: TraceList.Missing) -> None:
        message.stop()
        self._list(message.offset)

    def on_trace_list_highlighted(self, message: TraceList.Highlighted) -> None:
        message.stop()
        if self._goto is not None and not message.chosen:
            return  # the list was read on the way to another token
        if self._trace is not None and self._trace.prompt_idx != message.row.prompt_idx:
            self._say("")  # the first one was not chosen, and one that is shown again has nothing new
        if message.chosen:
            self._goes_to_worst = False
        self._goto = None
        self._requests.ask({"ask": "show", "prompt_idx": message.row.prompt_idx})

    def on_token_text_moved(self) -> None:
        if self._trace is not None and (token := self._shown.token):
            self._place.at = self._trace.prompt_idx, token.position

    def on_token_text_entered(self) -> None:
        self._reads = True
        self._fold()
        self.call_after_refresh(self._draw)

    def on_descendant_focus(self, event: DescendantFocus) -> None:
        if event.widget is self._traces:
            self._reads = False
            self.call_later(self._fold)  # behind the press of the mouse that may have brought the focus
            self.call_after_refresh(self._draw)

    def on_trace_list_entered(self, message: TraceList.Entered) -> None:
        message.stop()
        self._focus(self._shown.text)

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        if self._begun and event.value != self._place.search:
            self._place.search = event.value
            self._begin_anew()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self._focus(self._traces)
