"""The wire formats: how each one asks, and how its answers are read."""
