"""Scoring in the Traces tab, and the way to the tokens where the student errs most. `traces_pane.py` has the rest."""

from pathlib import Path

from textual.containers import Vertical
from textual.widget import Widget
from textual.widgets import Input

from bitnet_tui.key_names import key
from bitnet_tui.view.places import TracesPlace
from bitnet_tui.view.traces import scoring
from bitnet_tui.view.traces.columns import Order
from bitnet_tui.view.traces.found import Page, Scored, Trace, next_in, worst_first
from bitnet_tui.widgets.painted import Painted
from bitnet_tui.widgets.scoring_line import ScoringLine
from bitnet_tui.widgets.trace_list import PAGE, TraceList
from bitnet_tui.widgets.trace_messages import Request
from bitnet_tui.widgets.trace_requests import TraceRequests
from bitnet_tui.widgets.trace_shown import TraceShown

_MOST_WORST = 500


class WorstTokens(Vertical):
    """What the tab knows of the list, the trace that is shown and the worst tokens, and where it goes."""

    def __init__(self, home: Path, root: Path) -> None:
        super().__init__(id="traces")
        self._home, self._root = home, root
        self._requests = TraceRequests(self, home, root)
        self._place = TracesPlace()
        self._page: Page | None = None
        self._scored: Scored | None = None
        self._goto: tuple[int, int] | None = None
        self._once_there = ""
        """The trace and the token to go to as soon as it is there."""
        self._worst: list[tuple[int, int]] = []
        self._goes_to_worst = False
        """Whether to go to the worst of all tokens as soon as they are known, unless one goes elsewhere before."""
        self._rescored = False
        """Whether a scoring has ended whose scores are not read yet: they decide which token is the worst."""
        self._stays = False
        """Whether what is said at the foot stays until one goes on, or only until the list is read."""

    def _draw(self) -> None:
        raise NotImplementedError

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
        order, search = self._place.order.fields, self._searched
        request: Request = {"ask": "list", "search": search, "offset": offset, "limit": PAGE, **order}
        if around is not None:
            self._traces.seek(around)
            request["around"] = around
        self._requests.ask(request)

    @property
    def _order(self) -> Order:
        return self._place.order.of(scored=self._scored is not None)

    @property
    def leaves(self) -> bool:
        """Whether there is something in this tab that Escape leaves."""
        return self.has_class("-rejects") or self.query_one("#trace-search").has_focus or bool(self._searched)

    @property
    def _searched(self) -> str:
        return self.query_one("#trace-search", Input).value

    # -- saying and going -------------------------------------------------------------------------------------------

    def _say(self, words: str, style: str = "value", *, stays: bool | None = None) -> None:
        self._stays = style == "value" if stays is None else stays
        self.query_one("#traces-said", Painted).say(words, style, *scoring.NAMED)

    def _focus(self, widget: Widget) -> None:
        """At once: what is typed next may be there already."""
        self.screen.set_focus(widget)

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
            self._say(scoring.LOOKING, "label", stays=True)
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
        self._place.order_before_scores = self._place.order if self._scored is None else None
        self._scoring.toggle()
        self._draw()

    def on_scoring_line_ended(self, message: ScoringLine.Ended) -> None:
        message.stop()
        ended = message.scoring
        self._worst = []
        self._goto = None
        self._traces.forget()
        # Begin at the worst token, unless one searches or has chosen another order meanwhile.
        sorts = self._place.order in (Order(), self._place.order_before_scores)
        begins = not ended.problem and sorts and not self.leaves
        if begins:
            self._place.order = Order()
        self._rescored = not ended.problem
        self._goes_to_worst = False
        self._list(around=self._trace.prompt_idx if self._trace and not begins else None)
        if self._trace is not None and not begins:
            self._requests.ask({"ask": "show", "prompt_idx": self._trace.prompt_idx})
        self._draw()
        if ended.problem:
            self._say(ended.problem, "label" if ended.cancelled else "bad", stays=True)
            return
        self._shown.forget_shading()
        words = scoring.ended(ended.scored, self._page.total if self._page else None)
        if begins:
            self._find_worst()
            self._say(f"{words}; going to the worst token…")
        else:
            self._say(f"{words}; {key('traces.worst-of-all')} goes to the worst token.")
