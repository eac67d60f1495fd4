"""Checks before a training, an evaluation, a certificate or a probe: by experiment, so that no number is wrong."""

from gauntlet.robustness.preflight.images import PREFLIGHT_IMAGES, check_images
from gauntlet.robustness.preflight.model import check_eval_mode, check_first_batch, check_model, needed_draws
from gauntlet.robustness.preflight.normalization import normalization_warning
from gauntlet.robustness.preflight.training import check_stored, check_trainable

__all__ = [
    "PREFLIGHT_IMAGES",
    "check_eval_mode",
    "check_first_batch",
    "check_images",
    "check_model",
    "check_stored",
    "check_trainable",
    "needed_draws",
    "normalization_warning",
]
