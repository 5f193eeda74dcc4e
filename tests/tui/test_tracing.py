"""The process that the Traces tab asks."""

from pathlib import Path

import pytest

from bitnet_core.errors import BitnetError
from bitnet_core.traces import schema
from bitnet_tui.services.tracing import TraceSession
from tests.traces.sets import TOKENIZER, write_set
from tests.tui.simulated import experiment


def test_it_answers_more_than_once_and_ends(home: Path):
    exp = experiment(home, "traced")
    write_set(exp.data, shards=1, sequences=20, length=4)
    TOKENIZER.save(exp.data / schema.TOKENIZER_FOLDER)
    session = TraceSession(home, exp.root)
    try:
        assert session.ask({"ask": "list", "limit": 3})["matched"] == 20
        child = session._child
        with pytest.raises(BitnetError, match="has no sequence 99"):
            session.ask({"ask": "show", "prompt_idx": 99})
        assert session.ask({"ask": "show"})["prompt_idx"] == 0
        assert session._child is child
    finally:
        session.close()
    assert child is not None
    assert child.poll() is not None
