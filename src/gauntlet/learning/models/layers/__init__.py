"""Layers, one kind per file."""
