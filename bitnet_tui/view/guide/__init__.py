"""The guide for a new experiment as pure values: the draft, what each step shows of it, and what is wrong with it."""
