"""A model behind OpenAI's API: who is answered, and a server in front of llama.cpp that bears any request."""
