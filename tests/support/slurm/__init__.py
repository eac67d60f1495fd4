"""A real SLURM of one node, and experiments that run on it."""
