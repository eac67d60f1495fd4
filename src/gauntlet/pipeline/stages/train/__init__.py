"""Stage `train`: trained networks."""
