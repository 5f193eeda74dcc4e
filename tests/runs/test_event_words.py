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


def test_a_progress_line_tells_of_which_part_it_is() -> None:
    told = {"done": 12, "total": 30, "unit": "layers", "eta_s": 41.0, "label": "reading", "part": 1, "parts": 3}
    assert describe(event("progress", **told)) == "reading  12/30 layers  41s left of part 1 of 3"
    shown = describe(event("progress", **told, first_step_in_s=540.0))
    assert shown == "reading  12/30 layers  part 1 of 3, about 9 min to the first step"
    for odd in ({"part": "x"}, {"parts": 1}, {"parts": None}):
        assert describe(event("progress", **told | odd)) == "reading  12/30 layers  41s left"


def test_a_progress_line_is_one_line() -> None:
    shown = describe(event("progress", done=3, total=9, unit="a\nb", label="two\nlines\x1b"))
    assert shown == "two lines·  3/9 a b"
