"""One file per kind of target: five calls on small objects, and `opened`, which yields it. See `target.py`."""
