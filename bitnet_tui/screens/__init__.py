"""One file per screen, each with its own stylesheet, imported when it is first shown."""
