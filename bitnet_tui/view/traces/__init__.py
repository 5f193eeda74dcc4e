"""Views of collected traces: the list of prompts, the text of one with its tokens, and one token."""
