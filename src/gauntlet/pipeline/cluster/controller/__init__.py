"""The controller as a SLURM job: Snakemake in a job that requeues itself before its time limit."""
