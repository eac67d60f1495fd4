"""Every attack of Foolbox behind our call shape, as ``foolbox:NAME`` with that class's own options.

Rauber et al. 2017, arXiv:1707.04131; 2020, JOSS 5(53) 2607. What is translated: `step_size` to whatever the class calls
it, `norm` to its distance, draws to per-sample draws. What is repaired: a failed starting point concerns its own
sample only; nothing stops, or goes on, because of another sample of the batch.
"""

from __future__ import annotations

import contextlib
import inspect
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from eagerpy.astensor import astensor, astensor_
from torch import Tensor

from gauntlet.core.errors import InputError, nearest
from gauntlet.core.geometry import distances
from gauntlet.registry.foolbox import FOOLBOX_STEP_SIZES, FOOLBOX_WITHOUT_GRADIENT
from gauntlet.robustness.attacks.adapters.per_sample_draws import PerSampleDraws, numpy_seeded
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
# Needs a starting point per sample; the class to get it from where none is configured.
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
# Loops or draws (numpy's) depend on which samples share the batch: these run one sample at a time.
_ALONE = frozenset(
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
# Their result for a sample that they could not fool is a black image, which may fool the model by accident.
_BLACK_WHERE_NOT_FOUND = frozenset({"L2CarliniWagnerAttack", "EADAttack"})
_DEFECTIVE = {"L2FMNAttack": "its projection does nothing, so that its distances are too large; use foolbox:DDNAttack"}


def adapt(name: str) -> FoolboxAttack:
    """Make the component for ``foolbox:NAME``. Raises InputError for an unknown or unusable class."""
    return FoolboxAttack(name)


class FoolboxAttack:
    """A Foolbox class as an attack of ours: callable `(model, x, y, *, norm, [epsilon], keys, options) -> x_adv`.

    `kind` is bounded or minimum_norm; `access` is gradient or scores; `version` names library and version.
    """

    def __init__(self, name: str) -> None:
        cls = getattr(library, name, None)
        kinds = (FixedEpsilonAttack, MinimizationAttack)
        if not (inspect.isclass(cls) and issubclass(cls, kinds)) or cls in kinds:
            known = [other for other in dir(library) if _is_attack(getattr(library, other))]
            raise InputError(f"foolbox has no attack '{name}' with a norm", remedy=nearest(name, known))
        if name == "DatasetAttack":
            raise InputError(
                "foolbox:DatasetAttack draws from other images, which an attack here does not see",
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

        With `restarts` above one, bounded attacks go on with what still holds, minimum-norm ones keep the nearest.
        Raises InputError for options the class refuses.
        """
        attack = self._build(options, norm)
        start = self._start(options)
        viewed = _Counted(model)
        best = x.clone()
        nearest_found = torch.full((len(x),), torch.inf, dtype=torch.float64, device=x.device)
        left = torch.arange(len(x), device=x.device)
        for restart in range(restarts):
            for rows in left.split(1) if self.name in _ALONE else [left]:
                with model.rows(rows):
                    found = self._run(attack, start, viewed, x[rows], y[rows], keys[rows], epsilon, stream=f"{restart}")
                    if restart == restarts - 1 == 0:
                        best[rows] = found
                        continue
                    fooled = model.confirm(found, y[rows])
                size = (
                    distances(found - x[rows])[norm]
                    if self.kind == "minimum_norm"
                    else torch.zeros_like(nearest_found[rows])
                )
                better = (fooled & (size < nearest_found[rows])) | (nearest_found[rows].isinf() & ~fooled)
                best[rows[better]] = found[better]
                nearest_found[rows[fooled & better]] = size[fooled & better]
            if self.kind == "bounded" and restart < restarts - 1:
                left = nearest_found.isinf().nonzero()[:, 0]
                if not len(left):
                    break
        return best

    def _run(
        self,
        attack: Any,
        start: Any,
        viewed: _Counted,
        x: Tensor,
        y: Tensor,
        keys: Tensor,
        epsilon: float | None,
        *,
        stream: str,
    ) -> Tensor:
        """Run once, on one batch, in two phases with streams of their own: starting points, then the attack.

        The first phase may draw more often for one batch than for another, which must not shift the second's draws.
        """
        arguments: dict[str, Any] = {}
        result, rows = x.clone(), torch.arange(len(x), device=x.device)
        outer = viewed.model.current_rows
        alone = self.name in _ALONE
        with _quiet(), numpy_seeded(int(keys[0])) if alone else contextlib.nullcontext():
            if start is not None:
                with PerSampleDraws(keys, x.shape[1:], stream=f"{stream}:start", alone=alone):
                    points = start.run(viewed, x, Misclassification(y)).clamp(0.0, 1.0)
                rows = (viewed(points).argmax(1) != y).nonzero()[:, 0]
                if not len(rows):
                    return result
                arguments["starting_points"] = astensor(points[rows])
            if self.kind == "bounded":
                arguments["epsilon"] = epsilon
            inputs = x[rows]
            draws = PerSampleDraws(keys[rows], x.shape[1:], stream=f"{stream}:attack", alone=alone)
            with viewed.model.rows(outer[rows]), draws:
                raw = attack.run(viewed, inputs, self._criterion(viewed, inputs, y[rows]), **arguments)
                if self.kind == "bounded":
                    raw = attack.distance.clip_perturbation(inputs, raw, epsilon)
        if self.name in _BLACK_WHERE_NOT_FOUND:
            lost = (raw == 0).flatten(1).all(1)
            raw = torch.where(lost.view(-1, *[1] * (raw.ndim - 1)), inputs, raw)
        boxed = raw.clamp(0.0, 1.0)
        # Blending and projecting leave the box by a rounding error; anything more is the attack's fault and is judged.
        result[rows] = torch.where((raw - boxed).abs() <= 1e-6, boxed, raw).to(x.dtype)
        return result

    def _criterion(self, viewed: _Counted, x: Tensor, y: Tensor) -> Any:
        """Aim away from the label; an attack that only knows targets aims at the clean image's runner-up."""
        if self.name != "GenAttack":
            return Misclassification(y)
        return TargetedMisclassification(viewed(x).scatter(1, y[:, None], -torch.inf).argmax(1))

    def _build(self, options: Mapping[str, Any], norm: str) -> Any:
        """Construct the Foolbox object, in our vocabulary."""
        accepted = inspect.signature(self.cls.__init__).parameters
        given = {name: value for name, value in options.items() if name != "init_attack"}
        step_size = given.pop("step_size", None)
        if step_size is not None:
            own = next((name for name in FOOLBOX_STEP_SIZES if name in accepted), None)
            if own is None:
                raise InputError(f"foolbox:{self.name} has no step size")
            given[own] = step_size
        if "abort_early" in accepted:
            # Foolbox aborts when the loss summed over the batch stalls: a sample's result would depend on the others.
            given["abort_early"] = False
        if "constraint" in accepted:
            given["constraint"] = norm
        if "distance" in accepted:
            given["distance"] = LpDistance(_ORDERS[norm])
        attack = _construct(self.cls, given)
        if not isinstance(attack, FlexibleDistanceMinimizationAttack) and attack.distance.p != _ORDERS[norm]:
            own_norm = next(name for name, order in _ORDERS.items() if order == attack.distance.p)
            raise InputError(f"foolbox:{self.name} works in {own_norm}, not in {norm}", remedy=f"set norm: {own_norm}")
        return attack

    def _start(self, options: Mapping[str, Any]) -> Any:
        """Construct the attack that finds starting points, or None where none is needed."""
        chosen = options.get("init_attack")
        if chosen is None:
            default = _STARTS.get(self.name)
            if default is None:
                return None
            few = {"steps": 50} if default == "LinearSearchBlendedUniformNoiseAttack" else {}
            return _construct(getattr(library, default), few)
        named = {"name": chosen} if isinstance(chosen, str) else dict(chosen)
        name = str(named.pop("name", "")).removeprefix("foolbox:")
        cls = getattr(library, name, None)
        if not (inspect.isclass(cls) and issubclass(cls, MinimizationAttack)):
            known = [other for other in dir(library) if _is_attack(getattr(library, other))]
            raise InputError(f"init_attack: foolbox has no minimum-norm attack '{name}'", remedy=nearest(name, known))
        return _construct(cls, named)


class _Counted(foolbox.models.base.Model):
    """Our model in Foolbox's clothes: every query goes through the attack model, on its device."""

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


def _is_attack(value: Any) -> bool:
    return inspect.isclass(value) and issubclass(value, FixedEpsilonAttack | MinimizationAttack)


def _construct(cls: type, options: Mapping[str, Any]) -> Any:
    try:
        return cls(**options)
    except (TypeError, ValueError, NotImplementedError, AssertionError) as error:
        raise InputError(f"foolbox:{cls.__name__} refuses its options: {error}") from error
    except ImportError as error:
        raise InputError(f"foolbox:{cls.__name__} needs another package: {error}") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence what Foolbox says about starting points: here a failed one is a sample that holds."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*failed to draw sufficient random.*")
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        yield
