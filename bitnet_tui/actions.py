"""Every action of the app in one table: its keys, its words and where it works. Footer, help and palette read it.

It knows no Textual: `bindings.py` makes bindings of it, and `key_names.py` names its keys.
"""

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
    footer: bool


Row = tuple[str, str, str, str, str]
"""An action's name in its place, its keys, its method, its label and its tooltip."""


def _at(where: Where, *rows: Row, footer: str = "") -> tuple[Action, ...]:
    """The actions of a place; `footer` names those that its footer shows."""
    return tuple(Action(f"{where}.{row[0]}", *row[1:], where, row[0] in footer.split()) for row in rows)


def _looking_at(charts: str) -> tuple[Row, ...]:
    """The actions that show another part of charts."""
    return (
        ("crosshair", "x", "crosshair", "Crosshair", "Show or hide the values at one place"),
        (
            "later",
            "full_stop,greater_than_sign",
            "chart_move(1)",
            "Later",
            f"Move crosshair or {charts} forward; or drag",
        ),
        ("earlier", "comma,less_than_sign", "chart_move(-1)", "Earlier", f"Move crosshair or {charts} back; or drag"),
        ("zoom-in", "plus,equals_sign", "chart_zoom(1)", "Zoom in", "Show half as much; or turn the wheel"),
        ("zoom-out", "minus", "chart_zoom(-1)", "Zoom out", "Show twice as much; or turn the wheel"),
    )


