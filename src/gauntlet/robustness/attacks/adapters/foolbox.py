"""Adapter that offers every Foolbox attack with a norm as ``foolbox:NAME``, with the options of its class.

Rauber et al. 2017, arXiv:1707.04131; 2020, JOSS 5(53) 2607. It translates `step_size` to the class's own name for it,
`norm` to its distance, and random draws to draws per sample. It repairs two defects: a failed starting point affects
only its own sample, and no sample stops or continues because of others in the batch.
"""

from __future__ import annotations

import contextlib
import inspect
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, TypeGuard

import torch
from eagerpy.astensor import astensor, astensor_
from torch import Tensor

from gauntlet.core.errors import InputError, nearest
from gauntlet.core.geometry import Ball, per_sample
from gauntlet.registry.adapters import FOOLBOX_STEP_SIZES, FOOLBOX_WITHOUT_GRADIENT
from gauntlet.robustness.attacks.adapters.per_sample_draws import PerSampleDraws, numpy_seeded
from gauntlet.robustness.attacks.adapters.restarts import restart_bounded, restart_nearest
from gauntlet.robustness.attacks.base.model import AttackModel

with warnings.catch_warnings():
    # Foolbox imports from a SciPy namespace that SciPy has deprecated.
    warnings.simplefilter("ignore", DeprecationWarning)
    import foolbox
    from foolbox import attacks as library
    from foolbox.attacks.base import FixedEpsilonAttack, FlexibleDistanceMinimizationAttack, MinimizationAttack
    from foolbox.criteria import Misclassification, TargetedMisclassification
    from foolbox.distances import LpDistance

_ORDERS = {"l0": 0.0, "l1": 1.0, "l2": 2.0, "linf": float("inf")}
# Attacks that need a starting point per sample, and the class that finds it unless `init_attack` names another.
_STARTS = {
    "BoundaryAttack": "LinearSearchBlendedUniformNoiseAttack",
    "HopSkipJumpAttack": "LinearSearchBlendedUniformNoiseAttack",
    "L0BrendelBethgeAttack": "LinearSearchBlendedUniformNoiseAttack",
    "L1BrendelBethgeAttack": "LinearSearchBlendedUniformNoiseAttack",
    "L2BrendelBethgeAttack": "LinearSearchBlendedUniformNoiseAttack",
    "LinfinityBrendelBethgeAttack": "LinearSearchBlendedUniformNoiseAttack",
    "PointwiseAttack": "SaltAndPepperNoiseAttack",
    "BinarizationRefinementAttack": "LinearSearchBlendedUniformNoiseAttack",
}
# Their loops or numpy draws depend on the other samples of the batch: these run one sample at a time.
_ONE_BY_ONE = frozenset(
    {
        "GenAttack",
        "HopSkipJumpAttack",
        "L0BrendelBethgeAttack",
        "L1BrendelBethgeAttack",
        "L2BrendelBethgeAttack",
        "LinfinityBrendelBethgeAttack",
        "PointwiseAttack",
        "SparseL1DescentAttack",
    }
)
# They return a black image for a sample without success, which may be misclassified by accident.
_BLACK_ON_FAILURE = frozenset({"L2CarliniWagnerAttack", "EADAttack"})
_DEFECTIVE = {"L2FMNAttack": "its projection does nothing, so that its distances are too large; use foolbox:DDNAttack"}


def adapt(name: str) -> FoolboxAttack:
    """Build the component ``foolbox:NAME``. Raises InputError for an unknown or unusable class."""
    return FoolboxAttack(name)


