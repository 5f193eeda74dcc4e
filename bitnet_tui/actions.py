"""Every action of the app in one table: its keys, its words and where it works. Footer, help and palette read it."""

from dataclasses import dataclass
from typing import Literal

from textual.binding import Binding, BindingType

Where = Literal["app", "list", "welcome", "guide", "experiment", "compare", "checkpoints", "config", "log", "keys"]


@dataclass(frozen=True)
class Action:
    """`name` stands for the method `action_<name>`, with its argument in brackets if it takes one."""

    id: str
    keys: str
    name: str
    label: str
    tooltip: str
    where: Where
    footer: bool = True

    def binding(self) -> Binding:
        first = keys_text(self).split(" ")[0]
        return Binding(
            self.keys, self.name, self.label, show=self.footer, key_display=first, tooltip=self.tooltip, id=self.id
        )


def _at(where: Where, *rows: tuple[str, str, str, str, str, bool]) -> tuple[Action, ...]:
    return tuple(Action(f"{where}.{row[0]}", *row[1:5], where, row[5]) for row in rows)


ACTIONS: tuple[Action, ...] = (
    *_at(
        "list",
        ("open", "enter", "open", "Open", "Open the highlighted experiment", True),
        ("new", "n", "new", "New", "Create an experiment", True),
        ("duplicate", "D", "duplicate", "Duplicate", "Create one with the settings of the highlighted one", True),
        ("demo", "d", "demo", "Demo", "Open the demo; it needs no key", False),
    ),
    *_at("welcome", ("new", "n", "new", "New experiment", "Create an experiment with your own teacher", True)),
    *_at(
        "guide",
        ("next", "ctrl+n", "skip", "Next step", "Go to the next step, whatever is missing in this one", False),
        ("back", "ctrl+b", "back", "Step before", "Go back a step; nothing that was typed is lost", False),
        ("test", "ctrl+t", "test", "Test", "Ask the teacher for a few tokens, or try the storage target", False),
        ("create", "ctrl+s", "create", "Create", "Create the experiment as it is now", False),
        ("leave", "escape", "leave", "Leave", "End a test, or leave; the draft is kept", False),
    ),
    *_at(
        "experiment",
        ("run", "r", "launch", "Run stage", "Run the selected stage, or continue it where it stopped", True),
        ("resume", "r", "resume", "Resume", "Run the selected stage, or continue it where it stopped", True),
        ("pipeline", "p", "pipeline", "Pipeline", "Run all stages in order, skipping what is done", True),
        (
            "stop",
            "s",
            "stop",
            "Stop",
            "Stop what is running; it saves its work. Press again after 20 s to kill it",
            True,
        ),
        ("follow", "f", "follow", "Follow", "Always show the stage that is running", True),
        ("live", "1", "view('live')", "Live", "Curves and numbers", False),
        ("reports", "3", "view('reports')", "Reports", "Tables: QEI, quality, memory; generated texts", False),
        ("checkpoints", "4", "view('checkpoints')", "Checkpoints", "Resume, flip or export from one", False),
        ("storage", "5", "view('storage')", "Storage", "The copy on a storage target", False),
        ("config", "6", "view('config')", "Config", "Every setting: where it comes from; change one", False),
        ("log", "7", "view('log')", "Log", "All messages of the run", False),
        ("page-down", "pagedown", "scroll('page_down')", "Page down", "Scroll the open tab", False),
        ("page-up", "pageup", "scroll('page_up')", "Page up", "Scroll back", False),
        ("top", "home", "scroll('home')", "Top", "Scroll to the beginning", False),
        ("bottom", "end", "scroll('end')", "End", "Scroll to the end", False),
        ("push", "u", "store('push')", "Push the copy", "Bring the copy on the storage target up to date now", False),
        (
            "verify",
            "v",
            "store('verify')",
            "Verify the copy",
            "Compare every stored byte with what was stored",
            False,
        ),
        ("pull", "g", "store('pull')", "Pull the copy", "Bring files of the copy here; asks first", False),
        ("settings", "e", "edit_settings", "Edit settings", "Open the experiment's .env in your editor", False),
        ("curve", "c", "curve(1)", "Next chart", "Show the next chart alone; after the last one, all again", False),
        ("curve-back", "C", "curve(-1)", "Chart before", "Show the chart before alone", False),
        ("log-scale", "y", "log_scale", "Log scale", "Axis of losses and gradient: linear or logarithmic", False),
        ("axis", "b", "axis", "By tokens, step, time", "Draw by seen tokens, by steps, or by time trained", False),
        ("crosshair", "x", "crosshair", "Crosshair", "Show the values at a place, or stop that", False),
        ("later", "full_stop,greater_than_sign", "chart_move(1)", "Later", "Move crosshair or charts on", False),
        ("earlier", "comma,less_than_sign", "chart_move(-1)", "Earlier", "Move crosshair or charts back", False),
        ("zoom-in", "plus,equals_sign", "chart_zoom(1)", "Zoom in", "Show half as long a stretch; wheel", False),
        ("zoom-out", "minus", "chart_zoom(-1)", "Zoom out", "Show twice as long a stretch; wheel", False),
        ("whole", "0", "whole", "Whole run", "Show the whole run again", False),
        ("older", "left_square_bracket", "older", "Older run", "Show the previous run of this stage", False),
        ("newer", "right_square_bracket", "newer", "Newer run", "Show the next run of this stage", False),
        ("report", "R", "save_report", "Save report", "Write a self-contained HTML page into its reports", False),
        (
            "compare",
            "V",
            "compare_with",
            "Compare with…",
            "Compare it with others, or with older trainings",
            False,
        ),
        ("back", "escape", "dismiss", "Back", "Back to the list of experiments", True),
    ),
    *_at(
        "compare",
        ("curve", "c", "curve(1)", "Next chart", "Draw the next figure", True),
        ("curve-back", "C", "curve(-1)", "Chart before", "Draw the figure before", False),
        ("axis", "b", "axis", "By tokens, step, time", "Draw by seen tokens, by steps, or by time trained", True),
        ("log-scale", "y", "log_scale", "Log scale", "Axis of losses and gradient: linear or logarithmic", False),
        ("crosshair", "x", "crosshair", "Crosshair", "Show the values at a place, or stop that", False),
        ("later", "full_stop,greater_than_sign", "chart_move(1)", "Later", "Move crosshair or chart on", False),
        ("earlier", "comma,less_than_sign", "chart_move(-1)", "Earlier", "Move crosshair or chart back", False),
        ("zoom-in", "plus,equals_sign", "chart_zoom(1)", "Zoom in", "Show half as long a stretch; wheel", False),
        ("zoom-out", "minus", "chart_zoom(-1)", "Zoom out", "Show twice as long a stretch; wheel", False),
        ("whole", "0", "whole", "Whole run", "Show all of it again", False),
        ("page-down", "pagedown", "scroll('page_down')", "Page down", "Scroll the tables", False),
        ("page-up", "pageup", "scroll('page_up')", "Page up", "Scroll the tables back", False),
        ("back", "escape", "dismiss", "Back", "Back to where you came from", True),
    ),
    *_at(
        "checkpoints",
        ("resume", "T", "checkpoint('resume')", "Resume from here", "Train on from the highlighted one; asks", False),
        ("flip", "F", "checkpoint('flip')", "Flip from here", "Go to 4 bits at the highlighted one; asks", False),
        ("export", "E", "checkpoint('export')", "Export", "Write it for llama.cpp or transformers", False),
    ),
    *_at(
        "config",
        ("filter", "slash", "config('filter')", "Filter settings", "Show the settings that have these words", False),
        ("only", "d", "config('only')", "Only differences", "Show only what differs, or everything", False),
        ("against", "o", "config('against')", "Compare settings", "Compare with another experiment", False),
        ("unset", "delete", "config('unset')", "Unset", "Go back to the setting's default; Enter saves that", False),
        ("leave", "escape", "config('leave')", "Leave the field", "Stop changing a setting; nothing is saved", False),
    ),
    *_at(
        "log",
        ("search", "slash", "log('search')", "Search the log", "Find words; Enter goes to the newest place", False),
        ("next", "n", "log('next')", "Next place", "Go to the next line that was found", False),
        ("before", "N", "log('before')", "Place before", "Go to the line before that was found", False),
        ("level", "m", "log('level')", "Level", "Show all messages, info, warnings or only errors", False),
        ("follow", "F", "log('follow')", "Follow the log", "Keep the newest line in sight, or stay", False),
        ("wrap", "w", "log('wrap')", "Wrap", "Show long lines whole, or each in one line", False),
        ("copy", "Y", "log('copy')", "Copy the log", "Copy all lines that are shown", False),
        ("leave", "escape", "log('leave')", "Leave the field", "Go from the search to the lines", False),
    ),
    *_at(
        "keys",
        ("set", "enter", "set", "Set", "Type or paste the highlighted key", False),
        ("move", "m", "move", "Move", "Move it out of .env into the OS keyring or the vault", False),
        ("delete", "x,delete", "delete", "Delete", "Delete the highlighted key where it is kept", False),
        ("close", "escape,q", "dismiss", "Close", "Back to the previous screen", False),
    ),
    *_at(
        "app",
        ("keys", "a", "keys", "API keys", "Where each API key is kept; set, move or delete one", True),
        ("theme", "t", "next_theme", "Dark or light", "Switch between the dark and the light theme", False),
        ("help", "question_mark,f1", "help", "Help", "What each key does", True),
        ("quit", "q,ctrl+q", "quit", "Quit", "Leave; runs continue", True),
    ),
)
QUIT_KEYS = frozenset(key for one in ACTIONS if one.id == "app.quit" for key in one.keys.split(","))
TITLES: dict[Where, str] = {
    "list": "Experiments",
    "welcome": "Welcome",
    "experiment": "One experiment",
    "compare": "Comparison",
    "checkpoints": "The tab Checkpoints",
    "config": "The tab Config",
    "log": "The tab Log",
    "guide": "New experiment",
    "keys": "API keys",
    "app": "Everywhere",
}
_SHOWN = {
    "question_mark": "?",
    "left_square_bracket": "[",
    "right_square_bracket": "]",
    "escape": "esc",
    "slash": "/",
    "full_stop": ".",
    "greater_than_sign": ">",
    "comma": ",",
    "less_than_sign": "<",
    "plus": "+",
    "equals_sign": "=",
    "minus": "-",
}


def bindings(where: Where) -> list[BindingType]:
    """The bindings of a screen or of the app."""
    return [action.binding() for action in ACTIONS if action.where == where]


def keys_text(action: Action) -> str:
    """Its keys as they are shown: `? f1`."""
    return " ".join(_SHOWN.get(key, key) for key in action.keys.split(","))
