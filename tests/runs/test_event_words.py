"""Events in words: what fits into a terminal of 80 columns. What each kind says is tested with the console."""

from bitnet_core.runs.event_words import describe
from tests.builders import event


def test_a_full_metric_fits_80_columns() -> None:
    figures = {
        "seen_tokens": 123_456_789, "loss": 12.3456, "kl": 0.00012345, "ce": 10.5, "format": 0.25, "lr": 1.25e-5,
        "grad_norm": 12345.6, "tokens_per_s": 98765.4, "heldout_loss": 2.5, "heldout_agreement": 0.512345,
        "activation_bits": 4, "nonfinite": 12,
    }  # fmt: skip
    lines = describe(event("metric", step=1_000_000, **figures)).split("\n")
    assert len(lines) == 3
    assert "agreement with the teacher 51.2%" in lines[2]
    assert all(len(line) <= 78 for line in lines)
    assert lines[0] == "step 1,000,000  123,456,789 tokens  loss 12.35  kl 1.234e-4  ce 10.50"


def test_a_metric_amid_a_flip_says_which_share_of_the_layers_has_flipped() -> None:
    shown = describe(event("metric", step=9, seen_tokens=90, activation_bits=4, layers_at_4_bits=2, layers=6))
    assert shown == "step 9  90 tokens  A4 in 2 of 6 layers"


def test_a_progress_line_is_one_line() -> None:
    shown = describe(event("progress", done=3, total=9, unit="a\nb", label="two\nlines\x1b"))
    assert shown == "two lines·  3/9 a b"
