"""Adversaries of training, one kind a file."""
