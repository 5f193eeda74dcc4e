"""Losses, flip, schedule, batches, checkpoints and the trainer. They know students and traces, but no teachers."""
