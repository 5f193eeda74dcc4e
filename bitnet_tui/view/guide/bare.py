"""Lines without labels that are pasted into the guide: what an address, a key and a model look like."""

from bitnet_core.secrets.known import redactor
from bitnet_core.secrets.redaction import MASK, Redactor
from bitnet_tui.view.guide.addresses import looks_like_one
from bitnet_tui.view.guide.draft import BACKEND, HERE, Draft
from bitnet_tui.view.guide.labelled import has_label

_MOST_LINES = 20
"""A longer text is something else."""


def with_labels(text: str, draft: Draft, *, of_storage: bool = False) -> str:
    """Bare lines with the labels of what they look like: the only address, the only key, and with an address a model.

    The text as it is if it has labels, or if nothing in it is told by its form. A key never gets another label.
    """
    of_target = of_storage or draft.step == "storage"
    each = [line.strip() for line in text.split("\n", _MOST_LINES) if line.strip()]
    of_nothing = of_target and draft.get(BACKEND) == HERE
    if of_nothing or not 0 < len(each) < _MOST_LINES or any(map(has_label, each)):
        return text
    safe = {line: redactor()(line) for line in each}
    by_form = Redactor()  # a known key may be the beginning of another one
    keys = [line for line in each if MASK in (safe[line], by_form(line))]
    addresses = [line for line in each if safe[line] == line and looks_like_one(line)]
    rest = [line for line in each if line not in keys and line not in addresses]
    if len(keys) > 1 or len(addresses) > 1 or not (keys or addresses):
        return text
    asks_model = not of_target and bool(addresses) and len(rest) == 1
    models = [line for line in rest if asks_model and safe[line] == line and " " not in line]
    labels = {**dict.fromkeys(addresses, "Address"), **dict.fromkeys(keys, "Key"), **dict.fromkeys(models, "Model")}
    return "\n".join(f"{labels[line]}: {line}" if line in labels else line for line in each)
