"""The command palette: everything that can be done from the screen below it, found by name.

Actions come first, then screens, experiments, themes and settings. What works elsewhere alone is found, too: it
stands last and faint, with the place where it works.
"""

import asyncio
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple, cast

from textual.actions import parse
from textual.command import DiscoveryHit, Hit, Hits, Provider
from textual.content import Content
from textual.fuzzy import Matcher

from bitnet_core.errors import BitnetError
from bitnet_core.runs.experiment import Workspace
from bitnet_core.settings.registry import REGISTRY
from bitnet_core.text import crop, flat, width
from bitnet_tui.actions import Action
from bitnet_tui.key_names import keys_text
from bitnet_tui.keymap import remapped
from bitnet_tui.labels import title
from bitnet_tui.remedies import in_app
from bitnet_tui.shell import Shell
from bitnet_tui.theme import STYLES
from bitnet_tui.themes import THEMES

_PLACES = {
    "list": "on Home, the table of experiments",
    "welcome": "on the welcome page",
    "guide": "in the guide for a new experiment",
    "experiment": "in an experiment",
    "compare": "in a comparison",
    "traces": "in an experiment's Traces tab",
    "checkpoints": "in an experiment's Checkpoints tab",
    "config": "in an experiment's Config tab",
    "log": "in an experiment's Log tab",
    "play": "in the playground",
    "keys": "in the API keys dialog",
}
_TABS = ("traces", "checkpoints", "config", "log")
_NOT_NOW = {
    "experiment.stop": "while a stage runs",
    "experiment.pipeline": "while the pipeline does not run",
    "experiment.follow": "while a stage other than the running one is shown",
}
_ON_LIVE = frozenset(
    {"curve", "log_scale", "smooth", "curves", "axis", "crosshair", "chart_move", "chart_zoom", "whole"}
)
"""Actions on charts, which the Live tab has."""
_FROM_HOME = frozenset({"list.fetch", "list.filter", "list.benchmarks"})
"""Actions of Home that need no row, so going there is all that they need."""
_THIS = "app.actions"
"""What opens the palette."""
_CARD_COLUMNS, _AROUND = 120, 7
"""How wide palette.tcss makes the palette, and what a line of its list leaves to frame, edges and scroll bar."""
_NAME_COLUMNS, _GAP, _LEAST_ABOUT = 22, "  ", 8
"""Where what is about an action begins, unless its name is longer; and the fewest cells of it that say something."""
_BY_NAME = 4
"""The group of what is found by its name alone."""
_MORE, _MORE_ABOUT = "Type to find more", "experiments, settings, themes, actions of other screens"


class Found(NamedTuple):
    """Something to do. `group` says how far down it stands; with `where`, it works there alone and not here."""

    label: str
    about: str
    run: Callable[[], object]
    group: int
    keys: str = ""
    where: str = ""


