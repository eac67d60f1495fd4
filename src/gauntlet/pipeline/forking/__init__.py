"""Commands of a run as forks of one process that has the libraries loaded."""
