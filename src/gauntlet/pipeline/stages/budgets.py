"""Budgets as they are run: in pixel units, whatever units the configuration gives them in."""

from __future__ import annotations

from statistics import fmean

from gauntlet.config.schema import Experiment
from gauntlet.learning.data.manifest import load_data_manifest
from gauntlet.pipeline import paths


def in_pixels(settings: Experiment) -> Experiment:
    """Give an experiment with all budgets in pixel units of [0, 1]: rows, curves and figures know no others.

    What is in normalised units is multiplied by the stored training images' standard deviation, mean over channels.
    Raises InputError where that leaves the pixel range, or where the data's manifest is needed and not there.
    """
    if all(attack.units == "pixels" for attack in settings.attacks.values()):
        return settings
    std = fmean(load_data_manifest(paths.data_folder(paths.dataset_id(settings.dataset))).std)
    attacks = {name: attack.in_pixels(std, where=f"attacks.{name}") for name, attack in settings.attacks.items()}
    return settings.model_copy(update={"attacks": attacks})
