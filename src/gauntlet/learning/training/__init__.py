"""Training: the loop, its settings and state, optimisers and schedules, the history of a run."""
