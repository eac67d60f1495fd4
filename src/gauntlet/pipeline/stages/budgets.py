"""Budgets in pixel units, whatever units the configuration uses."""

from __future__ import annotations

from statistics import fmean

from gauntlet.config.schema import Experiment
from gauntlet.learning.data.manifest import load_data_manifest
from gauntlet.pipeline import paths


def in_pixels(settings: Experiment) -> Experiment:
    """Return an experiment with all budgets in pixel units of [0, 1], the only ones in rows, curves and figures.

    Budgets in normalized units are multiplied by the training images' standard deviation, averaged over channels.
    Raises InputError where that leaves the pixel range, or where the data's manifest is needed and not there.
    """
    if all(attack.units == "pixels" for attack in settings.attacks.values()):
        return settings
    std = fmean(load_data_manifest(paths.data_folder(paths.dataset_id(settings.dataset))).std)
    attacks = {name: attack.in_pixels(std, where=f"attacks.{name}") for name, attack in settings.attacks.items()}
    return settings.model_copy(update={"attacks": attacks})
