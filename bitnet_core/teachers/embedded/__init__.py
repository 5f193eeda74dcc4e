"""The embedded teacher: its files, and its llama.cpp server in a child process."""
