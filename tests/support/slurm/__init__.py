"""A real SLURM of one node, and experiments that run on it."""

CLUSTER = "tests/pipeline/cluster/"
"""The modules of tests on SLURM."""

LONGEST = f"{CLUSTER}test_workflow.py"
"""The longest of them; the others together take about as long."""
