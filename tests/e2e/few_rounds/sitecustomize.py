"""On a child's PYTHONPATH: an evaluation times no more rounds than it must, as on a busy machine they never agree."""

from bitnet_core.evaluation import turns

turns.MOST_ROUNDS = turns.FEWEST_ROUNDS
