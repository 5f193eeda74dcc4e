"""Losses, the flip, batches, checkpoints and the trainer. They know the student and its batches, but no provider."""
