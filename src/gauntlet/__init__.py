"""Gauntlet: one configuration file in; models, attacks, certificates, statistics, figures, report out.

Everything that a notebook or a component of one's own needs is imported from here; `import gauntlet` loads no torch.
"""

from __future__ import annotations

from types import MappingProxyType

# A client of a fork server imports this package and little else: not even `typing`.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from gauntlet.api import evaluate as evaluate
    from gauntlet.core.errors import AttackError as AttackError
    from gauntlet.core.errors import GauntletError as GauntletError
    from gauntlet.core.errors import InputError as InputError
    from gauntlet.core.geometry import Ball as Ball
    from gauntlet.core.parquet import read_table as read_table
    from gauntlet.core.randomness import integers as integers
    from gauntlet.core.randomness import normal as normal
    from gauntlet.core.randomness import subkeys as subkeys
    from gauntlet.core.randomness import uniform as uniform
    from gauntlet.learning.data.mixings import Mixture as Mixture
    from gauntlet.learning.data.negatives import Negatives as Negatives
    from gauntlet.learning.data.negatives import sample_rows as sample_rows
    from gauntlet.learning.data.raw_data import RawData as RawData
    from gauntlet.learning.data.splits import Split as Split
    from gauntlet.learning.losses import Loss as Loss
    from gauntlet.learning.models.checkpoint.loading import load_weights as load_weights
    from gauntlet.learning.models.foldings.folding import Folding as Folding
    from gauntlet.learning.models.network import Head as Head
    from gauntlet.learning.models.network import Network as Network
    from gauntlet.learning.models.units.unit import Unit as Unit
    from gauntlet.learning.models.weights import load_model as load_model
    from gauntlet.learning.training.adversary import Adversary as Adversary
    from gauntlet.learning.training.regularizers import Regularizer as Regularizer
    from gauntlet.learning.training.regularizers import sum_penalties as sum_penalties
    from gauntlet.learning.training.regularizers import weights_and_biases as weights_and_biases
    from gauntlet.registry import ACTIVATIONS as ACTIVATIONS
    from gauntlet.registry import ADVERSARIES as ADVERSARIES
    from gauntlet.registry import ATTACKS as ATTACKS
    from gauntlet.registry import AUGMENTATIONS as AUGMENTATIONS
    from gauntlet.registry import CERTIFICATES as CERTIFICATES
    from gauntlet.registry import FIGURES as FIGURES
    from gauntlet.registry import FOLDINGS as FOLDINGS
    from gauntlet.registry import HEADS as HEADS
    from gauntlet.registry import LOSSES as LOSSES
    from gauntlet.registry import MIXINGS as MIXINGS
    from gauntlet.registry import MODELS as MODELS
    from gauntlet.registry import NEGATIVES as NEGATIVES
    from gauntlet.registry import OPTIMIZERS as OPTIMIZERS
    from gauntlet.registry import REGULARIZERS as REGULARIZERS
    from gauntlet.registry import SCHEDULES as SCHEDULES
    from gauntlet.registry import SOURCES as SOURCES
    from gauntlet.registry import UNITS as UNITS
    from gauntlet.registry import Fraction as Fraction
    from gauntlet.registry import NonNegativeFloat as NonNegativeFloat
    from gauntlet.registry import NonNegativeInt as NonNegativeInt
    from gauntlet.registry import NonZeroFloat as NonZeroFloat
    from gauntlet.registry import OpenFraction as OpenFraction
    from gauntlet.registry import PositiveFloat as PositiveFloat
    from gauntlet.registry import PositiveInt as PositiveInt
    from gauntlet.registry import PowerOfTwo as PowerOfTwo
    from gauntlet.registry import Seed as Seed
    from gauntlet.reporting.accuracy import robust_accuracy as robust_accuracy
    from gauntlet.reporting.figures.inputs import FigureInputs as FigureInputs
    from gauntlet.reporting.figures.style import Style as Style
    from gauntlet.robustness.attacks.base.model import AttackModel as AttackModel
    from gauntlet.robustness.certificates.certified_predictions import CertifiedPredictions as CertifiedPredictions
    from gauntlet.robustness.certificates.certified_predictions import round_down as round_down
    from gauntlet.robustness.certificates.lipschitz import lipschitz as lipschitz

_MODULES = {
    "gauntlet.api": "evaluate",
    "gauntlet.core.errors": "AttackError GauntletError InputError",
    "gauntlet.core.geometry": "Ball",
    "gauntlet.core.parquet": "read_table",
    "gauntlet.core.randomness": "integers normal subkeys uniform",
    "gauntlet.learning.data.mixings": "Mixture",
    "gauntlet.learning.data.negatives": "Negatives sample_rows",
    "gauntlet.learning.data.raw_data": "RawData",
    "gauntlet.learning.data.splits": "Split",
    "gauntlet.learning.losses": "Loss",
    "gauntlet.learning.models.checkpoint.loading": "load_weights",
    "gauntlet.learning.models.foldings.folding": "Folding",
    "gauntlet.learning.models.network": "Head Network",
    "gauntlet.learning.models.units.unit": "Unit",
    "gauntlet.learning.models.weights": "load_model",
    "gauntlet.learning.training.adversary": "Adversary",
    "gauntlet.learning.training.regularizers": "Regularizer sum_penalties weights_and_biases",
    "gauntlet.registry": "ACTIVATIONS ADVERSARIES ATTACKS AUGMENTATIONS CERTIFICATES FIGURES FOLDINGS HEADS LOSSES "
    "MIXINGS MODELS NEGATIVES OPTIMIZERS REGULARIZERS SCHEDULES SOURCES UNITS "
    "Fraction NonNegativeFloat NonNegativeInt NonZeroFloat OpenFraction PositiveFloat PositiveInt PowerOfTwo Seed",
    "gauntlet.reporting.accuracy": "robust_accuracy",
    "gauntlet.reporting.figures.inputs": "FigureInputs",
    "gauntlet.reporting.figures.style": "Style",
    "gauntlet.robustness.attacks.base.model": "AttackModel",
    "gauntlet.robustness.certificates.certified_predictions": "CertifiedPredictions round_down",
    "gauntlet.robustness.certificates.lipschitz": "lipschitz",
}
MODULE_OF = MappingProxyType({name: module for module, names in _MODULES.items() for name in names.split()})
"""Each public name and the module that defines it."""

__all__ = sorted(MODULE_OF)


def __getattr__(name: str) -> object:
    """Import a public name when it is first used (PEP 562)."""
    if name == "__version__":
        from importlib.metadata import version

        return version("gauntlet")
    if name not in MODULE_OF:
        raise AttributeError(f"module 'gauntlet' has no attribute {name!r}")
    import importlib

    value = globals()[name] = getattr(importlib.import_module(MODULE_OF[name]), name)
    return value


def __dir__() -> list[str]:
    """List the public names too, for completion and suggestions."""
    return sorted({*globals(), *MODULE_OF})
