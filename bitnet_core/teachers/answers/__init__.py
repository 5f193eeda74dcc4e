"""Read a teacher's answer: its text, its tokens with their logprobs, and the repairs of what servers get wrong."""
