"""What the screens show, as frozen values made by plain functions. Nothing here imports Textual."""
