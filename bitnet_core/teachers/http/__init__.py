"""The HTTP client for JSON and event streams, its retries, and its pace. It must not know what a chat is."""
