"""Certificates: radii within which no perturbation changes the prediction, and the check against every attack."""

from gauntlet.certificates.engine import certify

__all__ = ["certify"]
