"""How much text a student is fitted on. Light: a plan counts with it."""

FIT_POSITIONS = 1 << 17
"""The most positions of that text: their streams are in memory, two at once."""
