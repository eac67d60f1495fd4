"""Provenance of files: digests, recipes, the environment, and the marks that files carry."""
