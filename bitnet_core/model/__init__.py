"""The student: shape, quantisers, forward pass, cache, decoding, packing. It knows no traces and no training."""
