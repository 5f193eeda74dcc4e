"""Collected traces: a list to search, one trace with its tokens, and what teacher and student give to one token."""

from pathlib import Path

from textual.app import ComposeResult
from textual.containers import Container, Vertical, VerticalScroll
from textual.widget import Widget
from textual.widgets import Input

from bitnet_core.errors import BitnetError
from bitnet_tui.key_names import key
from bitnet_tui.view.traces import scoring
from bitnet_tui.view.traces.columns import Order
from bitnet_tui.view.traces.found import (
    Page,
    Rejects,
    Scored,
    Trace,
    Worst,
    next_in,
    of_answer,
    worst_first,
)
from bitnet_tui.view.traces.lines import found_line, reject_lines
from bitnet_tui.widgets.buttons import KeyBar, KeyButton, key_of
from bitnet_tui.widgets.inputs import FilterInput
from bitnet_tui.widgets.no_traces import NoTraces
from bitnet_tui.widgets.painted import Painted
from bitnet_tui.widgets.scoring_line import ScoringLine
from bitnet_tui.widgets.trace_list import PAGE, TraceList
from bitnet_tui.widgets.trace_messages import Answered, Request
from bitnet_tui.widgets.trace_requests import TraceRequests
from bitnet_tui.widgets.trace_shown import TraceShown

_BESIDE = 110
"""From this width on the list is beside the trace."""
_LOW = 14
"""Below this height a trace has no head and no legend."""
_FIELD_CELLS = 16
_MOST_WORST = 500