class FoolboxAttack:
    """A Foolbox class with the signature of an attack: `(model, x, y, *, norm, [epsilon], keys, options) -> x_adv`.

    `kind` is bounded or minimum_norm; `access` is gradient or scores; `version` names library and version.
    """

    def __init__(self, name: str) -> None:
        cls = getattr(library, name, None)
        bases = (FixedEpsilonAttack, MinimizationAttack)
        if not _is_attack(cls) or cls in bases:
            raise InputError(f"foolbox has no attack '{name}' with a norm", remedy=nearest(name, _names()))
        if name == "DatasetAttack":
            raise InputError(
                "foolbox:DatasetAttack uses other images of the data set, which an attack does not get",
                remedy="use foolbox:LinearSearchBlendedUniformNoiseAttack",
            )
        self.name, self.cls = cls.__name__, cls
        self.kind = "bounded" if issubclass(cls, FixedEpsilonAttack) else "minimum_norm"
        self.access = "scores" if any(part in self.name for part in FOOLBOX_WITHOUT_GRADIENT) else "gradient"
        self.version = f"foolbox {foolbox.__version__}"
        if self.name in _DEFECTIVE:
            warnings.warn(f"foolbox:{self.name}: {_DEFECTIVE[self.name]}", UserWarning, stacklevel=3)

    def __call__(
        self,
        model: AttackModel,
        x: Tensor,
        y: Tensor,
        *,
        norm: str,
        keys: Tensor,
        epsilon: float | None = None,
        restarts: int = 1,
        **options: Any,
    ) -> Tensor:
        """Run the Foolbox attack on x `(B, C, H, W)` in [0, 1]; the result has the shape of x.

        With `restarts` above one, bounded attacks continue with the samples that are still robust, and minimum-norm
        attacks keep the nearest result; in a transfer the sources decide. Raises InputError for options that the class
        refuses.
        """
        attack = self._build(options, norm)
        init_attack = self._build_init_attack(options)
        counted = _CountedModel(model)

        def run(rows: Tensor, restart: int) -> Tensor:
            results = []
            for part in rows.split(1) if self.name in _ONE_BY_ONE else [rows]:
                with model.subset(part):
                    start = x[part], y[part], keys[part]
                    results.append(self._run(attack, init_attack, counted, *start, epsilon, stream=f"{restart}"))
            return torch.cat(results)

        if restarts == 1:
            return run(torch.arange(len(x), device=x.device), 0)
        if self.kind == "bounded":
            return restart_bounded(model, x, y, run, restarts=restarts)
        return restart_nearest(model, x, y, run, restarts=restarts, norm=norm)

    def _run(
        self,
        attack: Any,
        init_attack: Any,
        counted: _CountedModel,
        x: Tensor,
        y: Tensor,
        keys: Tensor,
        epsilon: float | None,
        *,
        stream: str,
    ) -> Tensor:
        """Run once on one batch: starting points, then the attack, each phase with a stream of its own.

        The first phase may draw more often for one batch than for another, which must not shift the second's draws.
        """
        arguments: dict[str, Any] = {}
        x_adv, rows = x.clone(), torch.arange(len(x), device=x.device)
        alone = self.name in _ONE_BY_ONE
        with _without_warnings(), numpy_seeded(int(keys[0])) if alone else contextlib.nullcontext():
            if init_attack is not None:
                with PerSampleDraws(keys, x.shape[1:], stream=f"{stream}:start", alone=alone):
                    starts = init_attack.run(counted, x, Misclassification(y)).clamp(0.0, 1.0)
                rows = (counted(starts).argmax(1) != y).nonzero()[:, 0]
                if not len(rows):
                    return x_adv
                arguments["starting_points"] = astensor(starts[rows])
            if self.kind == "bounded":
                arguments["epsilon"] = epsilon
            inputs = x[rows]
            draws = PerSampleDraws(keys[rows], x.shape[1:], stream=f"{stream}:attack", alone=alone)
            with counted.model.subset(rows), draws:
                raw = attack.run(counted, inputs, self._criterion(counted, inputs, y[rows]), **arguments)
                if self.kind == "bounded":
                    raw = attack.distance.clip_perturbation(inputs, raw, epsilon)
        if self.name in _BLACK_ON_FAILURE:
            black = (raw == 0).flatten(1).all(1)
            raw = torch.where(per_sample(black, raw), inputs, raw)
        boxed = raw.clamp(0.0, 1.0)
        # Their projections end in the ball in exact arithmetic.
        projected = boxed if epsilon is None else Ball(inputs, epsilon, _norm_of(attack)).project(boxed)
        # Blending and projecting leave the box by a rounding error; anything more is a defect, left to the evaluator.
        x_adv[rows] = torch.where((raw - boxed).abs() <= 1e-6, projected, raw).to(x.dtype)
        return x_adv

    def _criterion(self, counted: _CountedModel, x: Tensor, y: Tensor) -> Any:
        """Return the untargeted criterion; for GenAttack, which is always targeted, the clean image's runner-up."""
        if self.name != "GenAttack":
            return Misclassification(y)
        return TargetedMisclassification(counted(x).scatter(1, y[:, None], -torch.inf).argmax(1))

    def _build(self, options: Mapping[str, Any], norm: str) -> Any:
        """Construct the Foolbox object from options in this package's vocabulary."""
        accepted = inspect.signature(self.cls).parameters
        arguments = {name: value for name, value in options.items() if name != "init_attack"}
        step_size = arguments.pop("step_size", None)
        if step_size is not None:
            foolbox_name = next((name for name in FOOLBOX_STEP_SIZES if name in accepted), None)
            if foolbox_name is None:
                raise InputError(f"foolbox:{self.name} has no step size")
            arguments[foolbox_name] = step_size
        if "abort_early" in accepted:
            # Foolbox aborts when the loss summed over the batch stalls: a sample's result would depend on the others.
            arguments["abort_early"] = False
        if "constraint" in accepted:
            arguments["constraint"] = norm
        if "distance" in accepted:
            arguments["distance"] = LpDistance(_ORDERS[norm])
        attack = _construct(self.cls, arguments)
        if not isinstance(attack, FlexibleDistanceMinimizationAttack) and attack.distance.p != _ORDERS[norm]:
            own_norm = _norm_of(attack)
            raise InputError(f"foolbox:{self.name} works in {own_norm}, not in {norm}", remedy=f"set norm: {own_norm}")
        return attack

    def _build_init_attack(self, options: Mapping[str, Any]) -> Any:
        """Construct the attack that finds starting points, or return None if the class needs none."""
        setting = options.get("init_attack")
        if setting is None:
            default = _STARTS.get(self.name)
            if default is None:
                return None
            arguments: dict[str, Any] = {"steps": 50} if default == "LinearSearchBlendedUniformNoiseAttack" else {}
            return _construct(getattr(library, default), arguments)
        arguments = {"name": setting} if isinstance(setting, str) else dict(setting)
        name = str(arguments.pop("name", "")).removeprefix("foolbox:")
        cls = getattr(library, name, None)
        if not (inspect.isclass(cls) and issubclass(cls, MinimizationAttack)):
            problem = f"init_attack: foolbox has no minimum-norm attack '{name}'"
            raise InputError(problem, remedy=nearest(name, _names()))
        return _construct(cls, arguments)


