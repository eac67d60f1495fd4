"""Model under test of the probes: a frozen copy, its samples, and the attacks that probes run on them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gauntlet.core.batch_size import BatchSize
from gauntlet.core.randomness import sample_keys
from gauntlet.learning.data.stored_images import UnitImages, hashes_of
from gauntlet.registry import Spec
from gauntlet.robustness.diagnostics.measurements import Measurement
from gauntlet.robustness.diagnostics.plain_pgd import Trace, View, plain_pgd
from gauntlet.robustness.evaluation import AttackSettings, evaluate
from gauntlet.robustness.judge import CellIdentity
from gauntlet.robustness.networks import InputFormat, frozen_copy, offered_surrogates, protect_inputs, usable_network
from gauntlet.robustness.random_networks import MeanNetwork


@dataclass
class ProbedModel:
    """A frozen copy of the model and the samples it is probed on; `index` are their positions in the split."""

    network: nn.Module
    x: Tensor
    y: Tensor
    index: list[int]
    keys: Tensor
    identity: CellIdentity
    memory: BatchSize

    @classmethod
    def build(
        cls,
        network: nn.Module,
        images: Tensor | UnitImages,
        labels: Tensor,
        index: list[int],
        *,
        identity: CellIdentity,
        device: torch.device,
        batch_size: int,
        draws: int = 1,
        formats: InputFormat | None = None,
    ) -> ProbedModel:
        """Copy the network, and samples `index` of images `(N, C, H, W)` and labels `(N,)`, to `device` in float32.

        With `draws` above one, the mean of a random network over this many addressed passes is probed. The network gets
        images in the judge's memory format, `formats`.
        """
        x, y = images[index], labels[index]
        frozen = frozen_copy(usable_network(network), device, torch.float32)
        probed = frozen if draws == 1 else MeanNetwork(frozen, draws=draws)
        protect_inputs(frozen, formats)
        keys = sample_keys(identity.seed, "probe", hashes_of(images, index), device=device)
        memory = BatchSize(batch_size, device)
        return cls(probed, x.to(device, torch.float32), y.to(device, torch.int64), index, keys, identity, memory)

    @property
    def surrogates(self) -> dict[str, View]:
        """The views that the model offers, apart from its own logits."""
        return {name: view for name, view in offered_surrogates(self.network).items() if name != "logits"}

    def measure_in_batches(self, measure: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, ...]]) -> list[Tensor]:
        """Call `measure(x, y, keys)` on batches, halved when memory runs out, and concatenate each of its results."""
        parts = self.memory.parts(len(self.x), lambda part: measure(self.x[part], self.y[part], self.keys[part]))
        return [torch.cat(results) for results in zip(*list(parts), strict=True)]

    def share(self, check: str, norm: str | None, selected: Tensor, evidence: str) -> Measurement:
        """Build the measurement of the share of samples for which `selected`, bool `(B,)`, is true."""
        indices = [self.index[row] for row in selected.nonzero()[:, 0].tolist()]
        return Measurement.share(check, norm, indices, len(self.y), evidence)

    def plain_pgd(self, norm: str, epsilon: float, steps: int, view: View | None = None) -> Trace:
        """Run plain PGD on all samples."""

        def attack(x: Tensor, y: Tensor, keys: Tensor) -> tuple[Tensor, ...]:
            trace = plain_pgd(self.network, x, y, norm=norm, epsilon=epsilon, steps=steps, keys=keys, view=view)
            return trace.margins.T, trace.fooled.T, trace.view_predictions, trace.predictions

        margins, fooled, view_predictions, predictions = self.measure_in_batches(attack)
        return Trace(margins.T, fooled.T, view_predictions, predictions)

    def pgd(self, norm: str, epsilon: float, rows: Tensor, *, steps: int, restarts: int = 1) -> Tensor:
        """Run Gauntlet's PGD on the samples selected by `rows`, bool `(B,)`; return which of them it fooled, `(B,)`.

        Raises InputError if the evaluator refuses the model, for example for want of a gradient.
        """
        return self._attacked(norm, (epsilon,), rows, {"steps": steps, "restarts": restarts}).isfinite()

    def smallest_budgets(self, norm: str, grid: Sequence[float], *, steps: int, loss: str) -> Tensor:
        """Run Gauntlet's PGD at each budget; return the smallest that fools each sample: float64 `(B,)`, else inf.

        Raises InputError as `pgd` does.
        """
        everything = torch.ones_like(self.y, dtype=torch.bool)
        return self._attacked(norm, tuple(grid), everything, {"steps": steps, "loss": loss})

    def _attacked(self, norm: str, epsilons: tuple[float, ...], rows: Tensor, options: dict[str, object]) -> Tensor:
        smallest = torch.full(rows.shape, torch.inf, dtype=torch.float64, device=rows.device)
        attacked = rows.nonzero()[:, 0]
        if not len(attacked):
            return smallest
        table = evaluate(
            self.network,
            self.x[attacked],
            self.y[attacked],
            AttackSettings("pgd", Spec("pgd", options), norm, epsilons),
            identity=self.identity,
            device=self.x.device,
            precision="float32",
            batch_size=self.memory.current,
            keep_examples=0,
            preflight=False,
        ).rows
        budgets = [
            epsilon if status == "adversarial" else math.inf
            for status, epsilon in zip(table["status"].to_pylist(), table["epsilon"].to_pylist(), strict=True)
        ]
        smallest[attacked] = torch.tensor(budgets, dtype=torch.float64, device=rows.device)
        return smallest
