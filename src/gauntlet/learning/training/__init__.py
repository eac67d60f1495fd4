"""Training: loop, state, checkpoints, optimizers, schedules, regularizers and adversaries."""
