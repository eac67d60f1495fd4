"""Data, networks, losses and training."""
