"""Claimed and measured Lipschitz constant of a network, as a certificate's file records them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

CLAIMED_KEY = "gauntlet.lipschitz_claimed"
MEASURED_KEY = "gauntlet.lipschitz_measured"


@dataclass(frozen=True)
class LipschitzConstants:
    """A network's L2 constant in pixel units: the claimed upper bound, and a lower bound measured on images."""

    claimed: float
    measured: float

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> LipschitzConstants | None:
        """Read the constants from a file's metadata; None where they were not measured."""
        if CLAIMED_KEY not in metadata:
            return None
        return cls(float(metadata[CLAIMED_KEY]), float(metadata[MEASURED_KEY]))

    def metadata(self) -> dict[str, str]:
        """Return the entries for the metadata of a certificate's file."""
        return {CLAIMED_KEY: repr(self.claimed), MEASURED_KEY: repr(self.measured)}
