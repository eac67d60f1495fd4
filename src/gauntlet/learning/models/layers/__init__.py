"""Layers, one ablation part a file."""
