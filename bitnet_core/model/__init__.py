"""The student: its shape, its quantisers, its forward pass and its cache. It knows nothing of traces or training."""
