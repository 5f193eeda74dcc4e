"""On a child's PYTHONPATH: an evaluation times one round, as on a busy machine they never agree, and lacks an extra.

Without `gguf` it does not ask transformers, which takes a third of it; `tests/stages/test_evaluate.py` has that, and
`tests/evaluation/test_turns.py` more rounds.
"""

import sys

from bitnet_core.evaluation import turns

turns.MOST_ROUNDS = 1
sys.modules["accelerate"] = None  # type: ignore[assignment]
