"""What the playground shows: answers, where their tokens are, what was likely behind one, and the words about it."""
