"""A transformers model in this process as a teacher. Heavy: it imports torch, except in `files`."""
