"""Teachers: what each provider can do, one client for the OpenAI-compatible ones, and the embedded teacher.

`table` belongs to the light half; the rest is imported inside a stage's process alone.
"""
