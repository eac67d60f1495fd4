"""SLURM: its commands, partitions and queue, the resources of jobs, the controller job, and a replacement `sacct`."""
