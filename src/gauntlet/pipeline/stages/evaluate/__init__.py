"""Stage `evaluate`: attacks on trained networks."""
