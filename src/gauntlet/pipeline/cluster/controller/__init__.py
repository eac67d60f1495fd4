"""Snakemake as a small SLURM job of its own: sent off, looked at, cancelled, and queued again near its time limit."""
