"""Adversaries for adversarial training, one per file."""
