"""What the app does besides showing: starting stages, asking a model, keeping keys. Nothing here imports Textual."""
