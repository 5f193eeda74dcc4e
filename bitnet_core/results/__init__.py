"""What runs have left, as figures and curves: read, compared, and written as a report. Light: no torch, no numpy."""
