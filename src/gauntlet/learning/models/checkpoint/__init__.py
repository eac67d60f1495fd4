"""Checkpoints of any origin: read without executing anything, searched for weights, and fitted to a network."""
