"""Display of a run in the terminal, as a logger plugin of Snakemake: progress, time left, failures, by name of cell."""
