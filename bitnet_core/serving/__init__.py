"""A model behind OpenAI's API: who may ask, and the server that protects llama.cpp from bad requests."""
