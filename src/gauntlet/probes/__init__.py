"""Probes of one model for gradient masking: plain attacks whose every step is looked at, and the package's own."""

from gauntlet.probes.engine import probe

__all__ = ["probe"]
