"""Widgets draw view models. They hold no logic and read no files."""
