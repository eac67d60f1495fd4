"""Certificates: radii within which no perturbation changes the prediction, and the check against every attack."""

from gauntlet.robustness.certificates.certifier import certify, certify_parts

__all__ = ["certify", "certify_parts"]
