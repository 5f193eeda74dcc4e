"""What the screens show, worked out by plain functions and frozen values. Nothing here imports Textual."""
