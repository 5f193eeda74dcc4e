"""Connections and protocols of single services, for their targets."""
