"""Every action of the app in one table: its keys, its words and where it works. Footer, help and palette read it.

It knows no Textual, so that view models can name a key: `bindings.py` makes bindings of it.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple

Where = Literal[
    "app",
    "list",
    "welcome",
    "guide",
    "experiment",
    "compare",
    "traces",
    "checkpoints",
    "config",
    "log",
    "play",
    "keys",
    "move",
    "field",
    "dialog",
]


class Action(NamedTuple):
    """`name` stands for the method `action_<name>`, with its argument in brackets if it takes one.

    It is empty where each widget has a method of its own, as for keys that move.
    """

    id: str
    keys: str
    name: str
    label: str
    tooltip: str
    where: Where
    footer: bool = True


def _at(where: Where, *rows: tuple[str, str, str, str, str, bool]) -> tuple[Action, ...]:
    return tuple(Action(f"{where}.{row[0]}", *row[1:5], where, row[5]) for row in rows)


ACTIONS: tuple[Action, ...] = (
    *_at(
        "list",
        ("open", "enter", "open", "Open", "Open the highlighted experiment", True),
        ("new", "n", "new", "New", "Create an experiment", True),
        (
            "filter",
            "slash",
            "filter",
            "Filter",
            "Show only what has these words: name, teacher, student, state",
            True,
        ),
        ("mark", "space", "mark", "Mark", "Mark the highlighted experiment, or unmark it; click on its circle", True),
        ("compare", "c", "compare", "Compare", "Show the marked experiments beside each other", True),
        ("duplicate", "D", "duplicate", "Duplicate", "Create one with the settings of the highlighted one", False),
        ("play", "P", "play", "Playground", "Ask teacher and student of the highlighted experiment", False),
        ("benchmarks", "B", "benchmarks", "Benchmarks", "Public benchmarks: which are here; fetch others", False),
        ("rename", "r,f2", "rename", "Rename", "Give the highlighted experiment another name", False),
        (
            "archive",
            "A",
            "archive",
            "Archive",
            "Hide the marked experiments, or take them back; deletes nothing",
            False,
        ),
        (
            "delete",
            "x,delete",
            "delete",
            "Delete",
            "Delete the marked experiments from this machine; asks first",
            False,
        ),
        ("fetch", "U", "fetch", "Fetch", "Open an experiment from a storage target", False),
        ("clear", "escape", "clear", "Clear", "Undo the filter, or else the marks", False),
        ("sort", "o", "sort(1)", "Sort", "Sort by the next column; click on a title", False),
        ("sort-back", "O", "sort(0)", "Turn", "Turn the order round", False),
        ("archived", "H", "show_archived", "Archived", "Show archived experiments too, or hide them again", False),
        ("demo", "d", "demo", "Demo", "Open the demo; it needs no key", False),
    ),
    *_at(
        "welcome",
        ("new", "n", "new", "New experiment", "Create an experiment with your own teacher", True),
        ("fetch", "U", "fetch", "Fetch", "Open an experiment from a storage target", True),
    ),
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
        ("traces", "2", "view('traces')", "Traces", "What was collected, token by token", False),
        ("reports", "3", "view('reports')", "Reports", "Tables: QEI, quality, memory; generated texts", False),
        ("checkpoints", "4", "view('checkpoints')", "Checkpoints", "Resume, flip or export from one", False),
        ("storage", "5", "view('storage')", "Storage", "The copy on a storage target", False),
        ("config", "6", "view('config')", "Config", "Every setting: where it comes from; change one", False),
        ("log", "7", "view('log')", "Log", "All messages of the run", False),
        ("page-down", "pagedown", "scroll('page_down')", "Page down", "Scroll the open tab", False),
        ("page-up", "pageup", "scroll('page_up')", "Page up", "Scroll back", False),
        ("top", "home,g", "scroll('home')", "Top", "Scroll to the beginning", False),
        ("bottom", "end,G", "scroll('end')", "End", "Scroll to the end", False),
        ("target", "W", "target", "Storage target", "Where it is kept as well: choose, log in, test", False),
        ("push", "u", "store('push')", "Push the copy", "Bring the copy on the storage target up to date now", False),
        (
            "verify",
            "v",
            "store('verify')",
            "Verify the copy",
            "Compare every stored byte with what was stored",
            False,
        ),
        ("pull", "U", "store('pull')", "Pull the copy", "Bring files of the copy here; asks first", False),
        ("repair", "M", "store('repair')", "Repair the copy", "Send again what is damaged there; asks first", False),
        (
            "overwrite",
            "X",
            "store('overwrite')",
            "Push over it",
            "Replace what others have stored; asks first",
            False,
        ),
        ("replace", "Z", "store('replace')", "Pull over mine", "Pull, and move what was changed aside; asks", False),
        ("settings", "e", "edit_settings", "Edit settings", "Open the experiment's .env in your editor", False),
        ("curve", "c", "curve(1)", "Next chart", "Show the next chart alone; after the last one, all again", False),
        ("curve-back", "C", "curve(-1)", "Chart before", "Show the chart before alone", False),
        ("log-scale", "L", "log_scale", "Log scale", "Axis of losses and gradient: linear or logarithmic", False),
        ("smooth", "m", "smooth", "Smoothing", "Draw curves as they were measured, smoothed, or smoother", False),
        ("curves", "o", "curves", "Curves…", "Hide a curve or show it again; click on its mark", False),
        ("axis", "b", "axis", "By tokens, step, time", "Draw by seen tokens, by steps, or by time trained", False),
        ("crosshair", "x", "crosshair", "Crosshair", "Show the values at a place, or stop that", False),
        ("later", "full_stop,greater_than_sign", "chart_move(1)", "Later", "Move crosshair or charts on", False),
        ("earlier", "comma,less_than_sign", "chart_move(-1)", "Earlier", "Move crosshair or charts back", False),
        ("zoom-in", "plus,equals_sign", "chart_zoom(1)", "Zoom in", "Show half as long a stretch; wheel", False),
        ("zoom-out", "minus", "chart_zoom(-1)", "Zoom out", "Show twice as long a stretch; wheel", False),
        ("whole", "0", "whole", "Whole run", "Show the whole run again", False),
        ("older", "left_square_bracket", "older", "Older run", "Show the previous run of this stage", False),
        ("newer", "right_square_bracket", "newer", "Newer run", "Show the next run of this stage", False),
        (
            "report",
            "R",
            "save_report",
            "Save report",
            "Write a page, or curves as CSV, SVG or PNG, into its reports",
            False,
        ),
        (
            "compare",
            "V",
            "compare_with",
            "Compare with…",
            "Compare it with others, or with older trainings",
            False,
        ),
        ("play", "P", "play", "Playground", "Ask teacher and student, and look behind their tokens", False),
        ("benchmarks", "B", "benchmarks", "Benchmarks", "Public benchmarks: which are here; fetch others", False),
        ("back", "escape", "dismiss", "Back", "Back to the list of experiments", True),
    ),
    *_at(
        "compare",
        ("curve", "c", "curve(1)", "Next chart", "Draw the next figure", True),
        ("curve-back", "C", "curve(-1)", "Chart before", "Draw the figure before", False),
        ("axis", "b", "axis", "By tokens, step, time", "Draw by seen tokens, by steps, or by time trained", True),
        ("log-scale", "L", "log_scale", "Log scale", "Axis of losses and gradient: linear or logarithmic", False),
        ("smooth", "m", "smooth", "Smoothing", "Draw curves as they were measured, smoothed, or smoother", False),
        ("curves", "o", "curves", "Curves…", "Hide a training's curve or show it again; click on its letter", False),
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
        "traces",
        ("worst", "n", "traces('worst')", "Worst token", "Go to the next worst token of this trace", False),
        ("worst-of-all", "N", "traces('worst_of_all')", "Worst of all", "Go to the next worst token of all", False),
        ("search", "slash", "traces('search')", "Search traces", "Show the traces that have this text", False),
        ("order", "o", "traces('order')", "Order", "List by number, or those with the largest mean first", False),
        ("shade", "c", "traces('shade')", "Shade by", "Shade tokens by KL of the student or by Other", False),
        (
            "score",
            "S",
            "traces('score')",
            "Score",
            "Compare the newest student with the teacher token by token",
            False,
        ),
        ("rejects", "R", "traces('rejects')", "Rejected answers", "Show why answers were rejected, or traces", False),
        ("check", "i", "traces('check')", "Check traces", "Look at every row for what breaks a rule", False),
        ("leave", "escape", "traces('leave')", "Leave", "Leave the search, or what was rejected", False),
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
        (
            "unset",
            "delete",
            "config('unset')",
            "Unset",
            "Take it out of the experiment's .env, so that its default counts",
            False,
        ),
        ("leave", "escape", "config('leave')", "Leave the field", "Stop changing a setting; nothing is saved", False),
    ),
    *_at(
        "play",
        ("prompt", "i,enter", "prompt", "Type", "Type a prompt; enter asks, ctrl+j begins a new line", True),
        ("stop", "s", "stop", "Stop", "Stop both answers; what is there is kept", True),
        ("again", "r", "again", "Again", "Ask the same prompt again, with the next seed", True),
        ("bits", "b", "bits", "A8/A4", "The student's activations: as trained, 8 bits, 4 bits", True),
        ("whom", "w", "whom", "Whom to ask", "Ask both, only the student, or only the teacher", False),
        ("token", "right,l", "token(1)", "Next token", "Look behind the next token", False),
        ("token-back", "left,h", "token(-1)", "Token before", "Look behind the token before", False),
        ("token-down", "down,j", "token_row(1)", "Row below", "Look behind the token below", False),
        ("token-up", "up,k", "token_row(-1)", "Row above", "Look behind the token above", False),
        ("token-page-down", "pagedown", "token_row(8)", "8 rows below", "Look behind the token 8 rows below", False),
        ("token-page-up", "pageup", "token_row(-8)", "8 rows above", "Look behind the token 8 rows above", False),
        ("token-first", "home", "token_end(False)", "First token", "Look behind the first token", False),
        ("token-last", "end", "token_end(True)", "Last token", "Look behind the last token", False),
        ("worst", "n", "worst", "Next worst", "Go to the teacher's token that the student finds least likely", False),
        ("older", "left_square_bracket", "history(-1)", "Earlier prompt", "Show an earlier prompt's answers", False),
        ("newer", "right_square_bracket", "history(1)", "Later prompt", "Show a later prompt's answers", False),
        ("copy", "y", "copy", "Copy", "Copy the answer of the side with the cursor", True),
        *(
            (f"try-{n}", f"{n}", f"try_prompt({n - 1})", f"Try prompt {n}", f"Ask prompt {n} of five", False)
            for n in range(1, 6)
        ),
        ("leave", "escape", "leave", "Back", "Out of a field, or back", True),
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
        ("disallow", "d", "disallow", "Take back", "No longer allow it to go to addresses that you allowed", False),
        ("close", "escape,q", "dismiss", "Close", "Back to the previous screen", False),
    ),
    *_at(
        "move",
        ("up", "up,k", "", "Up", "The row, line, stage or choice above; on a chart, zoom in", False),
        ("down", "down,j", "", "Down", "The one below; on a chart, zoom out", False),
        ("left", "left,h", "", "Left", "The token, stage, value or button before; on a chart, earlier", False),
        ("right", "right,l", "", "Right", "The next one, or into the row; on a chart, later", False),
        ("far_left", "shift+left,minus", "", "Far left", "Ten steps to the left on the bar of the flip", False),
        ("far_right", "shift+right,plus", "", "Far right", "Ten steps to the right", False),
        ("page_up", "pageup", "", "Page up", "A page up", False),
        ("page_down", "pagedown", "", "Page down", "A page down", False),
        ("first", "home,g", "", "First", "To the beginning", False),
        ("last", "end,G", "", "Last", "To the end", False),
    ),
    *_at(
        "field",
        ("previous", "up", "", "Field before", "To the field before, in a form", False),
        ("next", "down", "", "Next field", "To the next field", False),
        ("cancel", "escape", "", "Cancel", "Leave the form, with nothing done", False),
    ),
    *_at(
        "dialog",
        ("close", "escape,q", "", "Close", "Close what lies over the screen, with nothing done", False),
        ("yes", "y", "", "Yes", "Say yes to a question", False),
        ("no", "escape,n", "", "No", "Say no", False),
    ),
    *_at(
        "app",
        ("keys", "a", "keys", "API keys", "Where each API key is kept; set, move or delete one", True),
        ("theme", "t", "themes", "Theme", "Choose one of six themes; each is shown as you move over it", False),
        (
            "copy",
            "y",
            "copy",
            "Copy",
            "Copy what one is on, or what the mouse has selected",
            False,
        ),
        (
            "settings",
            "f3",
            "app_settings",
            "Settings",
            "Theme, notices, keys and folder, each with its origin",
            False,
        ),
        ("keymap", "K", "keymap", "Keys", "Every action with its keys, and the file that gives it others", False),
        (
            "actions",
            "ctrl+p",
            "command_palette",
            "All actions",
            "All that can be done here, to be clicked on or found by name",
            False,
        ),
        ("help", "question_mark,f1", "help", "Help", "What each key does", True),
        ("quit", "q,ctrl+q", "quit", "Quit", "Leave; runs continue", True),
    ),
)
TITLES: dict[Where, str] = {
    "list": "Experiments",
    "welcome": "Welcome",
    "experiment": "One experiment",
    "compare": "Comparison",
    "traces": "The tab Traces",
    "checkpoints": "The tab Checkpoints",
    "config": "The tab Config",
    "log": "The tab Log",
    "guide": "New experiment",
    "play": "Playground",
    "keys": "API keys",
    "app": "Everywhere",
    "move": "Lists, texts, charts",
    "field": "Fields of a form",
    "dialog": "Dialogs",
}
_SHOWN = {
    "delete": "del",
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


def offers(where: Where, remapped: Mapping[str, str]) -> tuple[tuple[str, str, str], ...]:
    """Key, word and action of what the screen's footer has no room for."""
    rows = [one for one in ACTIONS if one.where == where and not one.footer and one.keys != "escape"]
    found = tuple((first_key(one.id, remapped), one.label.lower(), one.name) for one in rows)
    own = by_id("app.settings")
    return (*found, (first_key(own.id, remapped), own.label.lower(), f"app.{own.name}"))


def by_id(name: str) -> Action:
    return next(one for one in ACTIONS if one.id == name)


def shown(key: str) -> str:
    """A key of Textual as it is shown."""
    return _SHOWN.get(key, key)


def first_key(name: str, remapped: Mapping[str, str]) -> str:
    """The key to name for an action, as it is shown; `remapped` has the user's own keys."""
    keys = remapped.get(name) or by_id(name).keys
    first = keys.split(",")[0]
    return shown(first)


_own: Mapping[str, str] = {}


def use(keys: Mapping[str, str]) -> None:
    """From now on sentences name these keys of the user, by the ids of actions: one process has one user."""
    global _own
    _own = keys


def key(name: str) -> str:
    """The key to name for an action in a sentence, as the user has it."""
    return first_key(name, _own)


def keys_text(action: Action) -> str:
    """Its keys as they are shown: `? f1`."""
    return " ".join(map(shown, action.keys.split(",")))
