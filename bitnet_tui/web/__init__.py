"""The app in a browser on this machine (`bitnet-tui --web`)."""
