"""Events in words, the same on the command line and in the app. Numbers are written by `text.py`."""

from collections.abc import Sequence
from pathlib import PurePath

from bitnet_core import text
from bitnet_core.runs import events
from bitnet_core.runs.events import Event, Flip, Log, Metric, Progress, RunFinished
from bitnet_core.runs.resuming import words

FLIP, SEAM = "┊", "║"
"""Where activations lose bits, and where a training continues from a checkpoint: in the chart and in the log."""
_MARKS = {"run_started": "▸", "flip": FLIP, "changed": SEAM, "alert": "!", "sample": "›"}
_LOG_MARKS = {"warning": "!", "error": "✗"}
_METRICS = {
    **{name: (name, 4) for name in ("loss", "kl", "ce", "format")},
    "own_text_kl": ("kl on its own text", 4),
    "relation": ("relations", 3),
    "lr": ("lr", 3),
    "grad_norm": ("grad norm", 3),
    "tokens_per_s": ("tokens/s", 3),
    "heldout_loss": ("held-out loss", 4),
    "heldout_agreement": ("agreement with the teacher", 0),
    "quantized_share": ("quantised share", 0),
}
"""Field → label and significant digits, 0 for a share, in the order of the line. A learning rate has an exponent."""
_GAP = "  "
_LINE_CELLS = 78
"""An 80-column terminal, less the two cells for the mark or the indentation."""


def describe(event: Event) -> str:
    """An event in words, on one or a few lines that are safe to show; empty for an event that is not for people."""
    return text.printable(_words(event))


def mark(event: Event) -> str:
    """The character in front of an event's first line."""
    if isinstance(event, RunFinished):
        return text.STATES.get(event.state, ("?", ""))[0]
    if isinstance(event, Log):
        return _LOG_MARKS.get(event.level, " ")
    return _MARKS.get(event.kind, " ")


def _words(event: Event) -> str:
    match event:
        case events.RunStarted():
            return f"{event.run} started (pid {event.pid} on {event.host}, {event.device})"
        case Progress():
            return _progress(event)
        case Metric():
            return _metric(event)
        case events.Budget():
            return _budget(event)
        case events.SettingsChanged():
            return f"Training continues from step {text.number(event.step)} with {changed_words(event)}."
        case Flip():
            return _flip(event)
        case events.CheckpointSaved():
            return f"checkpoint of step {text.number(event.step)}: {_file(event.path)}, {text.size(event.bytes)}"
        case events.Sample():
            return "\n".join(text.crop(text.flat(line), _LINE_CELLS) for line in (event.prompt, event.text))
        case events.Table():
            return f"results: {event.name.replace('_', ' ')}"
        case events.Artifact():
            return f"wrote {_file(event.path)}, {text.size(event.bytes)}"
        case events.Upload():
            how = f", {text.progress_words(event.done, event.bytes, 'bytes')}" if event.done < event.bytes else ""
            return f"upload of {_file(event.path)} to {event.target}: {event.state}{how}"
        case events.Alert():
            return "\n".join(filter(None, (event.message, event.advice)))
        case Log():
            return event.message
        case RunFinished():
            word = text.state_word(event.state)
            return f"{word}: {event.error}" if event.error else word
    return ""


def _progress(event: Progress) -> str:
    rate = text.rate_words(event.rate, event.unit) if event.rate else ""
    eta = text.finite(event.eta_s)
    left = text.left_words(text.duration(eta) if eta else "", event.part, event.parts, event.first_step_in_s)
    told = (event.label, text.progress_words(event.done, event.total, event.unit), rate, left)
    return _GAP.join(text.flat(one) for one in told if one)


def _metric(event: Metric) -> str:
    if text.finite(event.step) is None:
        return ""  # the figures of collecting, whose progress is shown already
    fields = (event.seen_tokens, event.activation_bits, event.nonfinite)
    seen, bits, refused = (text.finite(value) for value in fields)
    parts = [
        f"step {text.number(text.finite(event.step))}",
        f"{text.number(seen)} tokens" if seen is not None else "",
    ]
    for name, (label, digits) in _METRICS.items():
        value = text.finite(getattr(event, name))
        written = text.scientific if name == "lr" else text.number
        words = written(value, digits) if digits else text.share(value)
        parts.append(f"{label} {words}" if value is not None else "")
    some = text.in_layers(text.finite(event.layers_at_4_bits), text.finite(event.layers))
    parts += [f"A{bits:.0f}{some}" if bits else "", f"{text.number(refused)} steps not finite" if refused else ""]
    return "\n".join(_packed([part for part in parts if part]))


def _packed(parts: Sequence[str]) -> list[str]:
    """The parts on as few lines as an 80-column terminal allows, none of them broken."""
    lines = [""]
    for part in parts:
        longer = f"{lines[-1]}{_GAP}{part}" if lines[-1] else part
        lines[-1:] = [longer] if text.width(longer) <= _LINE_CELLS else [lines[-1], part]
    return lines


def _budget(event: events.Budget) -> str:
    ternary = text.finite(event.ternary_at_tokens)
    return (
        f"budget: {text.number(event.tokens)} tokens, {text.epochs(text.finite(event.epochs) or 0)} of "
        f"{text.number(event.epoch_tokens)}; "
        + (f"the student is ternary at {text.number(ternary)}, " if ternary is not None else "")
        + f"the flip is at {text.number(event.flip_at_tokens)}"
    )


def changed_words(event: events.SettingsChanged) -> str:
    """`LR 6e-4 → 3e-4, WEIGHT_DECAY 0.1 → 0.05`."""
    return text.printable(words({name: (event.before.get(name), value) for name, value in event.after.items()}))


def _flip(event: Flip) -> str:
    part = text.in_layers(text.finite(event.layers_flipped), text.finite(event.layers_total))
    kept = f" (o and down stay at A{event.from_bits})" if event.policy == "hybrid" else ""
    return (
        f"activations A{event.from_bits} → A{event.to_bits}{kept}{part} at step {text.number(event.step)}, "
        f"{text.number(event.seen_tokens)} tokens seen"
    )


def _file(path: str) -> str:
    """The file's name and folder: enough to find it in the experiment."""
    return "/".join(PurePath(path).parts[-2:])
