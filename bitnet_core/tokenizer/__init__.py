"""The student's tokenizer: loading, exact bytes, the chat template. And the steps of a teacher, with their mass.

It must not know torch, models or providers.
"""
