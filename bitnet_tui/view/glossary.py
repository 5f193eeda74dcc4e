"""What the figures mean that no other program has, for the help and below the tables of results."""

from typing import NamedTuple

_TRACES = frozenset({"collect", "traces"})
_TRAINED = frozenset({"train", "checkpoints", "compare", "list"})
_JUDGED = frozenset({"eval", "compare", "list"})
_COLLECT, _TRAIN, _EVAL = (frozenset({one}) for one in ("collect", "train", "eval"))


class Meaning(NamedTuple):
    """`places` show the figure: stages, and screens and tabs as in `actions.Where`."""

    what: str
    places: frozenset[str]


MEANINGS = {
    "coverage": Meaning(
        "Of the teacher's tokens, the share that can be used. Rejected answers lower it, Other does not.", _TRACES
    ),
    "Other": Meaning(
        "The probability outside the candidates that the teacher named. More candidates (top-k) lower it.", _TRACES
    ),
    "mended": Meaning("Answers with repeated or contradictory candidates, which were put right and kept.", _COLLECT),
    "limiter": Meaning(
        "What holds back the next request: the server's rate, or how many it takes at once.", _COLLECT
    ),
    "held-out": Meaning(
        "The loss on prompts that are never trained on: KL and weighted CE. Lower is better.", _TRAINED
    ),
    "total": Meaning("What training lowers: KL, CE and format, each times its weight in Config.", _TRAIN),
    "KL": Meaning("How far the student's probabilities are from the teacher's; 0 = they are the same.", _TRAINED),
    "CE": Meaning("How little the student expects the teacher's own text; 0 = it is sure of each token.", _TRAINED),
    "format": Meaning("CE at brackets, commas, quotes and fences alone.", _TRAIN),
    "agreement": Meaning("How often the student's most likely token is the teacher's most likely one.", _TRAINED),
    "bits": Meaning("Bits of an activation: 8 at first, 4 after the flip.", _TRAINED),
    "flip shock": Meaning(
        "Held-out loss right after the flip less the one before it; 0 = the flip cost nothing.",
        frozenset({"train", "compare"}),
    ),
    "lr": Meaning("Learning rate: it rises to the one in the settings, then falls until the end.", _TRAIN),
    "grad norm": Meaning(
        "Length of the gradient. Its size tells nothing; growth without end does, a spike of one step does not.",
        _TRAIN,
    ),
    "QEI": Meaning("Above 1: more quality per byte than the teacher.", _JUDGED),
    "QEI_speed": Meaning("QEI times the student's speed as a multiple of the teacher's.", _JUDGED),
    "Q_s/Q_t": Meaning("The student's quality as a share of the teacher's, on the same tasks.", _JUDGED),
    "imitation": Meaning(
        "How well it predicts text that the teacher wrote and it never saw; not part of QEI.", _EVAL
    ),
}


def meanings(here: frozenset[str]) -> tuple[dict[str, str], dict[str, str]]:
    """What figures mean, by their names: those that are shown `here`, and all others."""
    shown = {name: one.what for name, one in MEANINGS.items() if one.places & here}
    return shown, {name: one.what for name, one in MEANINGS.items() if name not in shown}
