"""What each picture shows: a made-up place, the keys that lead to a screen, and words that are then on it."""

from dataclasses import dataclass

_TYPICAL = (120, 36)
_GUIDE = "n"
_NEXT = " ctrl+n"


@dataclass(frozen=True)
class View:
    """`root` is an experiment of the workspace `home`; without one the list is shown.

    Of `keys`, `[two_words]` waits for these words and `=text` is typed.
    """

    root: str | None
    keys: str
    shows: str
    size: tuple[int, int] = _TYPICAL
    theme: str = "bitnet-dark"
    home: str = "experiments"


REPORT = "report"
"""The only picture that is of no screen."""
VIEWS: dict[str, View] = {
    "welcome": View(None, "", "Try it now", home="nothing"),
    "home": View(None, "", "half-rate"),
    "guide-machine": View(None, _GUIDE, "This machine"),
    "guide-teacher": View(None, _GUIDE + _NEXT + 6 * " down", "gpt"),
    "guide-storage": View(None, _GUIDE + 2 * _NEXT + 2 * " down", "Bucket"),
    "guide-student": View(None, _GUIDE + 3 * _NEXT, "at least"),
    "guide-review": View(None, _GUIDE + 4 * _NEXT, "Start nothing yet"),
    "fetch": View(None, "U tab =/tmp/ada/copies ctrl+t [written]", "Name there"),
    "rename": View(None, "down down down r", "Rename"),
    "delete": View(None, "down down down x", "Delete"),
    "refused": View(None, "x", "can't be done"),
    "training": View("long-run", "", "held-out loss"),
    "training-light": View("long-run", "", "held-out loss", theme="bitnet-light"),
    "training-contrast": View("long-run", "", "held-out loss", theme="bitnet-contrast"),
    "training-wide": View("long-run", "", "held-out loss", (160, 45)),
    "training-80x24": View("long-run", "", "held-out loss", (80, 24)),
    "training-60x15": View("long-run", "", "Train", (60, 15)),
    "too-small": View("long-run", "", "too small", (50, 12)),
    "chart": View("demo", "down down down c c x plus", "‹ total ›"),
    "alert": View("high-rate", "", "not finite"),
    "stop": View("long-run", "s", "Stop it"),
    "collecting": View("with-a-price", "", "limiter"),
    "collect": View("demo", "down down", "coverage"),
    "traces": View("demo", "2 S [KL] N", "student"),
    "qei": View("demo", "3", "QEI"),
    "save-report": View("demo", "R", "HTML"),
    "checkpoints": View("demo", "4", "held-out"),
    "exported": View("demo", "4 E [GGUF] enter [verified:] E [how_to_run] enter", "Export again"),
    "storage": View("demo", "5", "checkpoints/"),
    "target": View("half-rate", "W", "Only on this machine"),
    "config": View("demo", "6", "Tokenizer"),
    "change": View("demo", "6 slash l r enter enter =0.00025", "outdated"),
    "log": View("demo", "down down down 7", "lines"),
    "playground": View("demo", "P [PyTorch,] 3 [tokens/s_C] right [0.] n", "token "),
    "compare": View(None, "down down down space down space V", "better"),
    "compare-with": View("demo", "V space down down down space", "space marks several"),
    "settings": View("demo", "f3", "Notify by a webhook"),
    "keys": View("demo", "a", "API keys"),
    "key": View(None, "a enter", "Type or paste the key"),
    "vault": View("hosted", "p", "Open the vault", home="locked"),
    "keymap": View("demo", "K", "To give actions other keys"),
    "benchmarks": View(None, "B", "Public benchmarks"),
    "help": View("demo", "question_mark", "esc closes"),
    "palette": View("demo", "ctrl+p", "Curves and numbers"),
    "themes": View("demo", "t", "Cancel"),
}