class TracesPane(Vertical):
    """Keys arrive as `act`."""

    def __init__(self, home: Path, root: Path) -> None:
        super().__init__(id="traces")
        self._home, self._root = home, root
        self._requests = TraceRequests(self, home, root)
        self._begun = False
        self._wanted = Order()
        self._page: Page | None = None
        self._scored: Scored | None = None
        self._goto: tuple[int, int] | None = None
        self._once_there = ""
        """The trace and the token to go to as soon as it is there."""
        self._worst: list[tuple[int, int]] = []
        self._goes_to_worst = False
        """Whether to go to the worst of all tokens as soon as they are known, unless one goes elsewhere before."""
        self._just_scored = 0
        """How many traces were scored, until the list shows it: the key to the worst token works from then on."""
        self._stays = False
        """Whether what is said at the foot stays until one goes on, or only until the list is read."""

    def compose(self) -> ComposeResult:
        with KeyBar(field=_FIELD_CELLS):
            yield FilterInput(compact=True, id="trace-search")
            yield KeyButton("", "traces.order", others=[("Sorted by number", "by number")], id="trace-order")
            yield KeyButton("Rejects", "traces.rejects", id="trace-rejects")
            yield KeyButton("", "traces.score", others=[*scoring.OFFERED.values()], id="trace-score")
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
            self._list()
            self._draw()
        self._scoring.look()

    def enter(self) -> None:
        """The tab was opened: keys go to the trace, or the list. What has changed since is read."""
        if self._page is not None or self.has_class("-none"):
            self._list(around=self._trace.prompt_idx if self._trace else None)
        if not self.has_class("-none"):
            self._focus(self._shown.text if self._trace is not None else self._traces)

    def _focus(self, widget: Widget) -> None:
        """At once: what is typed next may be there already."""
        self.screen.set_focus(widget)

    def on_unmount(self) -> None:
        self._requests.end()

    @property
    def _traces(self) -> TraceList:
        return self.query_one(TraceList)

    @property
    def _shown(self) -> TraceShown:
        return self.query_one(TraceShown)

    @property
    def _trace(self) -> Trace | None:
        return self._shown.trace

    @property
    def _scoring(self) -> ScoringLine:
        return self.query_one(ScoringLine)

    def _list(self, offset: int = 0, around: int | None = None) -> None:
        order, search = self._wanted.fields, self._searched
        request: Request = {"ask": "list", "search": search, "offset": offset, "limit": PAGE, **order}
        if around is not None:
            self._traces.seek(around)
            request["around"] = around
        self._requests.ask(request)

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
        if request["search"] != self._searched or not self._wanted.fields.items() <= request.items():
            return  # another search or order since
        if not self._stays:
            self._say("")
        if page.scored != self._scored:
            self._worst = []
        if self._page is not None and (page.total, page.scored) != (self._page.total, self._page.scored):
            self._traces.forget()
        self._page, self._scored = page, page.scored
        self._traces.take(page, request.get("around"))
        if not page.matched:
            self._say("No trace has this text; change the search.", "label")
        self._draw()
        if self._just_scored:
            self._say_scored(self._just_scored)
            self._just_scored = 0

    def _take_trace(self, trace: Trace) -> None:
        if trace.scored != self._scored:
            self._scored, self._worst = trace.scored, []
        shown, token = self._trace, self._shown.token
        worst = next(iter(worst_first(trace.positions, "kl")), 0)
        if shown and token and shown.prompt_idx == trace.prompt_idx:
            cursor = token.position
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
        self.call_after_refresh(self._draw)

    def _draw(self) -> None:
        self.query_one("#trace-search", Input).placeholder = f"{key_of(self, 'traces.search')} search"
        long, short = self._order.words
        self._traces.sorted_by(self._order)
        self.query_one("#trace-order", KeyButton).say(f"Sorted by {long}", f"by {short}")
        known = "scored" if self._scored is not None and not self._scored.outdated else ""
        self.query_one("#trace-score", KeyButton).say(*scoring.OFFERED["running" if self._scoring.running else known])
        self.query_one("#trace-found", Painted).show((found_line(self._page, self._shown.cells),))
        self._shown.draw(self._scored)

    def _say(self, words: str, style: str = "value", *, stays: bool | None = None) -> None:
        self._stays = style == "value" if stays is None else stays
        self.query_one("#traces-said", Painted).say(words, style, *scoring.NAMED)

    # -- what keys and buttons do ------------------------------------------------------------------------------------

    @property
    def leaves(self) -> bool:
        """Whether there is something in this tab that Escape leaves."""
        return self.has_class("-rejects") or self.query_one("#trace-search").has_focus or bool(self._searched)

    @property
    def _searched(self) -> str:
        return self.query_one("#trace-search", Input).value

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
        self._begin_anew(self._wanted.next(scored=self._scored is not None))

    def on_trace_list_title_clicked(self, message: TraceList.TitleClicked) -> None:
        self._begin_anew(self._order.sorted_by(message.column))

    @property
    def _order(self) -> Order:
        return self._wanted.of(scored=self._scored is not None)

    def _begin_anew(self, order: Order | None = None) -> None:
        self._wanted = order or self._wanted
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

    def _act_worst(self) -> None:
        token = self._shown.token
        if self._trace is None or token is None:
            return
        order = worst_first(self._trace.positions, self._shown.shading)
        found = next_in(order, token.position)
        if found is None:
            running, heldout = self._scoring.running, self._trace.heldout
            keys = key("traces.score"), key("traces.shade")
            self._say(scoring.not_scored(*keys, scoring=running, heldout=heldout), "label")
        else:
            self._focus(self._shown.text)
            self._shown.text.go(found)

    def _act_worst_of_all(self) -> None:
        self.remove_class("-rejects")
        self._focus(self._shown.text)
        self._find_worst()

    def _find_worst(self) -> None:
        """Go to the next one. Where they are not known yet, go to the first: another scoring begins again."""
        if self._worst:
            self._go_to_worst(next_in(self._worst, self._here))
        elif not self._goes_to_worst:
            self._goes_to_worst = True
            self._requests.ask({"ask": "worst", "limit": _MOST_WORST})

    @property
    def _here(self) -> tuple[int, int]:
        """The trace and the token that is shown, or is gone to: keys may come faster than traces."""
        token = self._shown.token
        shown = (
            (self._trace.prompt_idx, token.position) if self._trace is not None and token is not None else (-1, -1)
        )
        return self._goto or shown

    def _go_to_worst(self, found: tuple[int, int] | None, *, anew: bool = False) -> None:
        """With `anew`, what is shown may be from before the scoring."""
        self._goes_to_worst = False
        if found is None:
            self._say("No token has a value to rank by.", "label")
            return
        at = self._worst.index(found)
        place = at + 1, (at + 1) % len(self._worst) + 1
        keys = key("traces.score"), key("traces.worst-of-all")
        words = scoring.worst_of(self._page, *place, *keys, scoring=self._scoring.running)
        if not anew and self._goto is None and found[0] == self._here[0]:
            self._say(words)
            self._shown.text.go(found[1])
            return
        self._goto, self._once_there = found, words  # not yet: another token is shown until then
        self._requests.ask({"ask": "show", "prompt_idx": found[0]})
        self._list(around=found[0])

    def _act_score(self) -> None:
        self._say("")
        self._scoring.toggle()
        self._draw()

    def on_scoring_line_ended(self, message: ScoringLine.Ended) -> None:
        message.stop()
        ended = message.scoring
        self._worst = []
        self._goto = None
        self._traces.forget()
        # At the worst token, as there is no search.
        begins = not ended.problem and self._wanted == Order() and not self.leaves
        self._goes_to_worst = False
        self._list(around=self._trace.prompt_idx if self._trace and not begins else None)
        if self._trace is not None and not begins:
            self._requests.ask({"ask": "show", "prompt_idx": self._trace.prompt_idx})
        self._draw()
        if ended.problem:
            self._say(ended.problem, "label" if ended.cancelled else "bad", stays=True)
            return
        self._shown.forget_shading()
        self._say(f"{self._scored_words(ended.scored)}.")
        self._just_scored = ended.scored
        if begins:
            self._find_worst()

    def _say_scored(self, traces: int) -> None:
        self._say(f"{self._scored_words(traces)}; {key('traces.worst-of-all')} goes to the worst token.")

    def _scored_words(self, traces: int) -> str:
        return scoring.ended(traces, self._page.total if self._page else None)

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

    def on_trace_list_entered(self, message: TraceList.Entered) -> None:
        message.stop()
        self._focus(self._shown.text)

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        if self._begun:
            self._begin_anew()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self._focus(self._traces)
