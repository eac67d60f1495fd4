"""Results of one attack on each sample of a part, and their rows and examples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from gauntlet.core.geometry import distances
from gauntlet.core.schemas import EVALUATION_SCHEMA
from gauntlet.registry import ATTACKS
from gauntlet.robustness.attacks.base.query_counts import COUNTERS
from gauntlet.robustness.evaluation.examples import Examples, candidate_positions
from gauntlet.robustness.evaluation.types import AttackSettings
from gauntlet.robustness.judge import CellIdentity, logit_margin


class SampleResults:
    """Results for images `(B, C, H, W)` with labels `(B,)`, updated after each budget.

    `attacked`, bool `(B,)`, marks the images that are classified correctly. An image for which the model's outputs are
    not finite has no class: it is an error, whichever class `argmax` would pick.
    """

    def __init__(
        self, x: Tensor, y: Tensor, logits: Tensor, attack: AttackSettings, confidence_of: Callable[[Tensor], Tensor]
    ) -> None:
        self.x, self.y, self.attack, self.confidence_of = x, y, attack, confidence_of
        finite = logits.isfinite().all(1)
        self.clean_prediction = torch.where(finite, logits.argmax(1), -1)
        self.clean_confidence = confidence_of(logits)
        self.margin = logit_margin(logits, y)
        self.points = x.clone()
        self.prediction = self.clean_prediction.clone()
        self.confidence = self.clean_confidence.clone()
        self.epsilon = torch.full((len(x),), torch.nan, dtype=torch.float64, device=x.device)
        self.counts = {name: torch.zeros_like(y) for name in COUNTERS}
        self.attacked = self.clean_prediction == y
        wrong = finite & ~self.attacked
        self.epsilon[wrong] = 0.0
        self.status = np.where(wrong.cpu().numpy(), "already_wrong", "robust").astype(object)
        self.status[~finite.cpu().numpy()] = "error"
        self.reasons = dict.fromkeys(
            (~finite).nonzero()[:, 0].tolist(), "the model's outputs for the image itself are not finite"
        )
        # The images of an attack with access "none" are not perturbations: they need not keep the label.
        self.can_succeed = ATTACKS.entry(attack.spec.name).tags.get("access") != "none"

    def record(
        self,
        active: Tensor,
        points: Tensor,
        logits: Tensor,
        counts: Mapping[str, Tensor],
        invalid: Mapping[int, str],
        *,
        epsilon: float | None,
    ) -> tuple[Tensor, Tensor]:
        """Record what an attack returned at a budget for the samples `active`; return who held and who was fooled.

        `points` `(A, C, H, W)`, `logits` `(A, K)`, `counts`, the rows of `invalid` (row to reason) and the two results,
        bool `(A,)`, are in the order of `active` `(A,)`. A sample that held keeps what a larger budget recorded; a
        success or an invalid image replaces it.
        """
        for name, total in self.counts.items():
            total[active] += counts[name]
        fooled = (logits.argmax(1) != self.y[active]) & self.can_succeed
        robust = ~fooled
        rows = torch.tensor(sorted(invalid), dtype=torch.int64, device=active.device)
        fooled[rows] = robust[rows] = False
        undecided = torch.from_numpy(self.status[active.cpu().numpy()] == "robust").to(active.device)
        kept = ~robust | undecided
        self._store(active[kept], points[kept], logits[kept])
        size = distances(points - self.x[active])[self.attack.norm]
        self._set_fooled(active[fooled], size[fooled] if epsilon is None else size.new_full((), epsilon))
        self.prediction[active[rows]], self.confidence[active[rows]] = -1, torch.nan
        self.epsilon[active[rows]] = torch.nan
        self.status[active[rows].cpu().numpy()] = "error"
        self.reasons.update({int(active[row]): reason for row, reason in invalid.items()})
        return robust, fooled

    def record_point(
        self, samples: Tensor, points: Tensor, logits: Tensor, valid: Tensor, epsilon: Tensor, *, passes: int
    ) -> Tensor:
        """Record points other than those returned, of sizes `epsilon` `(A,)`, that fool; return which: bool `(A,)`.

        `points` `(A, C, H, W)`, `logits` `(A, K)` and `valid`, bool `(A,)`, are in the order of `samples` `(A,)`.
        `passes` is the number of forwards that each point cost.
        """
        self.counts["forwards"][samples] += passes
        fooled = valid & (logits.argmax(1) != self.y[samples])
        self._store(samples[fooled], points[fooled], logits[fooled])
        self._set_fooled(samples[fooled], epsilon[fooled])
        return fooled

    def errors(self, start: int) -> list[str]:
        """Return one line per sample with status error, whose indices begin at `start`."""
        return [f"sample {start + row}: {self.reasons[row]}" for row in (self.status == "error").nonzero()[0].tolist()]

    def _store(self, samples: Tensor, points: Tensor, logits: Tensor) -> None:
        self.points[samples], self.prediction[samples] = points, logits.argmax(1)
        self.confidence[samples] = self.confidence_of(logits)

    def _set_fooled(self, samples: Tensor, epsilon: Tensor) -> None:
        self.status[samples.cpu().numpy()] = "adversarial"
        self.epsilon[samples] = epsilon.to(self.epsilon.dtype)

    def finish(self, start: int, hashes: list[str], identity: CellIdentity, *, keep: int) -> tuple[pa.Table, Examples]:
        """Return rows of EVALUATION_SCHEMA, whose indices begin at `start`, and the candidates of `keep` examples."""
        sizes = {name: size.cpu().numpy() for name, size in distances(self.points - self.x).items()}
        count = len(hashes)
        epsilon = self.epsilon.cpu().numpy()
        if self.attack.epsilons is None:
            # Measured once more on the stored points, so that epsilon is the distance in the same row, to the last bit.
            epsilon = np.where(self.status == "adversarial", sizes[self.attack.norm], epsilon)
        columns: dict[str, Any] = {
            "experiment": [identity.experiment] * count,
            "variant": [identity.variant] * count,
            "seed": np.full(count, identity.seed),
            "attack": [self.attack.name] * count,
            "norm": [self.attack.norm] * count,
            "index": np.arange(start, start + count),
            "label": self.y.cpu().numpy(),
            "clean_prediction": self.clean_prediction.cpu().numpy(),
            "adversarial_prediction": self.prediction.cpu().numpy(),
            "epsilon": epsilon,
            **sizes,
            "clean_confidence": self.clean_confidence.cpu().numpy(),
            "adversarial_confidence": self.confidence.cpu().numpy(),
            **{name: total.cpu().numpy() for name, total in self.counts.items()},
            "status": list(self.status),
            "sample_hash": hashes,
        }
        never_fooled = {"epsilon": np.isnan(columns["epsilon"])}
        arrays = [
            pa.array(columns[field.name], mask=never_fooled.get(field.name)).cast(field.type, safe=False)
            for field in EVALUATION_SCHEMA
        ]
        return pa.Table.from_arrays(arrays, schema=EVALUATION_SCHEMA), self._examples(columns, keep)

    def _examples(self, columns: Mapping[str, Any], keep: int) -> Examples:
        """Return the fooled samples that may be kept; `columns` hold one value per sample of the part."""
        fooled = (self.status == "adversarial").nonzero()[0]
        distance = columns[self.attack.norm][fooled]
        described = {
            "index": columns["index"][fooled],
            "label": columns["label"][fooled].astype(np.int32),
            "clean_prediction": columns["clean_prediction"][fooled].astype(np.int32),
            "adversarial_prediction": columns["adversarial_prediction"][fooled].astype(np.int32),
            "epsilon": columns["epsilon"][fooled],
            "distance": distance,
            "ratio": (self.margin.cpu().numpy()[fooled] / np.maximum(distance, 1e-12)).astype(np.float32),
        }
        chosen = candidate_positions(described, keep)
        if not keep:
            return {}
        rows = torch.from_numpy(fooled[chosen]).to(self.x.device)
        images = {"original": self.x[rows], "adversarial": self.points[rows]}
        return {
            **{name: values[chosen] for name, values in described.items()},
            **{name: pixels.to(torch.float32).cpu().numpy() for name, pixels in images.items()},
        }
