"""What made a file: digests, fingerprints of code, recipes, and the marks that files carry."""
