"""On a child's PYTHONPATH, lets an evaluation time no more rounds than it must: on a busy machine they never agree."""

from bitnet_core.evaluation import turns

turns.MOST_ROUNDS = turns.FEWEST_ROUNDS
