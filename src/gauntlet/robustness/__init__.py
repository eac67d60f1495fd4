"""Attacks, evaluation, certificates, diagnostics and inspection of trained models."""
