"""Diagnostics of gradient masking: checks, measurements and verdicts."""
