"""KD traces: what the teacher said, step by step, and the same seen by the student's tokenizer (DESIGN §6).

Knows tokenizers, Parquet and alignment. Knows nothing of providers, models or training.
"""
