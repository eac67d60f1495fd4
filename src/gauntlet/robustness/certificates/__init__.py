"""Certificates: radii within which no perturbation changes the prediction, and their check against every attack."""
