"""One file a screen, with its own stylesheet; each is imported when it is first shown."""