ACTIONS: tuple[Action, ...] = (
    *_at(
        "list",
        ("open", "enter", "open", "Open", "Open the highlighted experiment"),
        ("new", "n", "new", "New", "Create an experiment"),
        (
            "filter",
            "slash",
            "filter",
            "Filter",
            "Show only experiments with these words in name, teacher, student or state",
        ),
        ("mark", "space", "mark", "Mark", "Mark or unmark the highlighted experiment; or click its circle"),
        (
            "compare",
            "V,c",
            "compare",
            "Compare",
            "Compare the marked experiments, or the highlighted one with others",
        ),
        ("duplicate", "D", "duplicate", "Duplicate", "Create one with the settings of the marked or highlighted one"),
        ("play", "P", "play", "Playground", "Ask teacher and student of the highlighted experiment"),
        ("benchmarks", "B", "benchmarks", "Benchmarks", "Public benchmarks: see which are here, fetch others"),
        ("rename", "r,f2", "rename", "Rename", "Give the highlighted experiment another name"),
        (
            "archive",
            "A",
            "archive",
            "Archive",
            "Hide the marked experiments or the highlighted one, or restore them; deletes nothing",
        ),
        (
            "delete",
            "x,delete",
            "delete",
            "Delete",
            "Delete the marked experiments, or the highlighted one, from this machine; asks first",
        ),
        ("fetch", "U", "fetch", "Fetch", "Fetch an experiment from a storage target"),
        ("clear", "escape", "clear", "Clear", "Clear the filter; without one, clear the marks"),
        ("sort", "o", "sort(1)", "Sort", "Sort by the next column; or click a title"),
        ("sort-back", "O", "sort(0)", "Reverse", "Reverse the order"),
        ("archived", "H", "show_archived", "Archived", "Show archived experiments too, or hide them again"),
        ("demo", "d", "demo", "Demo", "Open the demo; it needs no key"),
        footer="open new filter mark compare clear",
    ),
    *_at(
        "welcome",
        ("new", "n", "new", "New experiment", "Create an experiment with your own teacher"),
        ("fetch", "U", "fetch", "Fetch", "Fetch an experiment from a storage target"),
        footer="new fetch",
    ),
    *_at(
        "guide",
        ("next", "ctrl+n,alt+right", "skip", "Next step", "Go to the next step, even if something is missing here"),
        ("mend", "ctrl+o", "offered", "Do what is offered", "Fix what is wrong, or do what the button offers"),
        ("back", "alt+left,ctrl+b", "back", "Previous step", "Go back a step; nothing that was typed is lost"),
        ("test", "ctrl+t", "test", "Test", "Ask the teacher for a few tokens, or try the storage target"),
        ("afresh", "ctrl+r", "afresh", "Start afresh", "Drop the draft and begin again; asks first"),
        ("create", "ctrl+s", "create", "Create", "Create the experiment as it is now"),
        ("leave", "escape", "leave", "Leave", "End a test, or leave; the draft is kept"),
    ),
    *_at(
        "experiment",
        ("run", "r", "launch", "Run stage", "Run what is selected, or continue it where it stopped"),
        (
            "run-all",
            "r",
            "launch_all",
            "Run what is selected",
            "Run what is selected, or continue it where it stopped",
        ),
        ("resume", "r", "resume", "Resume", "Run what is selected, or continue it where it stopped"),
        ("pipeline", "p", "pipeline", "Run pipeline", "Run all stages in order, skipping what is done"),
        (
            "stop",
            "s",
            "stop",
            "Stop",
            "Stop the running stage; it saves what it can. Press again after 20 s to kill it",
        ),
        ("follow", "f", "follow", "Follow", "Always show the stage that is running"),
        ("live", "1", "view('live')", "Live", "Curves and numbers"),
        ("traces", "2", "view('traces')", "Traces", "What was collected, token by token"),
        ("reports", "3", "view('reports')", "Reports", "Tables: QEI, quality, memory; generated texts"),
        ("checkpoints", "4", "view('checkpoints')", "Checkpoints", "Resume, flip or export from a checkpoint"),
        ("storage", "5", "view('storage')", "Storage", "The copy on a storage target"),
        ("config", "6", "view('config')", "Config", "Every setting and where it comes from; change one"),
        ("log", "7", "view('log')", "Log", "All messages of the run"),
        ("page-down", "pagedown", "scroll('page_down')", "Page down", "Scroll the open tab, or its list or text"),
        ("page-up", "pageup", "scroll('page_up')", "Page up", "Scroll back"),
        ("top", "home,g", "scroll('home')", "Top", "Scroll to the beginning"),
        ("bottom", "end,G", "scroll('end')", "End", "Scroll to the end"),
        ("target", "W", "target", "Storage target", "Where a second copy is kept: choose, log in, test"),
        ("push", "u", "store('push')", "Push the copy", "Store what is new, so that another machine can have it"),
        ("verify", "v", "store('verify')", "Verify the copy", "Read the whole copy, and compare it with its hashes"),
        ("pull", "U", "store('pull')", "Pull the copy", "Bring the copy's files to this machine; asks first"),
        ("repair", "M", "store('repair')", "Repair the copy", "Send damaged files again; asks first"),
        (
            "overwrite",
            "X",
            "store('overwrite')",
            "Force push",
            "Replace the copy with what is here, whatever others stored; asks first",
        ),
        ("replace", "Z", "store('replace')", "Force pull", "Replace what was changed here with the copy; asks first"),
        ("settings", "e", "edit_settings", "Edit settings", "Open the experiment's .env in your editor"),
        ("curve", "c", "curve(1)", "Next chart", "Show the next chart alone; after the last one, all again"),
        ("curve-back", "C", "curve(-1)", "Previous chart", "Show the previous chart alone"),
        ("log-scale", "L", "log_scale", "Log scale", "Axis of losses and gradient: linear or logarithmic"),
        ("smooth", "m", "smooth", "Smoothing", "Draw curves as they were measured, smoothed, or smoother"),
        ("curves", "o", "curves", "Curves", "Hide or show a curve; or click it, twice to see it alone"),
        ("axis", "b", "axis", "Next axis", "Draw by tokens seen, by steps, or by training time"),
        *_looking_at("charts"),
        ("whole", "0", "whole", "Whole run", "Show the whole run again"),
        ("older", "left_square_bracket", "older", "Older run", "Show the previous run of this stage"),
        ("newer", "right_square_bracket", "newer", "Newer run", "Show the next run of this stage"),
        ("report", "R", "save_report", "Save report", "Save a page, or curves as CSV, SVG or PNG, in its reports"),
        ("compare", "V", "compare_with", "Compare", "Compare it with others, or with older trainings"),
        ("play", "P", "play", "Playground", "Ask teacher and student, and see what was likely at each token"),
        ("benchmarks", "B", "benchmarks", "Benchmarks", "Public benchmarks: see which are here, fetch others"),
        ("back", "escape", "dismiss", "Back", "Back to the list of experiments"),
        footer="run resume pipeline stop follow curve compare back",
    ),
    *_at(
        "compare",
        ("curve", "c", "curve(1)", "Next chart", "Draw the next figure"),
        ("curve-back", "C", "curve(-1)", "Previous chart", "Draw the previous figure"),
        ("axis", "b", "axis", "Next axis", "Draw by tokens seen, by steps, or by training time"),
        ("log-scale", "L", "log_scale", "Log scale", "Axis of losses and gradient: linear or logarithmic"),
        ("smooth", "m", "smooth", "Smoothing", "Draw curves as they were measured, smoothed, or smoother"),
        ("curves", "o", "curves", "Curves", "Hide or show a training's curve; or click it, twice to see it alone"),
        *_looking_at("chart"),
        ("whole", "0", "whole", "Whole run", "Show all of it again"),
        ("down", "down,j", "scroll('down')", "More", "Scroll the tables down a line"),
        ("up", "up,k", "scroll('up')", "Line up", "Scroll the tables up a line"),
        ("page-down", "pagedown", "scroll('page_down')", "Page down", "Scroll the tables"),
        ("page-up", "pageup", "scroll('page_up')", "Page up", "Scroll the tables back"),
        ("top", "home,g", "scroll('home')", "Top", "Scroll to the beginning of the tables"),
        ("bottom", "end,G", "scroll('end')", "End", "Scroll to the end of the tables"),
        ("open", "enter", "open", "Open", "Open an experiment, at the evaluation if it has none; or click its name"),
        ("back", "escape", "dismiss", "Back", "Back to where you came from"),
        footer="curve axis down open back",
    ),
    *_at(
        "traces",
        ("leave", "escape", "traces('leave')", "Leave", "Leave the search, or the rejected answers"),
        (
            "worst",
            "n",
            "traces('worst')",
            "Worst token",
            "Go to the next worst token of this trace, or where the teacher is least sure",
        ),
        (
            "worst-of-all",
            "N",
            "traces('worst_of_all')",
            "Worst of all",
            "Go to the next worst token of all traces, or where the teacher is least sure",
        ),
        ("search", "slash", "traces('search')", "Search traces", "Show the traces that have this text"),
        ("order", "o", "traces('order')", "Order", "List traces by number, or by the largest mean"),
        ("shade", "c", "traces('shade')", "Shade by", "Shade tokens by KL of the student or by Other"),
        ("score", "S", "traces('score')", "Score", "Compare the newest student with the teacher token by token"),
        (
            "rejects",
            "R",
            "traces('rejects')",
            "Rejected answers",
            "Show why answers were rejected, or the traces again",
        ),
        ("check", "i", "traces('check')", "Check traces", "Find every row that breaks a rule"),
        footer="leave",
    ),
    *_at(
        "checkpoints",
        (
            "resume",
            "T",
            "checkpoint('resume')",
            "Resume from here",
            "Continue training from the highlighted checkpoint; asks first",
        ),
        (
            "flip",
            "F",
            "checkpoint('flip')",
            "Flip from here",
            "Go to 4 bits at the highlighted checkpoint; asks first",
        ),
        (
            "export",
            "E",
            "checkpoint('export')",
            "Export",
            "Take the student to another machine or program: llama.cpp, transformers",
        ),
    ),
    *_at(
        "config",
        ("filter", "slash", "config('filter')", "Filter settings", "Show the settings that have these words"),
        ("only", "d", "config('only')", "Only differences", "Show only settings that differ, or all"),
        ("against", "o", "config('against')", "Compare settings", "Compare with another experiment"),
        (
            "unset",
            "delete",
            "config('unset')",
            "Unset",
            "Remove it from the experiment's .env, so that its default applies",
        ),
        ("mend", "ctrl+o", "config('mend')", "Mend it", "Change the setting that does not fit together with another"),
        ("leave", "escape", "config('leave')", "Leave the field", "Stop changing a setting; nothing is saved"),
        footer="leave",
    ),
    *_at(
        "play",
        ("prompt", "i,enter", "prompt", "Type", "Type a prompt; enter asks, ctrl+j starts a new line"),
        ("stop", "s", "stop", "Stop", "Stop both answers; what is there is kept"),
        ("again", "r", "again", "Again", "Ask the same prompt again, with the next seed"),
        ("bits", "b", "bits", "A8/A4", "The student's activations: as trained, 8 bits, 4 bits"),
        ("whom", "w", "whom", "Whom to ask", "Ask both, only the student, or only the teacher"),
        ("token", "right,l", "token(1)", "Next token", "See what was likely at the next token"),
        ("token-back", "left,h", "token(-1)", "Previous token", "See what was likely at the previous token"),
        ("token-down", "down,j", "token_row(1)", "Row below", "See what was likely at the token below"),
        ("token-up", "up,k", "token_row(-1)", "Row above", "See what was likely at the token above"),
        ("token-page-down", "pagedown", "token_row(8)", "8 rows below", "See what was likely 8 rows below"),
        ("token-page-up", "pageup", "token_row(-8)", "8 rows above", "See what was likely 8 rows above"),
        ("token-first", "home", "token_end(False)", "First token", "See what was likely at the first token"),
        ("token-last", "end", "token_end(True)", "Last token", "See what was likely at the last token"),
        ("worst", "n", "worst", "Next worst", "Go to the teacher's token that the student finds least likely"),
        ("older", "left_square_bracket", "history(-1)", "Earlier prompt", "Show an earlier prompt's answers"),
        ("newer", "right_square_bracket", "history(1)", "Later prompt", "Show a later prompt's answers"),
        ("copy", "y", "copy", "Copy", "Copy the answer of the side with the cursor"),
        *(
            (f"try-{n}", f"{n}", f"try_prompt({n - 1})", f"Try prompt {n}", f"Ask prompt {n} of five")
            for n in range(1, 6)
        ),
        ("leave", "escape", "leave", "Back", "Leave the field, or go back"),
        footer="prompt stop again bits copy leave",
    ),
    *_at(
        "log",
        ("search", "slash", "log('search')", "Search the log", "Find words; Enter goes to the newest match"),
        ("next", "n", "log('next')", "Next match", "Go to the next line that was found"),
        ("before", "N", "log('before')", "Previous match", "Go to the previous line that was found"),
        ("level", "m", "log('level')", "Level", "Show all messages, info, warnings or only errors"),
        ("follow", "F", "log('follow')", "Follow the log", "Keep the newest line in view, or stay in place"),
        ("wrap", "w", "log('wrap')", "Wrap", "Wrap long lines, or cut them at the edge"),
        ("copy", "Y", "log('copy')", "Copy the log", "Copy all lines that are shown"),
        ("leave", "escape", "log('leave')", "Leave the field", "Go from the search to the lines"),
        footer="leave",
    ),
    *_at(
        "keys",
        ("set", "enter", "set", "Set", "Type or paste the highlighted key"),
        ("move", "m", "move", "Move", "Move it out of .env into the OS keyring or the vault"),
        ("delete", "x,delete", "delete", "Delete", "Delete the highlighted key where it is kept"),
        ("disallow", "d", "disallow", "Take back", "No longer send the key to addresses that you allowed"),
        ("close", "escape,q", "dismiss", "Close", "Back to the previous screen"),
    ),
    *_at(
        "move",
        ("up", "up,k", "", "Up", "The row, line, stage or choice above; on a chart, zoom in"),
        ("down", "down,j", "", "Down", "The one below; on a chart, zoom out"),
        ("left", "left,h", "", "Left", "The previous stage, token, value or button; on a chart, earlier"),
        ("right", "right,l", "", "Right", "The next one, or into the row; on a chart, later"),
        ("far_left", "shift+left,minus", "", "Far left", "Ten steps left on the flip's bar"),
        ("far_right", "shift+right,plus", "", "Far right", "Ten steps right on the flip's bar"),
        ("page_up", "pageup", "", "Page up", "A page up"),
        ("page_down", "pagedown", "", "Page down", "A page down"),
        ("first", "home,g", "", "First", "To the beginning"),
        ("last", "end,G", "", "Last", "To the end"),
        ("choose", "enter", "", "Choose", "Open or choose the highlighted item; in a form, go on"),
        ("turn", "space", "", "Turn", "Open or close a folder; take the next of a few choices"),
        ("next_part", "tab", "", "Next part", "Go to the next part of the screen"),
        ("previous_part", "shift+tab", "", "Previous part", "Go to the previous part"),
    ),
    *_at(
        "field",
        ("previous", "up", "", "Previous field", "To the previous field, in a form"),
        ("next", "down", "", "Next field", "To the next field"),
        ("all", "ctrl+a", "", "Select all", "Select all that is in the field; what is typed replaces it"),
        ("cancel", "escape", "", "Cancel", "Leave the form and change nothing"),
    ),
    *_at(
        "dialog",
        ("close", "escape,q", "", "Close", "Close the dialog and change nothing"),
        ("yes", "y", "", "Yes", "Say yes; if it can't be undone, only go to its button"),
        ("no", "escape,n", "", "No", "Say no"),
    ),
    *_at(
        "app",
        ("keys", "a", "keys", "API keys", "Where each API key is kept; set, move or delete one"),
        ("theme", "t", "themes", "Theme", "Choose one of six themes; each is shown before you keep it"),
        ("copy", "y", "copy", "Copy", "Copy the highlighted item, or what the mouse has selected"),
        ("settings", "f3", "app_settings", "Settings", "Theme, notices, keys and folder, each with its origin"),
        ("keymap", "K", "keymap", "Keys", "Every action and its keys, and the file that changes them"),
        (
            "actions",
            "ctrl+p",
            "command_palette",
            "All actions",
            "Everything that can be done here: click it, or find it by name",
        ),
        ("help", "question_mark,f1", "help", "Help", "What each key does"),
        ("quit", "q,ctrl+q", "quit", "Quit", "Leave; runs continue"),
        footer="keys help quit",
    ),
)
TITLES: dict[Where, str] = {
    "list": "Experiments",
    "welcome": "Welcome",
    "experiment": "One experiment",
    "compare": "Comparison",
    "traces": "Traces tab",
    "checkpoints": "Checkpoints tab",
    "config": "Config tab",
    "log": "Log tab",
    "guide": "New experiment",
    "play": "Playground",
    "keys": "API keys",
    "app": "Everywhere",
    "move": "Lists, texts, charts",
    "field": "Form fields",
    "dialog": "Dialogs",
}


def by_id(name: str) -> Action:
    return next(one for one in ACTIONS if one.id == name)
