"""Diagnostics of gradient masking, as tables: what each check asks, what was measured, and the verdict."""
