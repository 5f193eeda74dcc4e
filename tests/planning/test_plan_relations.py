"""`bitnet plan` with a source that is read beside the student: its memory, and its time."""

from pathlib import Path

import pytest

from bitnet_core.planning import probe
from bitnet_core.planning.plan import Asked, plan
from bitnet_core.pretrained import choose
from bitnet_core.pretrained.choose import open_source
from bitnet_core.pretrained.source import Source
from bitnet_core.pretrained.wanted import Wanted
from tests.planning.test_plan import OPTIONS, _facts, _own_cache
from tests.planning.test_plan_online import HIDDEN, teacher
from tests.traces.samples import small_tokenizer

__all__ = ["_own_cache", "teacher"]


def test_the_sources_headers_are_read_once(tmp_path: Path, teacher: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Wanted] = []

    def counted(found: Wanted) -> Source:
        opened.append(found)
        return open_source(found)

    monkeypatch.setattr(choose, "open_source", counted)
    sizes = dict.fromkeys(("MINI_DIM", "MINI_LAYERS", "MINI_HEADS"), "")
    facts = _facts(tmp_path, **sizes, STUDENT_INIT=str(teacher), ATTENTION_RELATION_WEIGHT="1")
    assert facts["source_bytes"] > 0
    assert len(opened) == 1


def test_its_memory_is_beside_the_students_and_its_passes_are_timed(
    tmp_path: Path, teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two layers the first is kept, so the second is neither in memory nor read."""
    monkeypatch.setattr(probe, "_SECONDS", 0.0)
    sizes = dict.fromkeys(("MINI_DIM", "MINI_LAYERS", "MINI_HEADS"), "")
    start = {**sizes, "STUDENT_INIT": str(teacher), "STUDENT_INIT_LAYERS": "1"}
    facts = _facts(tmp_path, time=True, **start, ATTENTION_RELATION_WEIGHT="1")
    alone = _facts(tmp_path, time=True, **start)
    assert not facts["step"]["cached"] and not alone["step"]["cached"]
    assert _facts(tmp_path, time=True, **start, ATTENTION_RELATION_WEIGHT="2")["step"]["cached"]
    parts, without = (plan(one, OPTIONS, 20, None, Asked())["training_memory"]["parts"] for one in (facts, alone))
    ffn = 64
    layer = 4 * HIDDEN * HIDDEN + 3 * ffn * HIDDEN + 2 * HIDDEN + HIDDEN + ffn
    wanted = 4 * (small_tokenizer().vocab_size * HIDDEN + layer + HIDDEN)
    assert parts["source's weights"] == wanted
    assert parts["peak"] == without["peak"] + wanted
    assert "source's weights" not in without
