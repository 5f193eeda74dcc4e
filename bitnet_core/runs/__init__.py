"""Experiments and their runs: how one starts, what it reports, how it is doing, what is done or out of date."""
