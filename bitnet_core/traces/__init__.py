"""KD traces: a teacher's answers step by step, projected onto the student's tokens, stored and read back.

It must not know providers, models or training.
"""
