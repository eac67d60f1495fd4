"""What SLURM's commands are asked, and a stand-in for the one that Snakemake's plugin takes at its word."""
