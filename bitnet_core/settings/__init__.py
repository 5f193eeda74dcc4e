"""Settings: their registry, how their values are found, typed groups of them, and the `.env` files."""