class ActionCommands(Provider):
    """Offers what can be done from the screen."""

    _experiments: tuple[Path, ...] = ()

    async def startup(self) -> None:
        self._experiments = await asyncio.to_thread(_experiments, self._shell.home)

    @property
    def _shell(self) -> Shell:
        return cast("Shell", self.app)

    @property
    def _columns(self) -> int:
        """Of a line of the list, so that none is broken."""
        return min(_CARD_COLUMNS, self.app.size.width) - _AROUND

    def _line(self, one: Found, name: Content | None = None) -> Content:
        """Its name, what it is about in the room that there is, and its keys at the right, on one line."""
        room = self._columns - (width(one.keys) + len(_GAP) if one.keys else 0)
        label = crop(one.label, room)
        first = Content(label) if name is None or label != one.label else name
        before = max(_NAME_COLUMNS, width(label)) + len(_GAP)
        about = crop(f"only {one.where}. {one.about}" if one.where else one.about, max(0, room - before))
        if room - before < _LEAST_ABOUT:
            before, about = width(label), ""
        told = f"{' ' * (before - width(label))}{about}"
        rest = f"{told}{' ' * (self._columns - width(label) - width(told) - width(one.keys))}{one.keys}".rstrip()
        style = STYLES["faint" if one.where else "label"]
        return Content.assemble(first.stylize(style) if one.where else first, (rest, f"not bold {style}"))

    async def discover(self) -> Hits:
        for one in (*self._actions(), *self._goings()):
            if not one.where:
                yield DiscoveryHit(self._line(one), one.run, text=one.label)
        more = Found(_MORE, _MORE_ABOUT, lambda: None, 1)
        yield DiscoveryHit(self._line(more), more.run, text=_MORE)

    async def search(self, query: str) -> Hits:
        matcher = self.matcher(query)
        for one in (*self._actions(), *self._goings(), *self._themes(), *self._settings()):
            score = _score(one, query, matcher)
            if score > 0:
                name = None if one.where else matcher.highlight(one.label)
                yield Hit(score, self._line(one, name), one.run, one.label)

    # -- what there is -----------------------------------------------------------------------------------------------

    def _actions(self) -> Iterator[Found]:
        """Every action once, first those of this screen; of two with the same name, that which works here."""
        here = {(binding.id or "").split(".")[0] for _, binding in self.screen._bindings} | {"app"}
        every = [(one, self._where(one, here)) for one in remapped(self._shell.keymap.keys) if one.name]
        own = {one.name for one, _ in every if one.where in here}
        every = [(one, where) for one, where in every if one.where in here or where or one.name not in own]
        every.sort(key=lambda found: found[0].where not in here)
        possible = {(one.label, one.name) for one, where in every if where == ""}
        told: set[tuple[str, str]] = set()
        for one, where in every:
            names = (one.label, one.name)
            if where is None or one.id == _THIS or names in told or (where and names in possible):
                continue
            if not where and one.where not in here and one.name in {name for _, name in told}:
                continue  # of Home and of the welcome page
            told.add(names)
            run = partial(self._tell, f"{one.label}: only {where}.") if where else self._run(one, here)
            yield Found(one.label, one.tooltip, run, 0, keys_text(one), where)

    def _where(self, action: Action, here: set[str]) -> str | None:
        """Empty if it can be carried out here; else where it can be; None if there is nothing to tell."""
        _, name, parameters = parse(action.name)
        if action.where not in here:
            works = action.id in _FROM_HOME or (
                action.where in ("list", "welcome") and self._has(name, "new", "demo")
            )
            if works:
                return ""
            return None if action.keys.startswith("escape") else _PLACES[action.where]
        if action.where in _TABS:
            return None if parameters == ("leave",) else ""
        target = self.app if action.where == "app" else self.screen
        allowed = target.check_action(name, parameters)
        return "" if allowed else _NOT_NOW.get(action.id)

    def _has(self, name: str, *names: str) -> bool:
        return name in names and hasattr(self.screen, f"action_{name}")

    def _goings(self) -> Iterator[Found]:
        shell, here = self._shell, getattr(self.screen, "root", None)
        if len(self.app.screen_stack) > 2:  # the list, a screen over it, and the palette
            yield Found("Home", "Go to the table of experiments", shell.go_home, 1)
        for root in self._experiments:
            if root != here:
                yield Found(f"Open {flat(root.name)}", "Go to this experiment", partial(shell.go_to, root), 1)

    def _themes(self) -> Iterator[Found]:
        for label, (theme, about) in THEMES.items():
            yield Found(f"Theme: {label}", about, partial(self._shell.use_theme, theme.name), 2)

    def _settings(self) -> Iterator[Found]:
        in_one = hasattr(self.screen, "action_setting")
        for name, one in REGISTRY.items():
            words = f"{'API key' if one.secret else 'Setting'}: {title(name)} · {name}"
            if one.secret and not self.app.check_action("keys", ()):
                continue
            if one.secret:
                yield Found(words, in_app(one.help), self._app_action("keys"), _BY_NAME)
            elif in_one:
                yield Found(words, in_app(one.help), self._action(f"setting({name!r})"), 3)
            else:
                where = _PLACES["config"]
                tell = partial(self._tell, f"“{title(name)}” is set {where}; open one first.")
                yield Found(words, in_app(one.help), tell, _BY_NAME, where=where)

    # -- doing it ----------------------------------------------------------------------------------------------------

    def _run(self, action: Action, here: set[str]) -> Callable[[], object]:
        if action.where == "app":
            return self._app_action(action.name)
        if action.where not in here and action.id in _FROM_HOME:
            return partial(self._at_home, action.name)
        _, name, _ = parse(action.name)
        tab = action.where if action.where in _TABS else "live" if name in _ON_LIVE else ""
        return self._action(*([f"view({tab!r})"] if tab and "experiment" in here else []), action.name)

    def _action(self, *names: str) -> Callable[[], object]:
        async def run() -> None:
            for name in names:
                await self.screen.run_action(name)

        return run

    def _app_action(self, name: str) -> Callable[[], object]:
        return partial(self.app.run_action, name)

    async def _at_home(self, name: str) -> None:
        self._shell.go_home()
        await self.app.screen.run_action(name)

    def _tell(self, words: str) -> None:
        self.app.notify(words, severity="warning")


def _experiments(home: Path) -> tuple[Path, ...]:
    try:
        return tuple(one.absolute() for one in Workspace(home).experiments())
    except (BitnetError, OSError):
        return ()


def _score(one: Found, query: str, matcher: Matcher) -> float:
    """0 if it is not meant. Names come before descriptions, words before scattered letters, then what works here."""
    wanted, label, about = query.lower().split(), one.label.lower(), one.about.lower()
    begun = label.replace("_", " ").split()
    if label.startswith(query.lower().strip()):
        found = 50
    elif all(any(part.startswith(word) for part in begun) for word in wanted):
        found = 40
    elif all(word in label for word in wanted):
        found = 30
    elif one.group < _BY_NAME and all(word in label or word in about for word in wanted):
        found = 20
    elif one.group < 3 and not one.where and matcher.match(one.label) > 0:
        found = 10
    else:
        return 0.0
    return found + (9 - one.group if not one.where else -one.group / 20)
