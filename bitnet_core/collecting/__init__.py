"""Collect a teacher's answers: which requests there are, asking within limits, storing, projecting."""