class _CountedModel(foolbox.models.base.Model):
    """The attack model behind Foolbox's model interface: every query is counted, on the model's device."""

    data_format = "channels_first"

    def __init__(self, model: AttackModel) -> None:
        self.model = model

    @property
    def bounds(self) -> foolbox.types.Bounds:
        return foolbox.types.Bounds(0.0, 1.0)

    def __call__(self, inputs: Any) -> Any:
        x, restore = astensor_(inputs)
        with torch.set_grad_enabled(x.raw.requires_grad):
            return restore(astensor(self.model(x.raw)))


def _is_attack(value: Any) -> TypeGuard[type]:
    return inspect.isclass(value) and issubclass(value, FixedEpsilonAttack | MinimizationAttack)


def _norm_of(attack: Any) -> str:
    return next(name for name, order in _ORDERS.items() if order == attack.distance.p)


def _names() -> list[str]:
    return [name for name in dir(library) if _is_attack(getattr(library, name))]


def _construct(cls: type, arguments: Mapping[str, Any]) -> Any:
    try:
        return cls(**arguments)
    except (TypeError, ValueError, NotImplementedError, AssertionError) as error:
        raise InputError(f"foolbox:{cls.__name__} refuses its options: {error}") from error
    except ImportError as error:
        raise InputError(f"foolbox:{cls.__name__} needs another package: {error}") from error


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    """Silence Foolbox's warnings about starting points: a sample without one counts as robust."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*failed to draw sufficient random.*")
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        yield
