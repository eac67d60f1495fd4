"""The network of a cell, as training and adoption build it, and how its evaluation will judge it."""

from __future__ import annotations

from gauntlet.learning.data.manifest import DataManifest
from gauntlet.learning.models.build import build
from gauntlet.learning.models.network import Network
from gauntlet.pipeline.stage import CellJob


def build_network(job: CellJob, data: DataManifest) -> Network:
    """Build the network of the job's variant for the data, with initial weights of the job's seed."""
    variant = job.experiment.networks[job.cell.variant]
    return build(
        variant.model,
        image_shape=data.image_shape,
        num_classes=data.num_classes,
        mean=data.mean,
        std=data.std,
        normalize=variant.normalization,
        seed=job.cell.seed,
    )


def fewest_draws(job: CellJob) -> int:
    """Return the smallest number of draws by which an attack on the job's model is judged; 1 without attacks.

    A candidate is attacked as the variant that is chosen from it.
    """
    settings, measured = job.experiment, job.experiment.measured_as(job.cell.variant)
    draws = [
        attack.draws
        for attack in settings.attacks.values()
        if any(attack.applies_to(variant, settings.variants) for variant in measured)
    ]
    return min(draws, default=1)


def is_certified(job: CellJob) -> bool:
    """Return whether a certificate applies to the job's variant."""
    variant = job.experiment.networks[job.cell.variant]
    return any(certificate.applies_to(variant) for certificate in job.experiment.certificates.values())
