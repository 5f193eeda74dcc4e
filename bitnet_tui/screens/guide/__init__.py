"""The guide for a new experiment: one file and one stylesheet a step. `screen.py` puts them together."""
